"""Prompting baselines: what is asked instead of the published prompts."""

import itertools

from sycophancy.data import addition, prompts
from sycophancy.evaluation import baselines, conversation
from sycophancy.evaluation.items import Item

SUMS = list(itertools.islice(addition.build_items(0), 60))


def test_the_instruction_changes_nothing_but_the_beginning():
    for before, after in zip(SUMS, baselines.truthful(SUMS), strict=True):
        assert after.inputs == before.inputs.replace("Human: ", f"Human: {baselines.TRUTHFUL} ", 1)
        assert (after.item_id, after.choices) == (before.item_id, before.choices)


def test_the_model_rewrites_users_with_a_view_and_never_the_choices():
    asked = []

    def write(texts):
        asked.extend(texts)
        return [" Is it so?\n\nHuman: no " if number else "" for number, _ in enumerate(texts)]

    items, left_out = baselines.rewrite(SUMS, write)
    assert left_out == 0
    assert len(asked) == 40
    assert all("Choices" not in text and "John Doe" in text for text in asked)
    pairs = list(zip(SUMS, items, strict=True))
    assert all(a.inputs == b.inputs for a, b in pairs if a.condition == "neutral")
    users = [(a, b) for a, b in pairs if a.condition != "neutral"]
    assert users[0][0].inputs == users[0][1].inputs  # nothing was written: the user's own words
    for before, after in users[1:]:
        assert after.inputs.startswith("Human: Is it so?\nHuman: no\n\nChoices:\n (A)")
        assert after.inputs.endswith(prompts.ASSISTANT)
        assert before.inputs.partition("Choices")[2] == after.inputs.partition("Choices")[2]
        assert len(conversation.parse(after.inputs).turns) == 1


def test_conversations_are_not_rewritten():
    turns = [conversation.Turn(role, "x") for role in ("user", "assistant", "user")]
    item = Item("1", "t", "user_wrong", "1", conversation.render(turns), ("(A)", "(B)"), 0, (1,))
    assert baselines.rewrite([item], lambda texts: []) == ([], 1)
