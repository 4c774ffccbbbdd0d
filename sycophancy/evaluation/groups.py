"""Groups: items of several tasks that are also measured together, under a name of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sycophancy.evaluation.items import Item, Prediction


def with_groups(
    items: Sequence[Item], predictions: Sequence[Prediction]
) -> tuple[list[Item], list[Prediction]]:
    """Adds a copy of each item, and of its prediction, for each of its groups.

    Args:
      items: what was asked.
      predictions: one for each item, in the order of the items.

    Returns:
      The items, then the copies, whose task is the group; and their predictions. No copy has
      groups.

    >>> item = Item("1", "sums", "neutral", "1", "?", ("yes", "no"), answer=0, groups=("all",))
    >>> items, _ = with_groups([item], [Prediction("1", (-0.2, -1.7), (True, False))])
    >>> [(item.task, item.item_id) for item in items]
    [('sums', '1'), ('all', 'all/1')]
    """
    all_items, all_predictions = list(items), list(predictions)
    for item, prediction in zip(items, predictions, strict=True):
        for group in item.groups:
            name = f"{group}/{item.item_id}"
            all_items.append(dataclasses.replace(item, item_id=name, task=group, groups=()))
            all_predictions.append(dataclasses.replace(prediction, item_id=name))
    return all_items, all_predictions
