"""Rows of decoder-only models: the prompt and its answer as one text, with the loss on the answer.

SeqIO's own converters for such models put token 0 before every row as a start of sequence, and take
token 0 for padding. Checkpoints of Llama, Qwen or Gemma know neither: their tokenizers put their
own start before a text or none, and token 0 is a piece like others. So this converter adds no
token, counts lengths instead of zeros, and marks padding by segment 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int

from sycophancy.data.training_rows import DECODER_FEATURES as FEATURES
from sycophancy.errors import UserError
from sycophancy.training.packing import places

_PADDING = -1  # of examples of unequal length side by side, before they are packed
_BLOCK = 256  # examples that are packed at once; a row does not hold examples of two blocks


class DecoderConverter(seqio.FeatureConverter):
    """Turns `inputs` and `targets` into the features of a decoder-only model.

    An example of n input and m target tokens takes n + m - 1 places: every token but the first is
    the target of the token before it, and the m targets that belong to the answer count in the
    loss. A row has as many places as the two features may have tokens together. Packed examples
    have segments from 1 and positions that restart at 0.
    """

    TASK_FEATURES: ClassVar = {
        "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES: ClassVar = {
        name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32) for name in FEATURES
    }
    PACKING_FEATURE_DTYPES: ClassVar[dict[str, tf.DType]] = {}

    def __init__(self, packing: bool) -> None:
        super().__init__(pack=False)  # SeqIO's own packing counts zeros
        self._packing = packing

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        (length,) = set(self.get_model_feature_lengths(task_feature_lengths).values())

        def joined(row: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            parts = [row[name][: task_feature_lengths[name]] for name in ("inputs", "targets")]
            tokens = tf.concat(parts, axis=0)
            return {"tokens": tokens, "prompt": tf.size(parts[0])}

        def rows(block: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            arrays = tf.numpy_function(
                lambda tokens, prompts: list(
                    decoder_rows(tokens, prompts, length, self._packing).values()
                ),
                [block["tokens"], block["prompt"]],
                [tf.int32] * len(FEATURES),
            )
            return {
                name: tf.ensure_shape(array, [None, length])
                for name, array in zip(FEATURES, arrays, strict=True)
            }

        blocks = ds.map(joined).padded_batch(
            _BLOCK,
            padded_shapes={"tokens": [None], "prompt": []},
            padding_values={"tokens": _PADDING, "prompt": _PADDING},
        )
        return blocks.map(rows).unbatch()

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
        """A row has room for the longest input with the longest target."""
        length = task_feature_lengths["inputs"] + task_feature_lengths["targets"]
        return dict.fromkeys(FEATURES, length)


def decoder_rows(
    tokens: Int[np.ndarray, "examples longest"],
    prompts: Int[np.ndarray, " examples"],
    length: int,
    packing: bool,
) -> dict[str, Int[np.ndarray, "rows length"]]:
    """The features of rows that hold the examples in their order.

    Args:
      tokens: prompt and answer of each example; -1 behind them.
      prompts: how many tokens of each example are its prompt.
      length: places of a row.
      packing: put an example behind the one before it if it fits; else, each has a row.

    >>> rows = decoder_rows(np.array([[5, 0, 7], [8, 9, -1]]), np.array([2, 1]), 4, packing=True)
    >>> rows["decoder_input_tokens"].tolist(), rows["decoder_target_tokens"].tolist()
    ([[5, 0, 8, 0]], [[0, 7, 9, 0]])
    >>> rows["decoder_loss_weights"].tolist(), rows["decoder_segment_ids"].tolist()
    ([[0, 1, 1, 0]], [[1, 1, 2, 0]])
    """
    sizes = np.maximum((tokens >= 0).sum(axis=1) - 1, 0)
    if packing:
        rows, segments, offsets = places(sizes[:, None].tolist(), [length])
        starts = offsets.reshape(-1)
    else:
        rows, segments, starts = list(range(len(sizes))), [1] * len(sizes), np.zeros_like(sizes)
    index = np.repeat(np.arange(len(sizes)), sizes)
    position = np.concatenate([np.arange(size) for size in sizes]) if len(sizes) else sizes
    place = np.repeat(rows, sizes), np.repeat(starts, sizes) + position
    values = (
        tokens[index, position],
        tokens[index, position + 1],
        position + 1 >= prompts[index],
        np.repeat(segments, sizes),
        position,
    )
    found = {}
    for name, value in zip(FEATURES, values, strict=True):
        found[name] = np.zeros((max(rows, default=-1) + 1, length), np.int32)
        found[name][place] = value
    return found


def check_loss_weights(batch: Mapping[str, np.ndarray]) -> None:
    """Refuses a batch in which no token or every token counts in the loss.

    Then prompts and answers were not told apart, and training would go on without an error.

    Raises:
      UserError: says which of the two it is.
    """
    real = batch["decoder_segment_ids"] > 0
    counted = (batch["decoder_loss_weights"] > 0) & real
    if not real.any() or (counted.any() and not counted[real].all()):
        return
    which = "every token of a batch counts" if counted.any() else "no token of a batch counts"
    raise UserError(
        f"{which} in the loss, so prompts and answers cannot be told apart; look at what "
        "`sycophancy prepare --show` prints, and at the task that MIXTURE_OR_TASK_NAME names"
    )
