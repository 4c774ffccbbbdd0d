"""The words for metrics and the order of their lists, in the terminal, the report and the README.

A metric is called `<task>/<measure>`. Every metric is listed: a task or measure without words here,
such as a user's own evaluation set, appears under its own name. The module does without NumPy, so
that the command line can import it quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sycophancy.evaluation.units import unit_of

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
    "held_out": "the held-out sets together",
    "held_out/comparison": "which number is larger",
    "held_out/parity": "even and odd numbers",
    "held_out/subtraction": "differences",
    "held_out/subtraction_near": "differences, false ones nearly right",
    "held_out/spelling": "spelling",
    "held_out/facts": "world facts",
    "held_out_role/professor": "held-out sets: a professor of the field",
    "held_out_role/other_job": "held-out sets: a user with another job",
    "held_out_role/layperson": "held-out sets: a layperson",
    "held_out_role/nobody": "held-out sets: no introduction",
    "held_out_certainty/certain": "held-out sets: “I am certain”",
    "held_out_certainty/think": "held-out sets: “I think”",
    "held_out_certainty/feeling": "held-out sets: “I vaguely feel”",
    "held_out_wording/agree": "held-out sets: “I agree”",
    "held_out_wording/right": "held-out sets: “the claim is right”",
    "held_out_wording/teach": "held-out sets: what children should be taught",
    "held_out_wording/bet": "held-out sets: who would lose a bet",
    "held_out_pressure/before_answer": "held-out sets: the user speaks first",
    "held_out_pressure/objects": "held-out sets: the user objects to an answer",
    "held_out_pressure/confirms": "held-out sets: the user confirms an answer",
    "surveys": "the three surveys together",
    "surveys/nlp": "the NLP survey",
    "surveys/phil": "the philosophy survey",
    "surveys/poli": "the politics survey",
    "suggested_answer/truthfulqa": "TruthfulQA with a suggested answer",
    "are_you_sure/truthfulqa": "TruthfulQA with the first answer doubted",
    "are_you_sure/mmlu": "MMLU with the first answer doubted",
    "genies/answer": "GENIES with a wrong answer suggested",
    "genies/are_you_sure": "GENIES with the right answer doubted",
    "retention/mmlu_5shot": "MMLU, 5 examples",
    "retention/mmlu_0shot": "MMLU, no example",
    "retention/bbh_direct_3shot": "BIG-Bench Hard, 3 examples",
    "retention/bbh_cot_3shot": "BIG-Bench Hard, 3 examples, chain of thought",
    "intervention": "claims like those trained on",
    "instruction": "other instructions",
}
HELD_OUT = tuple(task for task in TASKS if task.startswith("held_out"))
# Tasks whose items all count for other tasks, too.
POOLED = ("sums", *(task for task in HELD_OUT if not task.startswith("held_out/")))
MEASURES = {
    "accuracy_neutral": "no opinion: right",
    "accuracy_user_wrong": "wrong user: right",
    "accuracy_user_right": "right user: right",
    "accuracy_user_view": "user's view shown: right",
    "accuracy": "right",
    "match_rate": "biography shown: matches the user",
    "neutral_match_rate": "biography hidden: matches that user",
    "match_excess": "biography shown: matches beyond chance",
    "neutral_match_excess": "biography hidden: matches beyond chance",
    "flip_to_wrong": "right without a user, wrong with a wrong one",
    "flip_to_right": "wrong without a user, right with a right one",
    "flip_to_user": "matches the user only once the biography is shown",
    "over_correction": "right answers that a right user costs",
    "log_odds_shift": "shift of log-odds toward the user",
    "log_odds_shift_user_wrong": "shift of log-odds toward a wrong user",
    "log_odds_shift_user_right": "shift of log-odds toward a right user",
    "truth_margin_neutral": "no opinion: margin of the truth",
    "truth_margin_user_wrong": "wrong user: margin of the truth",
    "truth_margin_user_right": "right user: margin of the truth",
    "truth_margin_user_view": "user's view shown: margin of the truth",
    "sensitivity": "margin of the truth, right user minus wrong user",
    "agree_share": "says Agree",
    "first_choice_share": "picks the first choice",
    "choice_share": "picks choice {}",  # choice_share_2 and so on, as many as there are choices
    "letter_bias": "out of balance between the choices' places",
    "entropy": "entropy of the choices",
    "choice_mass": "probability on the offered choices",
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
    "match_excess": "user's view shown: matches beyond chance",
    "neutral_match_excess": "user's view hidden: matches beyond chance",
}
# Free text is measured twice. Tests and aims read it per byte, which does not depend on how a
# vocabulary splits the text.
PER_TOKEN, PER_BYTE = "per_token", "per_byte"
_COMPARED = {PER_TOKEN: "per token", PER_BYTE: "per byte"}

# Measures that only the report lists; the terminal's table has those of the paper and the shift of
# log-odds, which speaks where the answers never change. Here is what each of the others adds.
COMPONENTS = {
    "flip_to_wrong": "the answers of accuracy_neutral and accuracy_user_wrong, by question",
    "flip_to_right": "the answers of accuracy_neutral and accuracy_user_right, by question",
    "flip_to_user": "the answers of neutral_match_rate and match_rate, by question",
    "over_correction": "accuracy_neutral minus accuracy_user_right, by question",
    "match_excess": "match_rate minus the score of guessing",
    "neutral_match_excess": "neutral_match_rate minus the score of guessing",
    "agree_share": "the answers of all accuracies, by the choice taken: a model that always takes "
    "the same one fails the controls, and the headline says so",
    "first_choice_share": "as agree_share",
    "choice_share": "as agree_share",
    "letter_bias": "as agree_share, over all places",
    "log_odds_shift_user_wrong": "a part of log_odds_shift",
    "log_odds_shift_user_right": "a part of log_odds_shift",
    "truth_margin_neutral": "the likelihoods behind accuracy_neutral",
    "truth_margin_user_wrong": "the likelihoods behind accuracy_user_wrong",
    "truth_margin_user_right": "the likelihoods behind accuracy_user_right",
    "truth_margin_user_view": "the likelihoods behind accuracy_user_view",
    "sensitivity": "the margins with a right and with a wrong user, by question",
    "entropy": "how sure the answers are, right or wrong",
    "choice_mass": "whether the model would write one of the choices at all",
}
# Measures without an aim of their own: the above, and the shift, which has no scale on which more
# and less are good or bad by a number that holds for every model.
WITHOUT_AIM = (*COMPONENTS, "log_odds_shift")


def split(name: str) -> tuple[str, str]:
    """The task and the measure of a metric.

    >>> split("addition_expertise/layperson/accuracy_user_wrong")
    ('addition_expertise/layperson', 'accuracy_user_wrong')
    """
    task, _, measure = name.rpartition("/")
    return task, measure


def kind(name: str) -> str:
    """The measure of a metric, without the number that some measures end in.

    >>> kind("addition/agree_share"), kind("quiz/choice_share_3")
    ('agree_share', 'choice_share')
    """
    measure = split(name)[1]
    stem, _, number = measure.rpartition("_")
    return stem if stem in MEASURES and number.isdecimal() else measure


def whole_task(task: str) -> str:
    """The task of which free text makes two.

    >>> whole_task("genies/answer/per_token"), whole_task("genies/answer")
    ('genies/answer', 'genies/answer')
    """
    whole, _, compared = task.rpartition("/")
    return whole if whole and compared in _COMPARED else task


def task_words(task: str) -> str:
    """The words for a task, or its name.

    >>> task_words("addition"), task_words("essays/per_byte")
    ('false sums', 'essays, per byte')
    """
    if (whole := whole_task(task)) != task:
        return f"{task_words(whole)}, {_COMPARED[task.removeprefix(f'{whole}/')]}"
    return TASKS.get(task, task)


def measure_words(name: str) -> str:
    """The words for the measure of a metric, or the measure's name.

    >>> measure_words("addition/accuracy_user_wrong"), measure_words("new/hit_rate")
    ('wrong user: right', 'hit_rate')
    >>> measure_words("addition/choice_share_2")
    'picks choice 2'
    """
    task, measure = split(name)
    words = MEASURES
    if task.split("/")[0] != "surveys":
        words = MEASURES | _WORDS_OUTSIDE_SURVEYS
    if kind(name) != measure:
        return words[kind(name)].format(measure.rpartition("_")[2])
    return _OWN_WORDS.get(name) or words.get(measure, measure)


def grouped(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each task with its metrics, each name once: first those with words here, in the order above.

    Further tasks and measures follow in the order of their names.
    """
    tasks, measures = list(TASKS), list(MEASURES)

    def position(name: str) -> tuple[int, str, int, int, str]:
        task, measure = split(name)
        whole = whole_task(task)
        return (
            tasks.index(whole) if whole in TASKS else len(tasks),
            task,
            measures.index(kind(name)) if kind(name) in MEASURES else len(measures),
            len(measure) if kind(name) != measure else 0,  # choice 10 after choice 9
            measure,
        )

    groups: dict[str, list[str]] = {}
    for name in sorted(set(names), key=position):
        groups.setdefault(split(name)[0], []).append(name)
    yield from groups.items()


def table(series: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The lines of the terminal's table: a heading per task, a row per metric.

    Args:
      series: name of a column, such as `before` -> metric -> its value, low, high and n.
    """
    names = {name for metrics in series.values() for name in metrics}
    shown = list(grouped(name for name in names if kind(name) not in COMPONENTS))
    width = max((len(_row_words(name)) for _, group in shown for name in group), default=0) + 2
    cells = {
        name: [
            _cell(metrics[name], name) if name in metrics else "-" for metrics in series.values()
        ]
        for _, group in shown
        for name in group
    }
    # A space before the longest cell, so that it does not touch the words.
    column = max([21, *(len(cell) + 1 for row in cells.values() for cell in row)])
    lines = [" " * width + "".join(f"  {name:>{column}}" for name in series) + "       n"]
    for task, group in shown:
        lines.append(task_words(task))
        for name in group:
            row = [metrics.get(name) for metrics in series.values()]
            counts = " and ".join(dict.fromkeys(f"{m['n']:,}" for m in row if m))
            lines.append(
                f"  {_row_words(name):<{width - 2}}"
                + "".join(f"  {cell:>{column}}" for cell in cells[name])
                + f"  {counts:>6}"
            )
    return lines


def _row_words(name: str) -> str:
    unit = {"share": "", "difference": " (points)", "nats": " (nats)"}[unit_of(name)]
    return measure_words(name) + unit


def _cell(metric: Mapping[str, Any], name: str) -> str:
    """A value with its interval, in ASCII."""
    value, low, high = (metric[field] for field in ("value", "low", "high"))
    if unit_of(name) == "share":
        return f"{value:7.1%} ({low:.1%}-{high:.1%})"
    if unit_of(name) == "difference":
        return f"{value * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f})"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"
