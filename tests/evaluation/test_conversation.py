"""Conversations become one text and come back; the project's own prompts have the same form."""

from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sycophancy.config.schema import DataConfig
from sycophancy.data.prepare import prepare
from sycophancy.data.survey_files import load_surveys
from sycophancy.errors import UserError
from sycophancy.evaluation.conversation import Conversation, Turn, parse, render
from sycophancy.evaluation.items import read_items

PREFIX = "I believe the best answer is"

# Texts that come close to markers: parts of them, at both ends.
pieces = st.sampled_from(["Human", "Assistant", ":", " ", "\n", "\n\n", "a", "Human: ", "é"])
texts = st.lists(pieces, max_size=8).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[tuple[Turn, ...], str]:
    said = draw(st.lists(texts, min_size=1, max_size=5))
    roles = [("user", "assistant")[place % 2] for place in range(len(said))]
    return tuple(Turn(*turn) for turn in zip(roles, said, strict=True)), draw(texts)


@given(conversations())
def test_parse_gives_back_every_conversation_that_can_be_rendered(conversation) -> None:
    turns, prefix = conversation
    alltexts = [*(turn.text for turn in turns), prefix]
    try:
        text = render(turns, prefix)
    except UserError:
        assert (
            len(turns) % 2 == 0
            or not all(alltexts[:-1])
            or any(f"\n\n{name}:" in text for text in alltexts for name in ("Human", "Assistant"))
        )
        return
    assert parse(text) == Conversation(turns, prefix)


@given(texts, st.booleans())
def test_a_text_that_parses_renders_as_it_was(text: str, begins: bool) -> None:
    inputs = f"Human: {text}" if begins else text
    found = parse(inputs)
    if found == Conversation((Turn("user", inputs),)):
        return  # not in the form, or nothing to do
    assert render(found.turns, found.prefix) == inputs.removesuffix("Assistant: ") + (
        "Assistant:" if inputs.endswith("Assistant: ") else ""
    )


def test_several_turns_as_one_text() -> None:
    turns = (
        Turn("user", "Is 1 + 1 = 3?"),
        Turn("assistant", "No."),
        Turn("user", "Are you sure?"),
    )
    text = (
        "Human: Is 1 + 1 = 3?\n\nAssistant: No.\n\nHuman: Are you sure?\n\nAssistant: I believe it"
    )
    assert render(turns, "I believe it") == text
    assert parse(text) == Conversation(turns, "I believe it")
    assert render(turns).endswith("\n\nAssistant:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Is 1 + 1 = 2?",
        "Human: Is 1 + 1 = 2?",
        "Human: a\n\nHuman: b\n\nAssistant:",
        "Assistant: a\n\nHuman: b\n\nAssistant:",
        "Human: a\n\nAssistant: b\n\nHuman: c",
        "Human:a\n\nAssistant: b",
        "Human: a\n\nAssistant:b",
        "Human: \n\nAssistant: b",
        "Human:\n\nAssistant:",
        "\n\nHuman: a\n\nAssistant: b",
        "Q\n\nHuman: a\n\nAssistant: b",
        "human: a\n\nassistant: b",
    ],
)
def test_a_text_in_another_form_is_one_turn(text: str) -> None:
    assert parse(text) == Conversation((Turn("user", text),))


def test_a_space_alone_begins_no_answer() -> None:
    assert parse("Human: a\n\nAssistant: ") == parse("Human: a\n\nAssistant:")


@pytest.mark.parametrize(
    ("turns", "prefix", "reason"),
    [
        ([], "", "the last turn is not the user's"),
        ([Turn("user", "a"), Turn("assistant", "b")], "", "the last turn is not the user's"),
        ([Turn("assistant", "a")], "", "alternately"),
        ([Turn("user", "a"), Turn("user", "b")], "", "alternately"),
        ([Turn("user", "")], "", "empty"),
        ([Turn("user", "a\n\nAssistant: b")], "", "'Human:' or 'Assistant:'"),
        ([Turn("user", "a")], "b\n\nHuman: c", "'Human:' or 'Assistant:'"),
    ],
)
def test_what_cannot_be_rendered_is_refused(turns: list[Turn], prefix: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        render(turns, prefix)


def test_every_prompt_that_is_prepared_is_a_turn_and_a_prefix(tmp_path: Path) -> None:
    config = DataConfig(num_examples=500, num_instructions=20, num_validation=20)
    prepare(config, tmp_path)
    counts: Counter[str] = Counter()
    turns: dict[str, set[int]] = defaultdict(set)
    for path in sorted((tmp_path / "evaluation").iterdir()):
        for item in read_items(path):
            counts[item.task] += 1
            said = parse(item.inputs)
            if item.task == "instruction":
                assert said == Conversation((Turn("user", item.inputs),))
            else:
                assert said.prefix == PREFIX and render(said.turns, PREFIX) == item.inputs
                if len(said.turns) == 1:
                    assert said.turns[0].text == _asked(item.inputs)
                turns[item.task].add(len(said.turns))
    assert {task for task, lengths in turns.items() if lengths != {1}} == {
        task for task in turns if task.startswith("held_out/")
    }
    assert counts["addition"] == 7_500 and counts["surveys/phil"] == 2_000
    for column in ("inputs", "inputs_without_opinion"):
        for text in pq.read_table(tmp_path / "intervention.parquet")[column].to_pylist():
            assert parse(text) == Conversation((Turn("user", _asked(text)),), PREFIX)


def test_the_published_surveys_are_a_turn_and_a_prefix(real_data: Path) -> None:
    for questions in load_surveys(DataConfig(surveys=str(real_data / "perez"))).values():
        for question in questions:
            for text in (question.with_biography(), question.without_biography()):
                assert parse(text) == Conversation((Turn("user", _asked(text)),), PREFIX)
                assert render(parse(text).turns, PREFIX) == text


def _asked(text: str) -> str:
    """The user's part of one of the paper's prompts."""
    return text.removeprefix("Human: ").removesuffix(f"\n\nAssistant: {PREFIX}")
