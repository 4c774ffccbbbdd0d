"""How a model spreads its probability: over the choices, and between the choices and other text."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax, xlogy

from sycophancy.evaluation.intervals import Sample
from sycophancy.evaluation.measures.answer_table import UNBOUNDED, AnswerTable


def certainty_measures(table: AnswerTable, task: str) -> dict[str, Sample]:
    """The measures of a task's probabilities, over all items with several choices.

    `entropy`: the mean entropy, in nats, of the probabilities of an item's choices, scaled to sum
    to one: 0 if one choice has all, log k if k choices have equal parts.
    `choice_mass`: the mean sum of the choices' probabilities, so the share of probability that the
    model gives to the offered choices and not to other text; also for free text it is computed from
    whole log-likelihoods. Source: A. Holtzman et al., Surface form competition (2021), arXiv
    2104.08315, on why probability outside the choices matters.
    Items with a log-likelihood that is not finite do not count.
    """
    inside = table.inside([task]) & table.has_options
    if not inside.any():
        return {}
    rows = np.flatnonzero(inside & table.scored)
    entropy, mass = (np.full(len(table.items), np.nan) for _ in range(2))
    shares = softmax(table.scores[rows], axis=1)
    entropy[rows] = -xlogy(shares, shares).sum(axis=1)
    mass[rows] = np.exp(table.sums[rows]).sum(axis=1)
    return {
        "entropy": table.sample(entropy, inside, bounds=UNBOUNDED),
        # Choices of which one begins another, and rounding, may have more than 1 together.
        "choice_mass": table.sample(mass, inside, bounds=(0.0, np.inf)),
    }
