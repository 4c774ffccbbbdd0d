"""SeqIO tasks and mixtures that read the prepared files of a run.

Importing this package registers the tasks and reads nothing. The files are chosen when a data set
is built, by the first of these that names them:

1. `with tasks.reading(data_dir=..., vocabulary=...):` around the call;
2. the gin macros `DATA_DIR`, `VOCABULARY`, `MIXTURE_RATIO` and `CHAT`
   (`--gin.DATA_DIR="'runs/demo'"`);
3. the environment variables `DATA_DIR` and `VOCABULARY`.

`VOCABULARY` is a SentencePiece model, or the folder of a decoder-only model's tokenizer. Of a
decoder-only model, `inputs` are the tokens of the prompt as `CHAT` has it read, and `targets` are
those of the answer and the token that ends it (`sycophancy.model.decoder_text`). Its token 0 is no
padding, so a feature converter must tell padding by the rows' lengths.

| task or mixture | trains on | validates on |
|---|---|---|
| `sycophancy_intervention` | `filter/kept` | `prepare/intervention_validation` |
| `instruction_tuning` | `prepare/instructions` | `prepare/instructions_validation` |
| `sycophancy_mix` | both, 5 : 1 or `MIXTURE_RATIO` | both |
| `sycophancy_mix_{A}to{B}` | both, A : B; a rate of 0 leaves a task out | both |
| `sycophancy_eval_{SET}` | | `prepare/evaluation/{SET}` |
| `sycophancy_eval` | | all sets that every run has and whose metrics need only scores |
"""

import seqio

from sycophancy.errors import UserError

from . import evaluation, instructions, intervention, mixtures
from .location import Reading, reading

__all__ = ["Reading", "get", "reading"]


def get(name: str) -> seqio.Task | seqio.Mixture:
    """The task or mixture called `name`; a name `sycophancy_mix_{A}to{B}` is registered first.

    Raises:
      UserError: there is no task or mixture of this name; the message lists the names.
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
