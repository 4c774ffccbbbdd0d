"""The functions by which a trainer tells its caller what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

# Called after each logged step with the number of finetuning steps done and metrics by name.
Report = Callable[[int, Mapping[str, float]], None]
# Called with one line of text.
Note = Callable[[str], None]
