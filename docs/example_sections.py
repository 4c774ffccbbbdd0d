"""Griffe extension: shows the section `Example:` of a docstring as code.

Griffe knows the section `Examples:` only. It takes `Example:` for a note, whose text is Markdown.
"""

from __future__ import annotations

import re

import griffe


class ExampleSections(griffe.Extension):
    """Renames the section in every docstring, before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
