"""The held-out sets as SeqIO evaluation tasks, so that any SeqIO evaluator gives our numbers.

An item becomes one row a choice: the prompt and that choice as target. Metrics get the rows' scores
(log-likelihood of the target given the prompt), gather them by item id and call
`sycophancy.evaluation.metrics`, which measures our own scorer's predictions too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from sycophancy.data import probes
from sycophancy.data.prepare import evaluation_file
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction, read_items
from sycophancy.evaluation.metrics import compute_metrics

from . import location
from .features import OUTPUT_FEATURES, check_vocabulary

SETS = (
    "addition",
    "addition_true",
    *probes.TASKS,
    "surveys/nlp",
    "surveys/phil",
    "surveys/poli",
    "intervention",
    "instruction",
)
NAMES = tuple(f"sycophancy_eval_{name.replace('/', '_')}" for name in SETS)
ALL = "sycophancy_eval"  # the sets that need scores alone, for evaluators that take one mixture


class ItemSource(seqio.DataSource):
    """Rows {inputs, targets, item (json), choice} of one evaluation file, in its order.

    All rows of an item go to one shard.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        super().__init__(splits=("validation",), caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> list[str]:
        return [self._file]

    def num_input_examples(self, split: str) -> int:
        return sum(len(item.choices) for item in self._items())

    def get_dataset(
        self,
        split: str = "validation",
        shuffle: bool = False,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """One row a choice; see `seqio.DataSource.get_dataset`."""
        del split, sequence_length, use_cached, num_epochs
        items = self._items()
        if shuffle:
            order = np.random.default_rng(None if seed is None else int(seed))
            items = [items[i] for i in order.permutation(len(items))]
        if shard_info:
            items = items[shard_info.index :: shard_info.num_shards]

        def rows() -> Iterator[dict[str, Any]]:
            for item in items:
                text = json.dumps(dataclasses.asdict(item))
                for choice, target in enumerate(item.choices):
                    yield {
                        "inputs": item.inputs,
                        "targets": target,
                        "item": text,
                        "choice": choice,
                    }

        signature = {name: tf.TensorSpec([], tf.string) for name in ("inputs", "targets", "item")}
        signature["choice"] = tf.TensorSpec([], tf.int32)
        return tf.data.Dataset.from_generator(rows, output_signature=signature)

    def _items(self) -> list[Item]:
        return read_items(location.data_dir() / self._file)


def keep_item(
    output: str, *, example: Mapping[str, Any], is_target: bool
) -> tuple[Item, int] | str:
    """A target becomes (item, choice); a model's output stays text."""
    if not is_target:
        return output
    return Item(**json.loads(example["item"])), int(example["choice"])


def rank_choices(targets: Sequence[tuple[Item, int]], scores: Sequence[float]) -> dict[str, float]:
    """Metrics by name, from one score a choice.

    Raises:
      UserError: an item lacks a choice's score, or has two.
    """
    items: dict[str, Item] = {}
    by_item: dict[str, dict[int, float]] = {}
    for (item, choice), score in zip(targets, np.asarray(scores).reshape(-1), strict=True):
        found = by_item.setdefault(item.item_id, {})
        if choice in found:
            raise UserError(f"item {item.item_id}: choice {choice} was scored twice")
        items[item.item_id] = item
        found[choice] = float(score)
    predictions = []
    for item in items.values():
        found = by_item[item.item_id]
        if len(found) != len(item.choices):
            raise UserError(
                f"item {item.item_id}: {len(found)} of {len(item.choices)} choices were scored"
            )
        likelihoods = tuple(found[choice] for choice in range(len(item.choices)))
        predictions.append(Prediction(item.item_id, likelihoods, (False,) * len(item.choices)))
    metrics = compute_metrics(list(items.values()), predictions)
    return {name: metric.value for name, metric in metrics.items()}


def mean_log_likelihood(
    targets: Sequence[tuple[Item, int]], scores: Sequence[float]
) -> dict[str, float]:
    """Of the target; natural log, summed over its tokens. Free-text targets have no rival."""
    return {"instruction/log_likelihood": float(np.mean(np.asarray(scores).reshape(len(targets))))}


def exact_match(
    targets: Sequence[tuple[Item, int]], predictions: Sequence[str]
) -> dict[str, float]:
    """Share of outputs that are the target word for word; needs an evaluator that decodes."""
    right = [
        item.choices[choice].split() == output.split()
        for (item, choice), output in zip(targets, predictions, strict=True)
    ]
    return {"instruction/accuracy": float(np.mean(right))}


for _set, _name in zip(SETS, NAMES, strict=True):
    seqio.TaskRegistry.add(
        _name,
        source=ItemSource(evaluation_file(Path("prepare"), _set).as_posix()),
        preprocessors=[
            check_vocabulary,
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features=OUTPUT_FEATURES,
        postprocess_fn=keep_item,
        metric_fns=[mean_log_likelihood, exact_match] if _set == "instruction" else [rank_choices],
    )

seqio.MixtureRegistry.add(ALL, [name for name in NAMES if not name.endswith("instruction")], 1.0)
