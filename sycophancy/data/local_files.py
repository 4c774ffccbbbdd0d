"""The local files that a run's rows are read from."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from sycophancy.config.schema import DataConfig
from sycophancy.data import instructions, origins, survey_files
from sycophancy.data.catalog import get_source, selected_names
from sycophancy.data.surveys import FILES
from sycophancy.errors import UserError
from sycophancy.evaluation.own_sets import named_files


def local_files(config: DataConfig) -> dict[str, Path]:
    """The files, by a name that does not depend on where a mirror lies.

    Raises:
      UserError: one is missing or cannot be opened, or a data set is unknown.
    """
    found = {}
    for name, path in _files(config):
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
                raise UserError(f"{name}: {path} is not a file")
            path.open("rb").close()
        except FileNotFoundError:
            raise UserError(f"{name}: {path} does not exist") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{name}: {path} cannot be read: {reason}") from None
        found[name] = path
    return found


def _files(config: DataConfig) -> Iterator[tuple[str, Path]]:
    for own_set, path in named_files(config.evaluations).items():
        yield f"evaluation set {own_set!r}", path
    if config.instructions is not None:
        yield "the instructions", Path(config.instructions)
    elif config.origin == "mirror":
        for path in instructions.mirror_files(config):
            yield f"the instructions {path.name}", path
    if config.surveys is not None or config.origin == "mirror":
        for survey, name in FILES.items():
            yield f"survey {survey!r}", survey_files.survey_folder(config) / f"{name}.jsonl"
    if config.origin == "mirror":
        for name in selected_names(config.data_sets):
            source = get_source(name)
            for split in ("train", source.validation):
                for path in origins.mirror_files(source, config, split):
                    yield f"data set {name!r} {path.name}", path
