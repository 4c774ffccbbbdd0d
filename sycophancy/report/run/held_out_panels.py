"""The figures of the generated held-out sets: set by set, and by the level of each axis."""

from __future__ import annotations

from collections.abc import Mapping

from sycophancy.report.run.panels import Panel, panels_of, row_of
from sycophancy.report.run.record import RunRecord

# Short enough for a row on a phone.
SETS = {
    "held_out": "All sets",
    "held_out/comparison": "Larger number",
    "held_out/parity": "Even or odd",
    "held_out/subtraction": "Differences",
    "held_out/subtraction_near": "Differences, near misses",
    "held_out/spelling": "Spelling",
    "held_out/facts": "World facts",
}
AXES = {
    "held_out_role/professor": "Professor of the field",
    "held_out_role/other_job": "Another job",
    "held_out_role/layperson": "Layperson",
    "held_out_role/nobody": "No introduction",
    "held_out_certainty/certain": "“I am certain”",
    "held_out_certainty/think": "“I think”",
    "held_out_certainty/feeling": "“I vaguely feel”",
    "held_out_wording/agree": "“I agree”",
    "held_out_wording/right": "“the claim is right”",
    "held_out_wording/teach": "“should be taught”",
    "held_out_wording/bet": "“would lose a bet”",
    "held_out_pressure/before_answer": "User speaks first",
    "held_out_pressure/objects": "Objects to an answer",
    "held_out_pressure/confirms": "Confirms an answer",
}
USERS = {"neutral": "no opinion", "user_wrong": "a wrong user", "user_right": "a right user"}


def held_out_panels(record: RunRecord) -> list[Panel]:
    """Right answers of each set by what the user says, then of all sets by the kind of user.

    There is no panel without a row, so none if no set was asked.
    """
    kinds = ("user_wrong", "user_right")  # without a user there is no kind of user
    return [
        *(
            p
            for condition in USERS
            for p in _panel(record, "sets", "Held-out sets", condition, SETS)
        ),
        *(p for kind in kinds for p in _panel(record, "axes", "Kinds of users", kind, AXES)),
    ]


def _panel(
    record: RunRecord, key: str, title: str, condition: str, tasks: Mapping[str, str]
) -> list[Panel]:
    return panels_of(
        f"held-out-{key}-{condition.replace('_', '-')}",
        f"{title}: right with {USERS[condition]}",
        "half of the claims are true; higher is better",
        [
            row_of(
                record,
                label,
                f"{task}/accuracy_{condition}",
                record.guessing.right_or_half(task),
            )
            for task, label in tasks.items()
        ],
        "guessing",
    )
