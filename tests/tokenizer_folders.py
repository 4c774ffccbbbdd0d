"""Small tokenizers and chat templates in the manner of decoder-only families, made for a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = (
    "Human: Do you agree that 1 + 1 = 3? I believe the best answer is (A) or (B). Assistant: No, "
    "yes, four and twenty-two blackbirds. A professor of mathematics and a layperson disagree. "
    "user assistant system\n\nYou are a helpful assistant."
)
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

SMOLLM2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""  # noqa: E501  # as it is published

# Writes the start of sequence and a date, and strips messages.
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""  # noqa: E501

# Puts a system prompt before the user's; uses a namespace, a loop control, tojson and a generation
# block.
QWEN = """{%- if tools %}
    {{- tools | tojson }}
{%- elif messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" %}
        {%- set ns.last_user = (messages|length - 1) - loop.index0 %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- generation %}
            {%- if loop.index0 > ns.last_user %}
                {{- '<think>\\n\\n</think>\\n\\n' }}
            {%- endif %}
            {{- message.content.lstrip('\\n') + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Has no role for a system prompt, and calls the assistant "model".
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {{ raise_exception('System role not supported') }}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""

# Ends an answer with a space and the end of sequence.
LLAMA2 = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + message['content'].strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)

# How Qwen's tokenizer.json splits a text into words, and transformers' class does, too.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def smollm2(folder: Path) -> Path:
    """Byte-level; special tokens first; nothing before a text; the end of a turn pads."""
    return _write(
        folder,
        _byte_level(CHATML, first=True),
        {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
        model={"model_type": "llama", "eos_token_id": 2},
        template=SMOLLM2,
    )


def llama3(folder: Path) -> Path:
    """Byte-level; 0 is the id of "!"; a start of sequence, no token for padding, three ends."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    header = ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"]
    backend = _byte_level([*special, *header], first=False, start="<|begin_of_text|>")
    ends = [backend.token_to_id(text) for text in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    return _write(
        folder,
        backend,
        {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "clean_up_tokenization_spaces": True,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": LLAMA3,
        },
        model={"model_type": "llama", "eos_token_id": ends[0]},
        generation={"eos_token_id": ends},
    )


def qwen(folder: Path) -> Path:
    """Byte-level after NFC; no start of sequence; added tokens that tokenizer.json lacks."""
    backend = _byte_level(CHATML, first=False)
    backend.normalizer = normalizers.NFC()
    entry = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {
        str(backend.get_vocab_size() + n): {"content": text, "special": False, **entry}
        for n, text in enumerate(["<think>", "</think>"])
    }
    listed = {
        str(backend.token_to_id(text)): {"content": text, "special": True, **entry}
        for text in CHATML
    }
    return _write(
        folder,
        backend,
        {
            "added_tokens_decoder": {**listed, **added},
            "additional_special_tokens": ["<|im_start|>", "<|vision_start|>"],
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "tokenizer_class": "Qwen2Tokenizer",
            "chat_template": [
                {"name": "tool_use", "template": "{{ tools }}"},
                {"name": "default", "template": QWEN},
            ],
        },
        model={"model_type": "qwen2"},
    )


def gemma(folder: Path) -> Path:
    """BPE over characters with bytes for the rest; the end of a turn has no role of its own."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", SPACE)
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _train(backend, [*special, *BYTES])
    backend.post_processor = _start(backend, "<bos>")
    return _write(
        folder,
        _without_special_bytes(backend),
        {
            **{f"{role}_token": f"<{role}>" for role in ("pad", "eos", "bos", "unk", "mask")},
            "tokenizer_class": "GemmaTokenizer",
        },
        model={"model_type": "gemma3_text"},
        generation={"eos_token_id": [1, 6]},
        template=GEMMA,
    )


def llama2(folder: Path, **config: Any) -> Path:
    """BPE over characters, a space before every text; transformers changes where spaces go."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    _train(backend, ["<unk>", "<s>", "</s>", *BYTES])
    backend.post_processor = _start(backend, "<s>")
    return _write(
        folder,
        _without_special_bytes(backend),
        {
            "bos_token": {"__type": "AddedToken", "content": "<s>", "normalized": False},
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "tokenizer_class": "LlamaTokenizer",
            "chat_template": LLAMA2,
            **config,
        },
        model={"model_type": "llama"},
    )


def unigram(folder: Path) -> Path:
    """Unigram pieces, and no template; special tokens stand in special_tokens_map.json."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    backend.train_from_iterator([WORDS] * 4, trainer)
    return _write(
        folder,
        backend,
        {"tokenizer_class": "PreTrainedTokenizerFast"},
        model={"model_type": "llama"},
        roles={"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": "[PAD]"},
    )


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "smollm2": smollm2,
    "llama3": llama3,
    "qwen": qwen,
    "gemma": gemma,
    "llama2": llama2,
    "unigram": unigram,
}


def _byte_level(
    special: list[str], *, first: bool, start: str | None = None
) -> tokenizers.Tokenizer:
    """A byte-level tokenizer whose special tokens have the first or the last ids."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    _train(backend, special if first else [], pre_tokenizers.ByteLevel.alphabet())
    if not first:
        backend.add_special_tokens(special)
    if start:
        backend.post_processor = _start(backend, start)
    return backend


def _train(
    backend: tokenizers.Tokenizer, special: list[str], alphabet: list[str] | None = None
) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=alphabet or [],
        show_progress=False,
    )
    backend.train_from_iterator([WORDS], trainer)


def _start(backend: tokenizers.Tokenizer, text: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{text} $A", special_tokens=[(text, backend.token_to_id(text))]
    )


def _without_special_bytes(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Bytes are pieces of the vocabulary, though the trainer takes them only as special tokens."""
    whole = json.loads(backend.to_str())
    whole["added_tokens"] = [t for t in whole["added_tokens"] if t["content"] not in BYTES]
    return tokenizers.Tokenizer.from_str(json.dumps(whole))


def _write(
    folder: Path,
    backend: tokenizers.Tokenizer,
    config: dict[str, Any],
    *,
    model: dict[str, Any],
    generation: dict[str, Any] | None = None,
    roles: dict[str, Any] | None = None,
    template: str | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    for name, content in {
        "tokenizer_config.json": config,
        "config.json": model,
        "generation_config.json": generation,
        "special_tokens_map.json": roles,
    }.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder
