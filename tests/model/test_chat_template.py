"""Chat templates are filled as transformers fills them."""

import json
from pathlib import Path

import pytest
import tokenizer_folders

from sycophancy.errors import UserError
from sycophancy.model.chat_template import TODAY, load_template
from sycophancy.model.tokenizer import load_tokenizer

FAMILIES = ("smollm2", "llama3", "qwen", "gemma", "llama2")
USER = {"role": "user", "content": "  Is 1 + 1 = 3?\n <|im_end|> {{ x }} "}
ANSWER = {"role": "assistant", "content": " No.\n"}
PREFIX = {"role": "assistant", "content": "I believe the best answer is"}
SPACED = {"role": "assistant", "content": "I believe "}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("templates")
    return {name: tokenizer_folders.FAMILIES[name](root / name) for name in FAMILIES}


def template(folder: Path):
    return load_template(folder, load_tokenizer(str(folder)).special_tokens)


@pytest.mark.extras
@pytest.mark.parametrize("name", FAMILIES)
def test_texts_are_those_of_transformers(folders, name):
    transformers = pytest.importorskip("transformers", reason="needs transformers (extra hf)")
    theirs = transformers.AutoTokenizer.from_pretrained(folders[name], local_files_only=True)
    ours = template(folders[name])
    today = {"date_string": TODAY.strftime("%d %b %Y")}
    compared = 0
    for turns in ([USER], [USER, ANSWER, USER], [SYSTEM, USER], [USER, ANSWER]):
        for prefix in (None, PREFIX, SPACED):
            messages = [*turns, *([prefix] if prefix else [])]
            try:
                expected = theirs.apply_chat_template(
                    messages,
                    tokenize=False,
                    continue_final_message=bool(prefix),
                    add_generation_prompt=not prefix,
                    **today,
                )
            except Exception as error:
                with pytest.raises(type(error)):
                    ours.render(messages, continues=bool(prefix))
                continue
            assert ours.render(messages, continues=bool(prefix)) == expected
            compared += 1
    assert compared >= 6  # Gemma's refuses a system prompt and two answers in a row


def test_a_template_that_knows_the_date_gives_the_same_text_every_day(folders):
    assert "Today Date: 26 Jul 2024" in template(folders["llama3"]).render([USER])


def test_what_ends_an_answer_is_what_the_template_writes_after_it(folders):
    endings = {name: template(folder).closing() for name, folder in folders.items()}
    assert endings == {
        "smollm2": "<|im_end|>\n",
        "llama3": "<|eot_id|>",
        "qwen": "<|im_end|>\n",
        "gemma": "<end_of_turn>\n",
        "llama2": " </s>",
    }


def test_a_folder_may_have_no_template_or_several(tmp_path):
    folder = tokenizer_folders.unigram(tmp_path / "model")
    assert template(folder) is None

    def config(**values):
        (folder / "tokenizer_config.json").write_text(json.dumps(values))
        return lambda: template(folder)

    several = [{"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"}]
    with pytest.raises(UserError, match=r"rag, tool_use, but none is called default; .* raw"):
        config(chat_template=several)()
    found = config(chat_template=[*several, {"name": "default", "template": "d"}])()
    assert found.render([USER]) == "d"
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'][2:4] }}")
    assert template(folder).render([USER]) == "Is"  # a file of its own comes first


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", r"chat_template\.jinja: the chat template cannot be compiled"),
        ("{% include 'x' %}{% endfor %}", "cannot be compiled"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_damaged_template_is_one_line(tmp_path, source, message):
    folder = tokenizer_folders.smollm2(tmp_path / "model")
    data = source if isinstance(source, bytes) else source.encode()
    (folder / "chat_template.jinja").write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        template(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ strftime_now.__self__.year }}",
        "{{ raise_exception.__globals__.os }}",
        "{% include '/etc/hostname' %}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(tmp_path, source):
    folder = tokenizer_folders.smollm2(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(source)
    with pytest.raises(Exception, match=r"unsafe|not safe|no loader|too big"):
        template(folder).render([USER])
