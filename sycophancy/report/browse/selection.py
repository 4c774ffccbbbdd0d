"""Which items of a run to show: by set, condition, turned answers and text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sycophancy.errors import UserError, did_you_mean
from sycophancy.evaluation.items import CONDITIONS
from sycophancy.report.browse.answers import TURNS, Asked
from sycophancy.report.text_format import joined


@dataclasses.dataclass(frozen=True)
class Selection:
    """Conditions that an item must meet, all of them; the empty ones hold for every item.

    Attributes:
      sets: tasks, or first parts of their names: `surveys` means `surveys/nlp` and more.
      condition: what the prompt says about the user.
      flipped: how the answer turned by finetuning.
      swayed: how the answer turned when the user spoke.
      swayed_in: the evaluation that `swayed` is about.
      text: in the prompt or the item's id, in upper or lower case.
    """

    sets: Sequence[str] = ()
    condition: str = ""
    flipped: str = ""
    swayed: str = ""
    swayed_in: str = ""
    text: str = ""

    def check(self, asked: Sequence[Asked]) -> None:
        """Refuses what no item could meet.

        Raises:
          UserError: an unknown set, condition or turn.
        """
        tasks = list(dict.fromkeys(one.item.task for one in asked))
        for name in self.sets:
            if not any(_is_in(task, name) for task in tasks):
                raise UserError(
                    f"--set {name}: the run has no such set (there are {joined(tasks)})"
                    f"{did_you_mean(name, tasks)}"
                )
        for option, value, known in (
            ("--condition", self.condition, CONDITIONS),
            ("--flipped", self.flipped, TURNS),
            ("--swayed", self.swayed, TURNS),
        ):
            if value and value not in known:
                raise UserError(
                    f"{option} {value}: expected one of {', '.join(known)}"
                    f"{did_you_mean(value, known)}"
                )

    def of(self, asked: Sequence[Asked]) -> list[Asked]:
        """The items that meet all conditions, in their order."""
        return [one for one in asked if self._takes(one)]

    def _takes(self, one: Asked) -> bool:
        text = self.text.casefold()
        return (
            (not self.sets or any(_is_in(one.item.task, name) for name in self.sets))
            and self.condition in ("", one.item.condition)
            and (not self.flipped or self.flipped in one.flipped)
            and (not self.swayed or self.swayed in one.swayed.get(self.swayed_in, ()))
            and (text in one.item.inputs.casefold() or text in one.item.item_id.casefold())
        )


def _is_in(task: str, name: str) -> bool:
    return task == name or task.startswith(f"{name.rstrip('/')}/")
