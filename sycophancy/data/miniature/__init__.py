"""Generated stand-ins for the 17 data sets, the surveys and the instructions, in their schemas."""

from sycophancy.data.miniature.questionnaires import surveys
from sycophancy.data.miniature.sentences import data_set
from sycophancy.data.miniature.tasks import instructions

__all__ = ["data_set", "instructions", "surveys"]
