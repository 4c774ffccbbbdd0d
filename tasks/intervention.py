"""The claims on which a model is finetuned, after filtration (Wei et al. 2023, section 4)."""

import functools

import seqio

from .features import OUTPUT_FEATURES
from .parquet import ParquetSource
from .tokens import tokenize

NAME = "sycophancy_intervention"

SOURCE = ParquetSource(
    files={
        "train": "filter/kept.parquet",
        "validation": "prepare/intervention_validation.parquet",
    },
    columns=("example_id", "inputs", "targets"),
    stage={"train": "filter", "validation": "prepare"},
)

seqio.TaskRegistry.add(
    NAME,
    source=SOURCE,
    preprocessors=[functools.partial(tokenize, task=NAME)],
    output_features=OUTPUT_FEATURES,
    metric_fns=[],
)
