"""The settings that a run is asked for, and the folder and configuration that follow."""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from collections.abc import Sequence
from pathlib import Path

from sycophancy.config.bounds import Name, Place, check, shortened, shown
from sycophancy.config.schema import PublicSet
from sycophancy.errors import UserError
from sycophancy.system.paths import is_address

if typing.TYPE_CHECKING:
    from etils import epath

    from sycophancy.config.macros import Setting
    from sycophancy.config.schema import Config

PUBLIC_SETS: tuple[str, ...] = typing.get_args(PublicSet)
EVALUATION = "evaluation"  # the recipe of `sycophancy evaluate --model`, which trains on nothing
ALL = "all"  # stands for all of them


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """A run as it is asked for, on the command line or by `sycophancy.run`; None: not given.

    Attributes:
        model: a shipped model, a `.gin` file or a checkpoint.
        recipe: a recipe's name or the path of its `.gin` file; by default `paper`.
        name: the run's folder is `runs/NAME`.
        out: the run's folder itself.
        data_mirror: folder with copies of the 17 data sets, laid out as on the hub.
        surveys: folder with the three survey files.
        instructions: file of instruction-tuning rows.
        data_sets: names of data sets with commas between; the others are left out.
        data_set: TOML files of the user's own data sets.
        evaluation: JSONL files of the user's own evaluation sets.
        public_sets: names of public evaluation sets with commas between, or `all`.
        public_sets_from: folder with their files; alone, it stands for all sets.
        retention: `mmlu`, `bbh` or both with a comma between, `auto` or `none`.
        bbh: folder with the files of BIG-Bench Hard.
        on_bad_row: `drop` or `stop`.
        limit: most questions of each task that is measured.
        chat: how a decoder-only model reads prompts: `auto`, `raw` or `template`.
        trainer: what finetunes.
        mesh: sizes of the mesh, such as `data=4,fsdp=2`, or `auto`.
        seed: of every random choice.
        wandb: project on Weights & Biases that shows the run.
        set_: further settings, `MACRO=VALUE` each.
        any_code: keep complete stages that other code made.
        redo: stages that may replace what they saved.
    """

    model: str | None = None
    recipe: str | None = None
    name: str | None = None
    out: str | None = None
    data_mirror: str | None = None
    surveys: str | None = None
    instructions: str | None = None
    data_sets: str | None = None
    data_set: Sequence[str] | None = None
    evaluation: Sequence[str] | None = None
    public_sets: str | None = None
    public_sets_from: str | None = None
    retention: str | None = None
    bbh: str | None = None
    on_bad_row: str | None = None
    limit: int | None = None
    chat: str | None = None
    trainer: str | None = None
    mesh: str | None = None
    seed: int | None = None
    wandb: str | None = None
    set_: Sequence[str] | None = None
    any_code: bool = False
    redo: Sequence[str] | None = None

    def folder(self) -> str:
        """The run's folder, or its address in a bucket.

        Raises:
            UserError: neither folder, name nor model is given, or one of them is no path.
        """
        if self.out is not None:
            check("--out", self.out, Place())
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
        """A name of model, recipe and seed, so that runs that differ in one of them do not collide.

        A recipe's folders are part of its name: `ablations/x` becomes `ablations-x`.
        """
        from sycophancy.model.references import short_name

        recipe = Path(self.recipe or "paper").with_suffix("")
        parts = [part for part in recipe.parts if part not in (recipe.anchor, "..")]
        seed = self._new_config().training.seed
        return f"{short_name(self.model or '')}-{'-'.join(parts)}-seed{seed}"

    def overrides(self) -> dict[str, Setting]:
        """The macros that options other than `--set` set."""
        from sycophancy.config.macros import Setting

        settings: dict[str, Setting] = {}
        for macro, field in (
            ("DATA_MIRROR", "data_mirror"),
            ("SURVEYS", "surveys"),
            ("INSTRUCTIONS", "instructions"),
            ("PUBLIC_SETS_FOLDER", "public_sets_from"),
            ("BBH_FOLDER", "bbh"),
        ):
            if (path := getattr(self, field)) is not None:
                place = path if is_address(path) else str(Path(path).absolute())
                settings[macro] = Setting(place, f"--{field.replace('_', '-')} {shortened(path)}")
        if self.data_mirror is not None:
            settings["DATA_ORIGIN"] = Setting("mirror", "--data-mirror")
        if self.data_sets is not None:
            names = _listed(self.data_sets)
            settings["DATA_SETS"] = Setting(names, f"--data-sets {shortened(self.data_sets)}")
        if self.public_sets is not None:
            said = f"--public-sets {shortened(self.public_sets)}"
            names = PUBLIC_SETS if self.public_sets == ALL else _listed(self.public_sets)
            settings["PUBLIC_SETS"] = Setting(names, said)
        elif self.public_sets_from is not None:
            settings["PUBLIC_SETS"] = Setting(PUBLIC_SETS, "--public-sets-from")
        if self.retention is not None:
            names = () if self.retention == "none" else _listed(self.retention)
            said = f"--retention {shortened(self.retention)}"
            settings["RETENTION"] = Setting(names, said)
        for macro, flag, files in (
            ("DATA_SET_FILES", "--data-set", self.data_set),
            ("EVALUATIONS", "--evaluation", self.evaluation),
        ):
            if files:
                places = tuple(str(Path(file).absolute()) for file in files)
                flags = " ".join(f"{flag} {shortened(file)}" for file in files)
                settings[macro] = Setting(places, shortened(flags))
        if self.on_bad_row is not None:
            said = f"--on-bad-row {shortened(self.on_bad_row)}"
            settings["ON_BAD_ROW"] = Setting(self.on_bad_row, said)
        if self.limit is not None:
            settings["MAX_QUESTIONS"] = Setting(self.limit, f"--limit {self.limit}")
        if self.chat is not None:
            settings["CHAT"] = Setting(self.chat, f"--chat {shortened(self.chat)}")
        if self.trainer is not None:
            settings["TRAINER"] = Setting(self.trainer, f"--trainer {shortened(self.trainer)}")
        if self.mesh is not None:
            settings["MESH"] = Setting(parse_mesh(self.mesh), f"--mesh {self.mesh}")
        if self.seed is not None:
            settings["SEED"] = Setting(self.seed, f"--seed {self.seed}")
        if self.wandb is not None:
            settings["WANDB_PROJECT"] = Setting(self.wandb, f"--wandb {shortened(self.wandb)}")
        return settings

    def check(self) -> None:
        """Checks what can be checked without the run's files, as for a job on another machine.

        Raises:
            UserError: an option has a value that no run takes.
        """
        from sycophancy.config.load import check_flags
        from sycophancy.config.macros import find

        self.folder()
        check_flags(self.set_ or (), self.overrides())
        if self.recipe is not None and not self.recipe.endswith(".gin"):
            find("recipe", self.recipe)

    def config(self, folder: Path | epath.Path) -> Config:
        """The configuration of the model and recipe; without a model, that of the existing run.

        Raises:
            UserError: there is no such run, or a setting has a value that no run takes.
        """
        from sycophancy.config.load import load_operative
        from sycophancy.config.macros import text_of

        if self.model is not None:
            return self._new_config()
        stored = folder / "config.gin"
        if self.recipe is not None or not stored.exists():
            raise UserError(
                f"which model? give --model, as in --model mini_base; {folder} has no run yet"
                if self.recipe is None
                else "which model? --recipe needs --model beside it"
            )
        return load_operative(text_of(stored), str(stored), self.set_ or (), self.overrides())

    def _new_config(self) -> Config:
        """The configuration of the model and recipe, changed by the other settings."""
        from sycophancy.config.load import load_config

        model, recipe = self.model or "", self.recipe or "paper"
        return load_config(model, recipe, self.set_ or (), self.overrides())


Request = typing.TypeVar("Request", bound=RunRequest)


def of_evaluation(request: Request) -> Request:
    """The request with the recipe `evaluation`, if it is for a new run without a recipe.

    An existing run keeps what it has: a run of that model with the recipe `paper`, or a run that is
    named and has another recipe.
    """
    from sycophancy.config import macros

    if request.model is None or request.recipe is not None:
        return request
    stored, place = _stored(request.folder())
    if stored is not None:
        recipe = macros.read_text(stored, place).get("RECIPE")
        if recipe is None or recipe.value != EVALUATION:
            return request
    return dataclasses.replace(request, recipe=EVALUATION)


def _stored(folder: str) -> tuple[str | None, str]:
    """The text of a run's `config.gin`, or None if there is none, and its place."""
    from sycophancy.config import macros
    from sycophancy.storage.bucket import Bucket

    place = os.path.join(folder, "config.gin")  # noqa: PTH118  # it may be an address
    if not is_address(folder):
        return (macros.text_of(Path(place)) if Path(place).exists() else None), place
    text = Bucket(folder).read("config.gin")
    return (None if text is None else text.decode(errors="replace")), place


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def parse_mesh(text: str) -> tuple[int, int, int]:
    """Reads MESH from `data=4,fsdp=2,model=1` or `auto`; one size may be -1, for all other devices.

    Without a size for data, it is -1 if no other size is -1, and 1 if one is; fsdp and model are 1.

    Example:
        >>> parse_mesh("fsdp=4"), parse_mesh("fsdp=-1,model=2"), parse_mesh("auto")
        ((-1, 4, 1), (1, -1, 2), (-1, -1, 1))

    Raises:
        UserError: the text is anything else, or names an axis twice.
    """
    if text == "auto":
        return (-1, -1, 1)
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = (piece.strip() for piece in part.partition("="))
        if axis not in ("data", "fsdp", "model") or not re.fullmatch(r"-1|[1-9][0-9]{0,6}", size):
            raise UserError(
                f"--mesh {shortened(text)}: expected auto, or sizes as in data=4,fsdp=2,model=1"
            )
        if axis in sizes:
            raise UserError(f"--mesh {shortened(text)}: {axis} is given twice")
        sizes[axis] = int(size)
    rest = 1 if -1 in sizes.values() else -1
    return (sizes.get("data", rest), sizes.get("fsdp", 1), sizes.get("model", 1))
