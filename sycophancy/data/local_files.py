"""Lists the local files that a run reads its rows from."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from sycophancy.config.schema import DataConfig
from sycophancy.data import instructions, origins, survey_files
from sycophancy.data.catalog import FileRows
from sycophancy.data.data_set_file import needs_claims, selected_sources
from sycophancy.data.public_sets import load as public_sets
from sycophancy.data.surveys import FILES
from sycophancy.errors import UserError
from sycophancy.evaluation.own_sets import named_files


def local_files(config: DataConfig) -> dict[str, Path]:
    """The files; their names do not change when a mirror or a data set is moved.

    Raises:
      UserError: one is missing or cannot be opened, or a data set is unknown.
    """
    files = {}
    for name, path in _files(config):
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait without end
                raise UserError(f"{name}: {path} is not a file")
            path.open("rb").close()
        except FileNotFoundError:
            raise UserError(f"{name}: {path} does not exist") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{name}: {path} cannot be read: {reason}") from None
        files[name] = path
    return files


def _files(config: DataConfig) -> Iterator[tuple[str, Path]]:
    for own_set, path in named_files(config.evaluations).items():
        yield f"evaluation set {own_set!r}", path
    for public_set, path in public_sets.local_files(config).items():
        yield f"public set {public_set!r}", path
    if not config.num_instructions:
        pass
    elif config.instructions is not None:
        yield "the instructions", Path(config.instructions)
    elif config.origin == "mirror":
        for path in instructions.mirror_files(config):
            yield f"the instructions {path.name}", path
    if config.surveys is not None or config.origin == "mirror":
        for survey, name in FILES.items():
            yield f"survey {survey!r}", survey_files.survey_folder(config) / f"{name}.jsonl"
    for source in selected_sources(config) if needs_claims(config) else ():
        what = f"data set {source.name!r}"
        if source.described_in is not None:
            yield f"{what} (its description)", source.described_in
        if isinstance(source.rows, FileRows):
            for path in (*source.rows.train, *source.rows.validation):
                yield f"{what} {_short(path, source.described_in)}", path
        elif config.origin == "mirror":
            for split in filter(None, (source.rows.train, source.rows.validation)):
                for path in origins.mirror_files(source.rows, config, split):
                    yield f"{what} {path.name}", path


def _short(path: Path, beside: Path | None) -> Path:
    """A path as the TOML file beside it writes it, unless it lies elsewhere."""
    folder = beside.parent if beside is not None else path.parent
    return path.relative_to(folder) if path.is_relative_to(folder) else path
