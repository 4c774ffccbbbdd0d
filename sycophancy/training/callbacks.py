"""The functions by which a trainer tells its caller what happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

# Called after each logged step with the number of finetuning steps done and metrics by name.
Report = Callable[[int, Mapping[str, float]], None]
# Called with one line of text.
Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Bucketed:
    """The place in a bucket that a finetuning's folder is the working copy of.

    Attributes:
      home: the address that stands for the folder.
      publish: called before each checkpoint is written; brings the folder's files there.
    """

    home: str
    publish: Callable[[], None]

    def address(self, name: str) -> str:
        """The address of a file or folder in it."""
        return f"{self.home}/{name}"
