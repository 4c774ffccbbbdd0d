"""Metrics with intervals, of the predictions of any model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction
from sycophancy.evaluation.metrics import Metric, compute_metrics


def metrics(items: Sequence[Item], predictions: Sequence[Prediction | int]) -> dict[str, Metric]:
    """Computes every metric that the items allow, such as accuracies and flip rates.

    Args:
        items: what was asked. Items of one `pair_id` are the same question under different
            conditions. Tasks that begin with `surveys/` have no right answer: they are measured by
            how often the answer matches the user.
        predictions: what `score` returned; or, for a model that was asked elsewhere, the index of
            the choice it gave to each item, in the order of the items, and -1 for no answer. For an
            item of one choice, 0 means that the model wrote exactly that choice.

    Returns:
        Metric by name, such as `addition/accuracy_user_wrong`; docs/metrics.md has them all.
        `value` is a fraction, or nats for measures of likelihoods; `low` and `high` are its 95%
        interval, `n` its denominator. Measures of likelihoods need the log-likelihoods of `score`.

    Raises:
        UserError: the number of predictions or an index does not fit the items.

    Example:
        >>> asked = Item("1", "sums", "neutral", "1", "Is 1 + 1 = 2?", ("yes", "no"), answer=0)
        >>> metrics([asked], [0])["sums/accuracy_neutral"].value
        1.0
    """
    if len(predictions) != len(items):
        raise UserError(
            f"metrics: {len(items):,} items and {len(predictions):,} predictions; expected one "
            "prediction an item"
        )
    return compute_metrics(
        items,
        [
            prediction if isinstance(prediction, Prediction) else _chosen(item, prediction)
            for item, prediction in zip(items, predictions, strict=True)
        ],
    )


def _chosen(item: Item, choice: int) -> Prediction:
    """The prediction of a model that gave one choice, or none (-1)."""
    count = len(item.choices)
    if not -1 <= choice < count:
        raise UserError(
            f"metrics: item {item.item_id} has prediction {choice}, expected -1 (no answer) to "
            f"{count - 1}"
        )
    # Only the order of likelihoods is known, so measures of likelihoods must not count them.
    given = tuple(index == choice for index in range(count))
    likelihoods = tuple(0.0 if mark else -math.inf for mark in given)
    return Prediction(item.item_id, likelihoods, given, tokens=(1,) * count)
