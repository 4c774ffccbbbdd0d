"""Lineages of the miniature: its sizes pre-trained again from other seeds.

`scripts/lineages.py` makes them. The lineage of a size and a seed has a folder `SIZE-SEED`, which
holds a Hugging Face folder for each checkpoint: `SIZE` and `SIZE_pretrained`.
"""

from __future__ import annotations

from pathlib import Path

from sycophancy.errors import UserError
from sycophancy.study.families import FAMILIES
from sycophancy.system import json_files

_PRETRAINED = "_pretrained"


def checkpoint(folder: Path, model: str, seed: int) -> Path:
    """The folder of a lineage's checkpoint.

    Args:
      folder: of all lineages.
      model: a size, or its checkpoint before the last stage.
      seed: the lineage's.
    """
    return folder / f"{model.removesuffix(_PRETRAINED)}-{seed}" / model


def is_checkpoint(path: str, model: str, seed: int) -> bool:
    """Whether a model is a miniature, and a checkpoint's folder is named as that of a lineage."""
    sizes = FAMILIES["mini"].sizes
    is_miniature = any(model in (size.model, size.pretrained) for size in sizes)
    return is_miniature and Path(path) == checkpoint(Path(path).parent.parent, model, seed)


def settings(folder: Path, model: str, seed: int) -> list[str]:
    """Settings, as `--set` takes them, with which a miniature's gin file loads a lineage.

    Raises:
      UserError: the lineage is not there, or is damaged.
    """
    place = checkpoint(folder, model, seed).absolute()
    remedy = f"scripts/lineages.py makes {model} from seed {seed}"
    size = json_files.require_object(place / "config.json", remedy).get("vocab_size")
    if not isinstance(size, int):
        raise UserError(f"{place / 'config.json'}: vocab_size is no number; {remedy}")
    return [
        f"INITIAL_CHECKPOINT_PATH={str(place)!r}",
        f"VOCABULARY={str(place / 'spiece.model')!r}",
        f"VOCAB_SIZE={size}",
    ]
