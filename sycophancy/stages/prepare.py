"""The stage `prepare`: writes claims, instructions and held-out items as parquet."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from sycophancy.config.declarations import result_settings
from sycophancy.config.schema import DataConfig
from sycophancy.engine.stage import Counts, Inputs, Stage
from sycophancy.errors import UserError
from sycophancy.stages.models import token_counter, training_encoder, vocabulary_files

if typing.TYPE_CHECKING:
    from sycophancy.config.schema import Config
    from sycophancy.engine.progress import Meter
    from sycophancy.engine.run_folder import RunFolder


class Prepare(Stage):
    """Write the data: claims, instructions, held-out items."""

    name = command = "prepare"
    settings = result_settings(DataConfig) | {"TASK_FEATURE_LENGTHS", "CHAT"}
    on_devices = False
    measured_only = ("evaluation set ", "public set ")

    def inputs(self, config: Config, run: RunFolder) -> Inputs:
        """The files that rows are read from, and the vocabulary that measures their lengths."""
        from sycophancy.data.local_files import local_files

        return vocabulary_files(config.model) | local_files(config.data)

    def work(self, config: Config, run: RunFolder, out: Any, meter: Meter) -> Counts:
        from sycophancy.data import prepare
        from sycophancy.data.lengths import Limits
        from sycophancy.model.decoder_text import load_text
        from sycophancy.model.vocabulary import Vocabulary

        model, training = config.model, config.training
        longest = training.input_length, training.target_length
        if model.is_decoder:
            text = load_text(model.vocabulary, model.chat)
            limits = Limits(text.count_tokens, *longest, encode=text.training_rows, chat=text.chat)
        else:
            limits = Limits(token_counter(model), *longest, Vocabulary(model.vocabulary).pieces)
        summary = prepare.prepare(config.data, out, progress=meter, limits=limits)
        check_trainable(config, summary)
        return {
            "claims": summary["intervention"]["rows"],
            "instructions": summary["instructions"]["train"],
            "held-out items": sum(summary["evaluation"].values()),
            "notes": summary["notes"],
        }


def check_trainable(config: Config, summary: Mapping[str, Any]) -> None:
    """Refuses rows that are all too long to train on, before they are filtered for hours.

    Raises:
        UserError: names the kind of rows and TASK_FEATURE_LENGTHS.
    """
    training = config.training
    if training.mixture_or_task_name != "sycophancy_mix":
        return
    rows = (summary["intervention"]["rows"], summary["instructions"]["train"])
    for kind, ratio, count in zip(
        ("claims", "instructions"), training.mixture_ratio, rows, strict=True
    ):
        too_long = sum(
            entry["dropped"]
            for entry in summary["too_long"]
            if (entry["stage"], entry["kind"]) == ("training", kind)
        )
        if ratio > 0 and 0 < count <= too_long:
            raise UserError(
                f"all {count:,} {kind} are longer than TASK_FEATURE_LENGTHS (inputs "
                f"{training.input_length}, targets {training.target_length} tokens), so training "
                "would leave them out; set TASK_FEATURE_LENGTHS to more, or their share of "
                "MIXTURE_RATIO to 0"
            )


def examples(config: Config, run: RunFolder, count: int) -> list[str]:
    """Prepared rows as the model is trained on them, with their tokens."""
    from sycophancy.data.examples import render_examples

    return render_examples(run.stage("prepare"), count, training_encoder(config.model))
