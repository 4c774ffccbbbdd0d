"""Loss and exact match on held-out rows, measured while a model is finetuned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from sycophancy.model import sharding
from sycophancy.model.parameters import ParameterTree
from sycophancy.training.loss import Batch, TokenLosses, loss_sums


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out rows of one kind.

    Attributes:
      kind: `intervention`, `instructions` or the name of another task.
      rate: the kind's rate in the training mixture.
      batches: T5X's model features, int32, each (BATCH_SIZE / MICROBATCHES, length); the last batch
        is filled up with rows of padding.
    """

    kind: str
    rate: float
    batches: tuple[Mapping[str, np.ndarray], ...]


class ValidationSums(NamedTuple):
    """Sums over held-out rows.

    Attributes:
      loss: cross entropy of the target tokens, natural log, without z-loss.
      tokens: target tokens.
      matches: rows whose every target token is the argmax.
      rows: rows; a packed row of a batch holds several.
    """

    loss: Float[Array, ""]
    tokens: Float[Array, ""]
    matches: Float[Array, ""]
    rows: Float[Array, ""]


def empty_sums() -> ValidationSums:
    """All sums zero."""
    return ValidationSums(*(jnp.zeros([]) for _ in ValidationSums._fields))


def validation_sums(tokens: TokenLosses, batch: Batch) -> ValidationSums:
    """The sums of one batch, from what its teacher-forced logits say about its targets.

    A row matches if each of its target tokens, with the end of sequence, is the argmax given the
    prompt and the target tokens before it. This holds exactly if greedy decoding writes the target:
    as long as greedy decoding has written the target's tokens, it has the same prefix as teacher
    forcing and therefore the same logits, so its next token is the target's if and only if that
    token is the argmax. No decoding loop is needed.

    Padding does not count, neither after a row's target nor in rows that have only padding.

    Args:
      tokens: of each position that counts.
      batch: the model's features, packed or not.
    """
    weights = batch["decoder_loss_weights"]
    sums = loss_sums(tokens, weights.astype(jnp.float32), z_loss=0.0)
    # Only targets count: the prompt of a decoder-only model is a part of its segment.
    segments = jnp.where(weights > 0, batch.get("decoder_segment_ids", jnp.ones_like(weights)), 0)
    matches, rows = _count_matches(tokens.correct, segments)
    return ValidationSums(sums.loss, sums.tokens, matches, rows)


def _count_matches(
    correct: Bool[Array, "batch length"], segments: Int[Array, "batch length"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The number of segments that are correct at all of their positions, and of all segments.

    A segment has at least one position, so segment numbers are at most the row's length.
    """
    numbers = jnp.arange(1, segments.shape[1] + 1, dtype=segments.dtype)
    member = segments[:, :, None] == numbers[None, None, :]
    exists = jnp.any(member, axis=1)
    wrong = jnp.any(member & ~correct[:, :, None], axis=1)
    matches = jnp.sum((exists & ~wrong).astype(jnp.float32))
    return matches, jnp.sum(exists.astype(jnp.float32))


class Validator:
    """Measures parameters on held-out rows.

    Args:
      parts: the held-out rows of each kind.
      add_sums: `Program.add_sums`.
      mesh: the devices.
    """

    def __init__(
        self,
        parts: Sequence[HeldOut],
        add_sums: Callable[[ParameterTree, Batch, ValidationSums], ValidationSums],
        mesh: Mesh,
    ) -> None:
        self._parts, self._add_sums, self._mesh = parts, add_sums, mesh

    def measure(self, params: ParameterTree) -> dict[str, float]:
        """Metrics by name, the same in every process, all of which must call this.

        Returns:
          See `metrics_of`; empty without held-out rows.
        """
        everywhere = sharding.replicated(self._mesh)
        sums = {}
        for part in self._parts:
            total = empty_sums()
            total = sharding.put(total, jax.tree.map(lambda _: everywhere, total))
            for batch in part.batches:
                total = self._add_sums(params, sharding.put_batch(batch, self._mesh), total)
            sums[part.kind] = total
        return metrics_of(
            {part.kind: part.rate for part in self._parts if part.batches},
            {kind: jax.device_get(total) for kind, total in sums.items()},
        )


def metrics_of(rates: Mapping[str, float], sums: Mapping[str, ValidationSums]) -> dict[str, float]:
    """The metrics of one validation.

    A mixture draws rows, not tokens, at its rates r. A kind with t target tokens for each row and a
    loss of L for each token therefore has a share of r t / sum(r t) of the target tokens that are
    trained on, and the total is the mean of L with these weights. The training loss is the mean
    over a batch's target tokens, so the total equals the training loss that held-out rows would
    have, without dropout and without z-loss. The total exact match is the mean over rows, weighted
    by r.

    Args:
      rates: the rate of each kind of row in the training mixture.
      sums: the sums of each kind, over at least one row.

    Returns:
      `validation_loss` (nats a target token) and `validation_exact_match` (share of rows), in all;
      for each kind `{kind}/validation_loss`, `{kind}/validation_exact_match` and
      `{kind}/validation_rows`. Empty without a kind.
    """
    if not sums:
        return {}
    rows = {kind: float(part.rows) for kind, part in sums.items()}
    weight = {kind: rates[kind] / rows[kind] for kind in sums}
    loss = sum(weight[kind] * float(part.loss) for kind, part in sums.items())
    tokens = sum(weight[kind] * float(part.tokens) for kind, part in sums.items())
    matches = sum(weight[kind] * float(part.matches) for kind, part in sums.items())
    metrics = {
        "validation_loss": loss / tokens,
        "validation_exact_match": matches / sum(rates[kind] for kind in sums),
    }
    for kind, part in sums.items():
        metrics[f"{kind}/validation_loss"] = float(part.loss) / float(part.tokens)
        metrics[f"{kind}/validation_exact_match"] = float(part.matches) / rows[kind]
        metrics[f"{kind}/validation_rows"] = int(rows[kind])
    return metrics


def in_words(step: int, metrics: Mapping[str, float]) -> str:
    """One line about one validation, for a person."""
    return (
        f"step {step:,}: validation loss {metrics['validation_loss']:.3f}, "
        f"exact match {metrics['validation_exact_match']:.1%}"
    )
