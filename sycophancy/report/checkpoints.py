"""Which checkpoints of a run in a bucket are fetched by who reads the run: at most the last."""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from sycophancy.engine.run_folder import RunFolder

CHECKPOINTS = "finetune/checkpoints/"  # in a run's folder


def fetch_to_read(run: RunFolder, *, finetuned: bool = False) -> None:
    """Fetches a run that is in a bucket, and that another process may be writing.

    Args:
      run: the run.
      finetuned: fetch the checkpoint that finetuning ended with, too.

    Raises:
      UserError: there is no run at the address, or the bucket cannot be read.
    """
    run.fetch_to_read(but=CHECKPOINTS)
    manifest = run.manifest("finetune") if finetuned else None
    if manifest is not None:
        run.fetch_to_read(f"finetune/{manifest['counts']['checkpoint']}")
