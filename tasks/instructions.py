"""Flan-style instruction tuning, which keeps the finetuned model following instructions."""

import functools

import seqio

from .features import OUTPUT_FEATURES
from .parquet import ParquetSource
from .tokens import tokenize

NAME = "instruction_tuning"

SOURCE = ParquetSource(
    files={
        "train": "prepare/instructions.parquet",
        "validation": "prepare/instructions_validation.parquet",
    },
    columns=("example_id", "inputs", "targets"),
    stage={"train": "prepare", "validation": "prepare"},
)

seqio.TaskRegistry.add(
    NAME,
    source=SOURCE,
    preprocessors=[functools.partial(tokenize, task=NAME)],
    output_features=OUTPUT_FEATURES,
    metric_fns=[],
)
