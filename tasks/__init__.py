"""SeqIO tasks and mixtures over the prepared files of a run.

Importing this package registers the tasks and reads nothing. What they read is said when a data set
is built, in this order:

1. `with tasks.reading(data_dir=..., vocabulary=...):` around the call;
2. the gin macros `DATA_DIR`, `VOCABULARY` and `MIXTURE_RATIO`
   (`--gin.DATA_DIR="'runs/demo'"`);
3. the environment variables `DATA_DIR` and `VOCABULARY`.

| task or mixture | trains on | validates on |
|---|---|---|
| `sycophancy_intervention` | `filter/kept` | `prepare/intervention_validation` |
| `instruction_tuning` | `prepare/instructions` | `prepare/instructions_validation` |
| `sycophancy_mix` | both, 5 : 1 or `MIXTURE_RATIO` | both |
| `sycophancy_mix_{A}to{B}` | both, A : B; zero leaves a task out | both |
| `sycophancy_eval_{SET}` | | `prepare/evaluation/{SET}` |
| `sycophancy_eval` | | all sets whose metrics need scores alone |
"""

import seqio

from sycophancy.errors import UserError

from . import evaluation, instructions, intervention, mixtures
from .location import Reading, reading

__all__ = ["Reading", "get", "reading"]


def get(name: str) -> seqio.Task | seqio.Mixture:
    """The task or mixture called `name`; any `sycophancy_mix_{A}to{B}` is made when asked for.

    Raises:
      UserError: there is none; the message lists what there is.
    """
    mixtures.add_ratio(name)
    known = set(seqio.TaskRegistry.names()) | set(seqio.MixtureRegistry.names())
    if name not in known:
        ours = [intervention.NAME, instructions.NAME, mixtures.NAME, f"{mixtures.NAME}_1to1"]
        raise UserError(
            f"no task or mixture is called {name!r}; there are {', '.join(ours)} (any ratio), "
            f"{', '.join(evaluation.NAMES)}"
        )
    return seqio.get_mixture_or_task(name)
