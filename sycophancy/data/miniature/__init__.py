"""A small generated world in the schemas of the real data: 17 data sets, surveys, instructions."""

from sycophancy.data.miniature.questionnaires import surveys
from sycophancy.data.miniature.sentences import data_set
from sycophancy.data.miniature.tasks import instructions

__all__ = ["data_set", "instructions", "surveys"]
