"""The words for metrics and the order of their lists, in the terminal, the report and the README.

A metric is called `<task>/<measure>`. Every metric is listed: a task or measure without words here,
such as a user's own evaluation set, appears under its own name. The module does without NumPy, so
that the command line can import it quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# In the order in which they are listed.
TASKS = {
    "addition": "false sums",
    "addition_true": "true sums",
    "sums": "false and true sums together",
    "addition_expertise/expert": "sums with a professor",
    "addition_expertise/none": "sums without an introduction",
    "addition_expertise/layperson": "sums with a layperson",
    "addition_wording": "sums in other wordings",
    "addition_formats/numbers": "sums with choices (1) and (2)",
    "addition_formats/yes_no": "sums with choices yes and no",
    "surveys": "the three surveys together",
    "surveys/nlp": "the NLP survey",
    "surveys/phil": "the philosophy survey",
    "surveys/poli": "the politics survey",
    "suggested_answer/truthfulqa": "TruthfulQA with a suggested answer",
    "are_you_sure/truthfulqa": "TruthfulQA with the first answer doubted",
    "are_you_sure/mmlu": "MMLU with the first answer doubted",
    "genies/answer": "GENIES with a wrong answer suggested",
    "genies/are_you_sure": "GENIES with the right answer doubted",
    "intervention": "claims like those trained on",
    "instruction": "other instructions",
}
MEASURES = {
    "accuracy_neutral": "no opinion: right",
    "accuracy_user_wrong": "wrong user: right",
    "accuracy_user_right": "right user: right",
    "accuracy_user_view": "user's view shown: right",
    "accuracy": "right",
    "match_rate": "biography shown: matches the user",
    "neutral_match_rate": "biography hidden: matches that user",
    "flip_to_wrong": "right without a user, wrong with a wrong one",
    "flip_to_right": "wrong without a user, right with a right one",
    "flip_to_user": "matches the user only once the biography is shown",
    "agree_share": "says Agree",
    "first_choice_share": "picks the first choice",
}
_OWN_WORDS = {
    "intervention/accuracy": "wrong and right users together: right",
    "instruction/accuracy": "exact match",
}
# Outside the surveys, a user may show a view by something else than a biography.
_WORDS_OUTSIDE_SURVEYS = {
    "match_rate": "user's view shown: matches the user",
    "neutral_match_rate": "user's view hidden: matches that user",
    "flip_to_user": "matches the user only once the view is shown",
}

# Measures that regroup the answers of other measures. Only the report lists these, the terminal's
# table does not.
COMPONENTS = {
    "flip_to_wrong": "the answers of accuracy_neutral and accuracy_user_wrong, by question",
    "flip_to_right": "the answers of accuracy_neutral and accuracy_user_right, by question",
    "flip_to_user": "the answers of neutral_match_rate and match_rate, by question",
    "agree_share": "the answers of all accuracies, by the choice taken: a model that always takes "
    "the same one fails the controls, and the headline says so",
    "first_choice_share": "as agree_share",
}


def split(name: str) -> tuple[str, str]:
    """The task and the measure of a metric.

    >>> split("addition_expertise/layperson/accuracy_user_wrong")
    ('addition_expertise/layperson', 'accuracy_user_wrong')
    """
    task, _, measure = name.rpartition("/")
    return task, measure


def task_words(task: str) -> str:
    """The words for a task, or its name."""
    return TASKS.get(task, task)


def measure_words(name: str) -> str:
    """The words for the measure of a metric, or the measure's name.

    >>> measure_words("addition/accuracy_user_wrong"), measure_words("new/hit_rate")
    ('wrong user: right', 'hit_rate')
    """
    task, measure = split(name)
    words = MEASURES
    if task.split("/")[0] != "surveys":
        words = MEASURES | _WORDS_OUTSIDE_SURVEYS
    return _OWN_WORDS.get(name) or words.get(measure, measure)


def grouped(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each task with its metrics, each name once: first those with words here, in the order above.

    Further tasks and measures follow in the order of their names.
    """
    tasks, measures = list(TASKS), list(MEASURES)

    def position(name: str) -> tuple[int, str, int, str]:
        task, measure = split(name)
        return (
            tasks.index(task) if task in TASKS else len(tasks),
            task,
            measures.index(measure) if measure in MEASURES else len(measures),
            measure,
        )

    groups: dict[str, list[str]] = {}
    for name in sorted(set(names), key=position):
        groups.setdefault(split(name)[0], []).append(name)
    yield from groups.items()


def table(series: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The lines of the terminal's table: a heading per task, a row per metric.

    Args:
      series: name of a column, such as `before` -> metric -> its value, low, high and n.
    """
    names = {name for metrics in series.values() for name in metrics}
    shown = list(grouped(name for name in names if split(name)[1] not in COMPONENTS))
    width = max((len(measure_words(name)) for _, group in shown for name in group), default=0) + 2
    lines = [" " * width + "".join(f"  {name:>21}" for name in series) + "       n"]
    for task, group in shown:
        lines.append(task_words(task))
        for name in group:
            row = [metrics.get(name) for metrics in series.values()]
            cells = [
                f"{m['value']:7.1%} ({m['low']:.1%}-{m['high']:.1%})" if m else "-" for m in row
            ]
            counts = " and ".join(dict.fromkeys(f"{m['n']:,}" for m in row if m))
            lines.append(
                f"  {measure_words(name):<{width - 2}}"
                + "".join(f"  {cell:>21}" for cell in cells)
                + f"  {counts:>6}"
            )
    return lines
