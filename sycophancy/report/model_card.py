"""The model card of a finetuned model: what it is, what was measured, and how to make it again."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sycophancy.report.markdown import tables
from sycophancy.report.origin import origin
from sycophancy.report.run.headline import sentences
from sycophancy.report.run.provenance import command, versions
from sycophancy.report.run.record import RunRecord

_PAPER = (
    "Wei, Huang, Lu, Zhou and Le (2023), *Simple synthetic data reduces sycophancy in large "
    "language models*, [arXiv 2308.03958](https://arxiv.org/abs/2308.03958)"
)
_PUBLISHED = re.compile(
    r"(?P<family>flan_t5|t5)_(?P<size>small|base|large|xl|xxl)(?P<lm>_lm_adapt)?"
)


def base_model(record: RunRecord) -> str | None:
    """The name on the hub of the model that was finetuned; None if it has none that is known."""
    checkpoint = str(record.macros.get("INITIAL_CHECKPOINT_PATH", ""))
    if checkpoint.startswith("hf:"):
        return checkpoint.removeprefix("hf:").partition("@")[0]
    match = _PUBLISHED.fullmatch(str(record.macros.get("MODEL_NAME", "")))
    if match is None or not checkpoint.startswith("gs://t5-data/"):
        return None
    flan, size, adapted = match.groups()
    if flan:
        return f"google/flan-t5-{size}"
    return f"google/t5-{size}-lm-adapt" if adapted else None


def has_apache_licence(record: RunRecord) -> bool:
    """Whether the base model has the Apache 2.0 licence, as Google's T5 and the miniatures have."""
    base = base_model(record) or ""
    shipped = str(record.macros.get("INITIAL_CHECKPOINT_PATH", "")).startswith("package:")
    return shipped or base.startswith(("google/flan-t5-", "google/t5-"))


def model_card(record: RunRecord, name: str, notes: Iterable[str] = ()) -> str:
    """The text of the card, README.md.

    Args:
      record: the run.
      name: the model's name.
      notes: what its files lack, a sentence each.
    """
    macros = record.macros
    base = base_model(record)
    model = f"[{base}](https://huggingface.co/{base})" if base else str(macros.get("MODEL_NAME"))
    licence = (
        f"The base model, {model}, has the Apache 2.0 licence, and so have these weights."
        if has_apache_licence(record)
        else f"These weights are derived from {model} and are under its licence, which this card "
        "does not know. Read it before you use or share them."
    )
    about = origin(macros)
    steps = f" for {macros['FINETUNE_STEPS']:,} steps" if "FINETUNE_STEPS" in macros else ""
    packages = ", ".join(f"{package} {version}" for package, version in versions(record).items())
    parts = [
        f"# {name}",
        f"{model} finetuned{steps} on synthetic claims with a simulated user's opinion, so that it "
        f"repeats its users' opinions less. The method is that of {_PAPER}; the recipe is "
        f"`{macros.get('RECIPE', 'unknown')}`, seed {macros.get('SEED', 'unknown')}.",
        f"**What this run found.** {'. '.join(sentences(record))}.",
        " ".join(about.sentences),
        "## Measured before and after finetuning",
        "Each cell shows before → after, with the 95% interval of the value after. Finetuning saw "
        "none of the sums, surveys and other questions. `metrics.json` holds every number with its "
        "interval and its denominator n; `report.html` shows them all.",
        "\n".join(tables(record)),
        "## How to make it again",
        f"```sh\n{command(record)}\n```",
        f"`config.gin` holds every setting. Versions: {packages or 'not recorded'}.",
        "## Limits",
        "The figures are those of one run on the questions listed above. They do not show how the "
        "model behaves on other questions or in other languages.",
        *notes,
        "## Licence",
        licence,
    ]
    return _front_matter(record, base) + "\n" + "\n\n".join(filter(None, parts)) + "\n"


def _front_matter(record: RunRecord, base: str | None) -> str:
    """The card's metadata as the hub reads it."""
    is_decoder = record.macros.get("ARCHITECTURE") == "decoder-only"
    task, family = ("text-generation", []) if is_decoder else ("text2text-generation", ["- t5"])
    lines = ["language: en", "library_name: transformers", f"pipeline_tag: {task}"]
    if has_apache_licence(record):
        lines.append("license: apache-2.0")
    if base:
        lines.append(f"base_model: {base}")
    return "\n".join(
        ["---", *lines, "tags:", "- sycophancy", "- synthetic-data", *family, "---", ""]
    )
