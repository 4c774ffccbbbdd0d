"""The held-out sets as SeqIO evaluation tasks, with which any SeqIO evaluator gets our metrics.

For each choice of an item there is one row, with the prompt as inputs and the choice as targets.
The metric functions get the rows' scores (log-likelihood of the target given the prompt), group
them by item, and call `sycophancy.evaluation.metrics`, which also measures our own scorer.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from sycophancy.data import held_out, probes
from sycophancy.data.prepare import evaluation_file
from sycophancy.data.public_sets.catalog import SETS as PUBLIC_SETS
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction, read_items
from sycophancy.evaluation.metrics import compute_metrics

from . import location, shards
from .features import OUTPUT_FEATURES, check_vocabulary
from .tokens import count_tokens, in_words

logger = logging.getLogger(__name__)

SETS = (
    "addition",
    "addition_true",
    *probes.TASKS,
    "surveys/nlp",
    "surveys/phil",
    "surveys/poli",
    "intervention",
    "instruction",
    held_out.NAME,
    *PUBLIC_SETS,
)
NAMES = tuple(f"sycophancy_eval_{name.replace('/', '_')}" for name in SETS)
# The sets that every run has and that need only scores, for evaluators that take one mixture.
ALL = "sycophancy_eval"


class ItemSource(seqio.DataSource):
    """The rows of one file of items, one for each choice.

    A row has `inputs`, `targets`, `item` (JSON), `choice` and `place` (the item's number in the
    file). All rows of an item go to the same shard.
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
        return sum(len(item.choices) for item in self.items())

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
        """One row for each choice; see `seqio.DataSource.get_dataset`."""
        del split, sequence_length, use_cached, num_epochs
        items = self.items()
        places = shards.order(len(items), shuffle, seed, shard_info)

        def rows() -> Iterator[dict[str, str | int]]:
            for place in places:
                item = items[place]
                text = json.dumps(dataclasses.asdict(item))
                for choice, target in enumerate(item.choices):
                    yield {
                        "inputs": item.inputs,
                        "targets": target,
                        "item": text,
                        "choice": choice,
                        "place": place,
                    }

        signature = {name: tf.TensorSpec([], tf.string) for name in ("inputs", "targets", "item")}
        signature |= {name: tf.TensorSpec([], tf.int32) for name in ("choice", "place")}
        return tf.data.Dataset.from_generator(rows, output_signature=signature)

    def items(self) -> list[Item]:
        """The file's items, in the file's order."""
        return read_items(location.data_dir() / self._file)


def check_encoder_decoder(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Loads the vocabulary, as `check_vocabulary` does, of an encoder-decoder.

    Raises:
      UserError: the vocabulary is the tokenizer of a decoder-only model.
    """
    if location.is_decoder():
        raise UserError(
            "the evaluation tasks ask encoder-decoders, as T5X's evaluator does; "
            "`sycophancy evaluate` measures a decoder-only model"
        )
    return check_vocabulary(dataset)


def leave_out_long_items(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None = None,
    output_features: Mapping[str, seqio.Feature] = OUTPUT_FEATURES,
    *,
    source: ItemSource,
    task: str,
) -> tf.data.Dataset:
    """Leaves out items whose prompt or choices are too long, because a truncated prompt is useless.

    Items of one pair are compared with each other, so all items of the pair are left out. The
    number of items that are left out is logged.

    Raises:
      UserError: no item fits.
    """
    limits = {name: length for name, length in (sequence_length or {}).items() if length}
    if not limits:
        return dataset
    items = source.items()
    too_long = {item.pair_id for item in _long_items(items, limits, output_features)}
    fits = np.array([item.pair_id not in too_long for item in items], np.bool_)
    if count := int((~fits).sum()):
        message = (
            f"{task}: {count:,} of {len(items):,} items ({count / len(items):.1%}) are left out, "
            f"because they or an item of their pair are longer than {in_words(limits)}"
        )
        if not fits.any():
            raise UserError(message)
        logger.warning("%s", message)
    mask = tf.constant(fits)
    return dataset.filter(lambda row: mask[row["place"]])


def _long_items(
    items: Sequence[Item], limits: Mapping[str, int], features: Mapping[str, seqio.Feature]
) -> Iterator[Item]:
    texts: dict[str, list[tuple[str, ...]]] = {
        "inputs": [(item.inputs,) for item in items],
        "targets": [item.choices for item in items],
    }
    for name in set(limits) & set(texts):
        distinct = list({text for each in texts[name] for text in each})
        tokens = dict(zip(distinct, count_tokens(distinct, features[name]), strict=True))
        for item, each in zip(items, texts[name], strict=True):
            if any(tokens[text] > limits[name] for text in each):
                yield item


class Target(NamedTuple):
    """A row's item, the number of its choice, and how many tokens the choice has with its end."""

    item: Item
    choice: int
    tokens: int


def keep_item(output: str, *, example: Mapping[str, Any], is_target: bool) -> Target | str:
    """Turns a target into a `Target`; returns a model's output as it is.

    Args:
      output: the target or the model's output.
      example: the row as SeqIO passes it.
      is_target: whether `output` is the target.
    """
    if not is_target:
        return output
    item = Item(**json.loads(example["item"]))
    return Target(item, int(example["choice"]), len(example["targets"]))


def rank_choices(targets: Sequence[Target], scores: Sequence[float]) -> dict[str, float]:
    """Computes metrics, by name, from one score for each choice: its summed log-likelihood.

    Raises:
      UserError: a choice of an item has no score, or two.
    """
    items: dict[str, Item] = {}
    by_item: dict[str, dict[int, tuple[float, int]]] = {}
    for target, score in zip(targets, np.asarray(scores).reshape(-1), strict=True):
        item, choice, tokens = target
        item_scores = by_item.setdefault(item.item_id, {})
        if choice in item_scores:
            raise UserError(f"item {item.item_id}: choice {choice} was scored twice")
        items[item.item_id] = item
        item_scores[choice] = float(score), tokens
    predictions = []
    for item in items.values():
        item_scores = by_item[item.item_id]
        if len(item_scores) != len(item.choices):
            raise UserError(
                f"item {item.item_id}: {len(item_scores)} of {len(item.choices)} choices were "
                "scored"
            )
        likelihoods, tokens_of = zip(
            *(item_scores[n] for n in range(len(item.choices))), strict=True
        )
        greedy = (False,) * len(item.choices)
        predictions.append(Prediction(item.item_id, likelihoods, greedy, tokens_of))
    metrics = compute_metrics(list(items.values()), predictions)
    return {name: metric.value for name, metric in metrics.items()}


def mean_log_likelihood(targets: Sequence[Target], scores: Sequence[float]) -> dict[str, float]:
    """The mean log-likelihood of free-text targets; natural log, summed over a target's tokens."""
    return {"instruction/log_likelihood": float(np.mean(np.asarray(scores).reshape(len(targets))))}


def exact_match(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """The share of outputs that equal the target word for word; needs an evaluator that decodes."""
    right = [
        target.item.choices[target.choice].split() == output.split()
        for target, output in zip(targets, predictions, strict=True)
    ]
    return {"instruction/accuracy": float(np.mean(right))}


for _set, _name in zip(SETS, NAMES, strict=True):
    _source = ItemSource(evaluation_file(Path("prepare"), _set).as_posix())
    seqio.TaskRegistry.add(
        _name,
        source=_source,
        preprocessors=[
            check_encoder_decoder,
            functools.partial(leave_out_long_items, source=_source, task=_name),
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features=OUTPUT_FEATURES,
        postprocess_fn=keep_item,
        metric_fns=[mean_log_likelihood, exact_match] if _set == "instruction" else [rank_choices],
    )

seqio.MixtureRegistry.add(
    ALL,
    [
        name
        for set_, name in zip(SETS, NAMES, strict=True)
        if set_ not in ("instruction", held_out.NAME, *PUBLIC_SETS)
    ],
    default_rate=1.0,
    sample_fn=shards.sample_all,
)
