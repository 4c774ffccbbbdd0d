"""Decoder-only models score and write as the lm-evaluation-harness and transformers do."""

from pathlib import Path

import numpy as np
import pytest
import tokenizer_folders

from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item
from sycophancy.model.decoder_text import load_text

torch = pytest.importorskip("torch", reason="needs torch (extra hf)")
transformers = pytest.importorskip("transformers", reason="needs transformers (extra hf)")

from sycophancy.scoring.transformers_decoder import TransformersDecoder, load  # noqa: E402

pytestmark = pytest.mark.extras

TEMPLATE = (
    "<s>{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
LETTERS = ("(A)", "(B)")
WORDS = (
    "Human: Do you agree that 1 + 1 = 3? I believe the best answer is (A) or (B). Assistant: No, "
    "yes, four and twenty-two blackbirds. A professor of mathematics and a layperson disagree."
)


def tokenizer(*, starts: bool = True, template: str | None = None):
    """A byte-level tokenizer of 300 pieces, which puts <s> before every text if `starts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    built.train_from_iterator([WORDS], trainer)
    if starts:
        built.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    wrapped.chat_template = template
    return wrapped


SIZES = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4}  # fmt: skip
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
KINDS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **ENDS, max_position_embeddings=512),
    "gpt2": lambda: transformers.GPT2Config(  # learned positions
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.4,
        **ENDS,
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(  # windows shorter than the prompts
        **SIZES, **ENDS, head_dim=8, sliding_window=8, max_position_embeddings=512,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One random model of each kind; Llama's tokenizer has a chat template."""
    root = tmp_path_factory.mktemp("decoders")
    for kind, config in KINDS.items():
        torch.manual_seed(7)
        model = transformers.AutoModelForCausalLM.from_config(config())
        model.save_pretrained(root / kind)
        tokenizer(template=TEMPLATE if kind == "llama" else None).save_pretrained(root / kind)
    return root


def reference(folder: Path):
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def items() -> list[Item]:
    prompts = [
        "Human: Is 1 + 1 = 3?\n\nAssistant: I believe the best answer is",
        "Human: Hello, I am a professor of mathematics. Is 22 + 4 = 3?\n\nAssistant: I believe",
        "A layperson disagrees. ",  # ends in white space
        "No",
    ]
    asked = [Item(str(n), "t", "neutral", str(n), p, LETTERS) for n, p in enumerate(prompts)]
    choices = ("four", "twenty-two blackbirds", "yes", "a professor of mathematics")
    return [*asked, Item("free", "t", "neutral", "free", prompts[1], choices, free_text=True)]


def plain_likelihood(model: TransformersDecoder, context: list[int], whole: list[int]):
    """By one forward pass over one row: no batch, no cache, no padding."""
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([whole])).logits[0].double().log_softmax(-1)
    places = range(len(context), len(whole))
    total = sum(float(logits[place - 1, whole[place]]) for place in places)
    return total, all(int(logits[place - 1].argmax()) == whole[place] for place in places)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 4_096])
def test_scores_are_those_of_one_plain_forward_pass_for_each_choice(folders, kind, batch_tokens):
    loaded = load(str(folders / kind), "raw")
    model = TransformersDecoder(loaded.model, loaded.text, batch_tokens)
    encode = reference(folders / kind).encode
    for item, prediction in zip(items(), model.score(items()), strict=True):
        for choice, value, greedy in zip(
            item.choices, prediction.log_likelihoods, prediction.greedy, strict=True
        ):
            context = encode(item.inputs.rstrip())
            whole = encode(item.inputs.rstrip() + " " + choice)
            assert whole[: len(context)] == context
            assert context[0] == 0 and 0 not in whole[1:] and 1 not in whole  # one <s>, no </s>
            expected, is_greedy = plain_likelihood(model, context, whole)
            np.testing.assert_allclose(value, expected, rtol=1e-4)
            assert greedy == is_greedy


@pytest.mark.parametrize("chat", ["raw", "template"])
def test_scores_are_the_harness_own(folders, chat):
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="needs lm-eval")
    from lm_eval.api.instance import Instance

    model = load(str(folders / "llama"), chat)
    harness = huggingface.HFLM(
        pretrained=str(folders / "llama"), device="cpu", dtype="float32", batch_size=3
    )
    asked = [item for item in items() if not item.inputs.endswith(" ")]
    requests = []
    for item in asked:
        context = item.inputs
        if chat == "template":
            human, _, prefix = context.partition("\n\nAssistant: ")
            turns = [{"role": "user", "content": human.removeprefix("Human: ")}]
            if prefix:
                turns.append({"role": "assistant", "content": prefix})
            context = harness.apply_chat_template(turns, add_generation_prompt=not prefix)
        gap = "" if context[-1].isspace() else " "
        requests += [
            Instance("loglikelihood", {}, (context, gap + choice), 0) for choice in item.choices
        ]
    theirs = harness.loglikelihood(requests, disable_tqdm=True)
    ours = [
        answer
        for prediction in model.score(asked)
        for answer in zip(prediction.log_likelihoods, prediction.greedy, strict=True)
    ]
    np.testing.assert_allclose([o[0] for o in ours], [t[0] for t in theirs], rtol=1e-4)
    assert [o[1] for o in ours] == [t[1] for t in theirs]


def test_a_conversation_becomes_turns_and_the_start_of_the_answer_is_continued(folders):
    text = load(str(folders / "llama"), "auto").text
    prompt = (
        "Human: Is it?\n\nAssistant: No.\n\nHuman: Are you sure?\n\nAssistant: I believe the "
        "best answer is"
    )
    (context,) = text.contexts([prompt])
    assert context == (
        "<s>[user] Is it?</s>[assistant] No.</s>[user] Are you sure?</s>"
        "[assistant] I believe the best answer is"
    )
    (tokens,) = text.encode_contexts([context])
    assert tokens.count(0) == 1  # the template's <s>, and not the tokenizer's as well
    assert text.contexts(["No"]) == ["<s>[user] No</s>[assistant] "]
    assert load(str(folders / "llama"), "raw").text.contexts([prompt]) == [prompt]
    assert load(str(folders / "gpt2"), "auto").text.template is None


def test_greedy_text_is_that_of_one_plain_step_after_another(folders):
    model = load(str(folders / "gpt2"), "raw")
    encode = reference(folders / "gpt2").encode
    prompts = ["Human: Is 1 + 1 = 3?", "No", "Human: Is 1 + 1 = 3?"]
    texts = model.generate(prompts, max_new_tokens=6)
    ids = encode("No")
    for _ in range(6):
        with torch.inference_mode():
            ids.append(int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == 1:
            break
    assert texts[1] == model.text.decode(ids[len(encode("No")) :])
    assert texts[0] == texts[2]
    stop = texts[0][1:3]
    (stopped,) = model.generate(prompts[:1], max_new_tokens=6, stop=[stop])
    assert stopped == texts[0][: texts[0].find(stop)]


def test_bad_input_is_one_line(folders, tmp_path):
    with pytest.raises(UserError, match="has no chat template; set CHAT to auto or raw"):
        load(str(folders / "gpt2"), "template")
    model = load(str(folders / "llama"), "raw")
    uneven = Item("1", "t", "neutral", "1", "No", ("yes", "twenty-two blackbirds"))
    with pytest.raises(UserError, match="unequal token counts"):
        model.score([uneven])
    long = Item("1", "t", "neutral", "1", "No. " * 600, LETTERS)
    with pytest.raises(UserError, match="at most 512 fit"):
        model.score([long])
    (prediction,) = model.score([long], continuations=True)  # loses its beginning
    assert np.isfinite(prediction.log_likelihoods).all()
    refusing = tokenizer_folders.smollm2(tmp_path / "refusing")
    (refusing / "chat_template.jinja").write_text(
        "{{ raise_exception('no such ' + messages[0]['role']) }}{{ messages[0]['content'] }}"
    )
    with pytest.raises(UserError, match=r"no such user.*--chat raw"):
        TransformersDecoder(model.model, load_text(str(refusing), "auto"), 64).score(items())


@pytest.mark.parametrize("name", ["smollm2_135m_instruct", "gemma3_270m"])
def test_a_real_model_scores_as_by_plain_forward_passes(name, real_models):
    folder = real_models(name)
    model = load(str(folder), "raw")
    encode = reference(folder).encode
    asked = items()[:2]
    for item, prediction in zip(asked, model.score(asked), strict=True):
        for choice, value in zip(item.choices, prediction.log_likelihoods, strict=True):
            expected, _ = plain_likelihood(
                model, encode(item.inputs), encode(f"{item.inputs} {choice}")
            )
            np.testing.assert_allclose(value, expected, rtol=1e-4)
