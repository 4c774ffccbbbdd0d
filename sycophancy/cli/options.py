"""The options that the command of every stage takes, and the configuration they select."""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from pathlib import Path
from typing import Annotated, Any

import typer

from sycophancy.cli import completion
from sycophancy.config.bounds import Name, Place, check, shortened, shown
from sycophancy.errors import UserError

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The options that the command of every stage takes, annotated for typer."""

    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A shipped model, a .gin file, or a checkpoint: hf:owner/name, gs://, a folder.",
            autocompletion=completion.models,
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="A shipped recipe, or the path of a .gin file [paper].",
            autocompletion=completion.recipes,
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the run; its folder is runs/NAME [MODEL-RECIPE-seedN]."
        ),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the run, in place of runs/NAME."),
    ] = None
    data_mirror: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder with copies of the 17 data sets, laid out as on the hub."
        ),
    ] = None
    surveys: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder with the three survey files (.jsonl).")
    ] = None
    instructions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Instruction-tuning rows: a .jsonl or .parquet file."),
    ] = None
    evaluation: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Evaluation set of your own, .jsonl; may be repeated."),
    ] = None
    data_sets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Use only these data sets, commas between [the 17 and yours]."
        ),
    ] = None
    data_set: Annotated[
        list[str] | None,
        typer.Option(
            "--data-set", metavar="FILE", help="TOML file of your own data set; may be repeated."
        ),
    ] = None
    on_bad_row: Annotated[
        str | None,
        typer.Option(
            metavar="drop|stop", help="Leave out rows that cannot be used, or stop at one [drop]."
        ),
    ] = None
    trainer: Annotated[
        str | None,
        typer.Option(
            metavar="jax|t5x", help="Finetune with the in-tree trainer or with T5X [jax]."
        ),
    ] = None
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Devices of each axis, as in data=4,fsdp=2,model=1; or auto [data=all].",
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of every random choice.")] = (
        None
    )
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MACRO=VALUE",
            help="Set any setting; may be repeated. `sycophancy settings` lists them.",
            autocompletion=completion.assignments,
        ),
    ] = None
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Keep complete stages that other code made.")
    ] = False
    redo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Let this stage replace its checkpoints if something changed: finetune.",
        ),
    ] = None

    def folder(self) -> str:
        """Where the run is.

        Raises:
            UserError: nothing says where, or what says it is no path.
        """
        if self.out is not None:
            check("--out", self.out, Place())
            if "://" in self.out:
                raise UserError(
                    f"--out {self.out}: runs are written to a local or mounted folder; "
                    "copy it to the bucket afterwards"
                )
            return self.out
        if self.name is None and self.model is None:
            raise UserError("which run? give --name of one that exists, or --model for a new one")
        if self.name is not None:
            return os.path.join("runs", check("--name", self.name, Name(nested=True)))  # noqa: PTH118
        name = self._default_name()
        if Name().problem(name):
            raise UserError(f"{shown(name)}, of --model and --recipe, names no folder; give --name")
        return os.path.join("runs", name)  # noqa: PTH118

    def _default_name(self) -> str:
        """A name of model, recipe and seed, so that runs which differ in one do not meet.

        A recipe counts with its folders: `ablations/no_filtration` is `ablations-no_filtration`.
        """
        from sycophancy.model.references import short_name

        recipe = Path(self.recipe or "paper").with_suffix("")
        parts = [part for part in recipe.parts if part not in (recipe.anchor, "..")]
        seed = self.config(None).training.seed
        return f"{short_name(self.model or '')}-{'-'.join(parts)}-seed{seed}"

    def overrides(self) -> dict[str, Any]:
        """The macros that flags other than --set stand for."""
        from sycophancy.config.macros import Setting

        found: dict[str, Any] = {}
        for macro, field in (
            ("DATA_MIRROR", "data_mirror"),
            ("SURVEYS", "surveys"),
            ("INSTRUCTIONS", "instructions"),
        ):
            if (path := getattr(self, field)) is not None:
                place = path if "://" in path else str(Path(path).absolute())
                found[macro] = Setting(place, f"--{field.replace('_', '-')} {shortened(path)}")
        if self.evaluation:
            places = tuple(str(Path(path).absolute()) for path in self.evaluation)
            flags = " ".join(f"--evaluation {shortened(path)}" for path in self.evaluation)
            found["EVALUATIONS"] = Setting(places, shortened(flags))
        if self.data_mirror is not None:
            found["DATA_ORIGIN"] = Setting("mirror", "--data-mirror")
        if self.data_sets is not None:
            names = tuple(name.strip() for name in self.data_sets.split(",") if name.strip())
            found["DATA_SETS"] = Setting(names, f"--data-sets {shortened(self.data_sets)}")
        if self.data_set is not None:
            files = tuple(str(Path(file).absolute()) for file in self.data_set)
            origin = f"--data-set {shortened(' '.join(self.data_set))}"
            found["DATA_SET_FILES"] = Setting(files, origin)
        if self.on_bad_row is not None:
            said = f"--on-bad-row {shortened(self.on_bad_row)}"
            found["ON_BAD_ROW"] = Setting(self.on_bad_row, said)
        if self.trainer is not None:
            found["TRAINER"] = Setting(self.trainer, f"--trainer {shortened(self.trainer)}")
        if self.mesh is not None:
            found["MESH"] = Setting(parse_mesh(self.mesh), f"--mesh {self.mesh}")
        if self.seed is not None:
            found["SEED"] = Setting(self.seed, f"--seed {self.seed}")
        return found

    def check(self) -> None:
        """Checks what can be checked where the run's files are not, as for a job elsewhere.

        Raises:
            UserError: a flag has a value that no run takes.
        """
        from sycophancy.config.load import check_flags
        from sycophancy.config.macros import find

        self.folder()
        check_flags(self.set_ or (), self.overrides())
        if self.recipe is not None and not self.recipe.endswith(".gin"):
            find("recipe", self.recipe)

    def config(self, folder: Any) -> Config:
        """The configuration: of the model and recipe, or else the one the run already has."""
        from sycophancy.config.load import load_config, load_operative
        from sycophancy.config.macros import text_of

        if self.model is not None:
            return load_config(
                self.model, self.recipe or "paper", self.set_ or (), self.overrides()
            )
        stored = folder / "config.gin"
        if self.recipe is not None or not stored.exists():
            raise UserError(
                f"which model? give --model, as in --model mini_base; {folder} has no run yet"
                if self.recipe is None
                else "which model? --recipe needs --model beside it"
            )
        return load_operative(text_of(stored), str(stored), self.set_ or (), self.overrides())


def parse_mesh(text: str) -> tuple[int, int, int]:
    """MESH of `data=4,fsdp=2,model=1` or `auto`; one size may be -1, what the others leave.

    A data size that is not said is -1 if no other is, else 1; the others are 1.

    Example:
        >>> parse_mesh("fsdp=4"), parse_mesh("fsdp=-1,model=2"), parse_mesh("auto")
        ((-1, 4, 1), (1, -1, 2), (-1, -1, 1))

    Raises:
        UserError: something else, or an axis twice.
    """
    if text == "auto":
        return (-1, -1, 1)
    said: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = (piece.strip() for piece in part.partition("="))
        if axis not in ("data", "fsdp", "model") or not re.fullmatch(r"-1|[1-9][0-9]{0,6}", size):
            raise UserError(
                f"--mesh {shortened(text)}: expected auto, or sizes as in data=4,fsdp=2,model=1"
            )
        if axis in said:
            raise UserError(f"--mesh {shortened(text)}: {axis} stands there twice")
        said[axis] = int(size)
    rest = 1 if -1 in said.values() else -1
    return (said.get("data", rest), said.get("fsdp", 1), said.get("model", 1))
