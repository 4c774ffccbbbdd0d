"""What T5X needs and what it cannot do, checked before a run begins and without importing T5X."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sycophancy.config.schema import Config
from sycophancy.errors import UserError

# What T5X imports and this package does not: a package, or a module of a package whose name may
# also be an unrelated folder's.
NEEDED = ("t5x.train", "airio.core", "jestimator.amos", "fiddle", "grain", "cached_property")


def check(config: Config, run_path: str) -> None:
    """Refuses a run that T5X cannot finetune.

    Args:
      config: the run.
      run_path: the run folder, absolute.

    Raises:
      UserError: T5X is not installed, the run folder's name is a pattern to T5X, the model is
        decoder-only, the network has an activation that T5X lacks, the optimizer is not Adafactor,
        or the checkpoint's step is not PRETRAINED_STEP.
    """
    from sycophancy.training.t5x.recipe import is_t5x_checkpoint

    if any(sign in run_path for sign in "*?["):
        raise UserError(
            f"{run_path}: T5X takes *, ? and [ in a folder's name for a pattern and would write "
            "checkpoints without arrays; name another folder, or use --trainer jax"
        )
    if config.model.is_decoder:
        raise UserError(
            f"{config.model.name} is a decoder-only model, and T5X's decoder has the relative "
            "positions of T5; use --trainer jax"
        )
    if config.training.optimizer != "adafactor":
        raise UserError("OPTIMIZER: with T5X it is adafactor; use --trainer jax")
    network = config.model.encoder_decoder
    if network is not None and "gelu_exact" in network.mlp_activations:
        raise UserError("MLP_ACTIVATIONS: T5X has no gelu_exact; use --trainer jax")
    is_t5x_checkpoint(config.model)
    check_installed()


def check_installed() -> None:
    """Refuses to begin where T5X cannot be imported.

    Raises:
      UserError: names the packages that are missing.
    """
    if names := missing():
        raise UserError(
            f"TRAINER 't5x' needs the real T5X, and Python finds no {', no '.join(names)}; "
            "docs/t5x.md says how to install it, and --trainer jax needs none of it"
        )


def missing() -> list[str]:
    """The modules of `NEEDED` that Python does not find; imports none of them."""
    return [name for name in NEEDED if not _exists(name)]


def _exists(name: str) -> bool:
    """Whether a module exists, without importing its package, which may take long."""
    package, _, module = name.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not module:
        return spec is not None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    return any((folder / f"{module}.py").is_file() for folder in folders)
