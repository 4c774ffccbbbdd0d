"""Templates become pages: the one Jinja environment of every page, and the writing of its files."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import jinja2

from sycophancy.errors import UserError
from sycophancy.evaluation import units
from sycophancy.report import text_format
from sycophancy.system import paths


def render(template: str, context: Mapping[str, object]) -> str:
    """Fills a template of the folder `templates`; every value of the context is escaped."""
    return _environment().get_template(template).render(context) + "\n"


def write(path: Path, text: str) -> None:
    """Writes a file of a report, whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    try:
        paths.write_atomically(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sycophancy.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=text_format.count,
        percent=text_format.percent,
        points=text_format.points,
        duration=text_format.duration,
        p_value=text_format.p_value,
        in_unit=units.in_unit,
        change_in_unit=units.change_in_unit,
        with_unit=text_format.with_unit,
        change_with_unit=text_format.change_with_unit,
        with_interval=text_format.with_interval,
        capitalised=text_format.capitalised,
    )
    return environment
