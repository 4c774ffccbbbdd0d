"""The 17 data sets of the intervention as one table (Wei et al. 2023, appendix B.2).

A `Source` describes a data set: where its rows are, which text columns a claim quotes, and how a
claim words each label. `data_set_file` reads a user's own `Source` from a TOML file, and
`sources.load_source` loads the rows of any `Source`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from sycophancy.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Download:
    """A copy to take from the hub when the data set's own repository holds only a script.

    Attributes:
      hub_id: `owner/name` of the copy, which has the same text columns.
      revision: commit on the hub.
      label: the label's column in the copy.
    """

    hub_id: str
    revision: str
    label: str


@dataclasses.dataclass(frozen=True)
class HubRows:
    """Rows in a repository of the Hugging Face hub, or in a mirror's copy of it.

    Attributes:
      hub_id: `owner/name`; a mirror's folder is `owner__name`.
      config: the hub's configuration, None where there is only one.
      revision: commit or branch on the hub.
      train: split to train on.
      validation: split for held-out rows, or None where the hub has no labelled one. Rows that
        occur in train are dropped from it.
      download: another repository to read on the hub, with the same texts.
    """

    hub_id: str
    config: str | None
    revision: str
    train: str = "train"
    validation: str | None = "validation"
    download: Download | None = None


@dataclasses.dataclass(frozen=True)
class FileRows:
    """Rows in files on this machine.

    Attributes:
      train: files to train on.
      validation: files of held-out rows; if empty, one train text in 20 is held out.
    """

    train: tuple[Path, ...]
    validation: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
      name: what this package calls it.
      rows: where its rows are.
      texts: columns that a claim quotes, in this order.
      label: the label's column.
      labels: (value in the data, wording in a claim) of each label, in the protocol's order. Labels
        are mapped by these values or names, never by the numbers that a copy gives them.
      described_in: the TOML file of a user's own data set; None for the 17.
    """

    name: str
    rows: HubRows | FileRows
    texts: tuple[str, ...]
    label: str
    labels: tuple[tuple[str, str], ...]
    described_in: Path | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels as a claim words them."""
        return tuple(wording for _, wording in self.labels)

    def is_unlabelled(self, value: str) -> bool:
        """Whether a value of a user's label column means "no label": it is empty or -1."""
        if self.described_in is None or value.strip() not in ("", "-1"):
            return False
        return folded(value) not in {folded(known) for known, _ in self.labels}


def folded(label: str) -> str:
    """A label's key: labels that differ in case, spaces or hyphens alone are the same.

    >>> folded("Non-offensive ")
    'non_offensive'
    """
    return label.strip().casefold().replace("-", "_").replace(" ", "_")


# Commits of the hub's main branches as of 2025; all of them hold parquet.
def _glue(config: str, validation: str = "validation") -> HubRows:
    revision = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    return HubRows("nyu-mll/glue", config, revision, validation=validation)


def _super_glue(config: str) -> HubRows:
    return HubRows("aps/super_glue", config, "3de24cf8022e94f4ee4b9d55a6f539891524d646")


def _tweet_eval(config: str) -> HubRows:
    return HubRows("cardiffnlp/tweet_eval", config, "b3a375baf0f409c77e6bc7aa35102b7b3534f8be")


_NEGATIVE, _NEUTRAL, _POSITIVE = "Negative Sentiment", "Neutral Sentiment", "Positive Sentiment"
_ENTAILMENT = ("entailment", "Entailment")
_NOT_ENTAILMENT = ("not_entailment", "Not Entailment")
_CONTRADICTION = ("contradiction", "Contradiction")
_NEITHER = ("neutral", "Neither Entailment Nor Contradiction")

_TABLE = (
    Source(
        "sst2",
        HubRows("stanfordnlp/sst2", None, "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"),
        texts=("sentence",),
        label="label",
        labels=(("negative", _NEGATIVE), ("positive", _POSITIVE)),
    ),
    Source(
        "rotten_tomatoes",
        HubRows(
            "cornell-movie-review-data/rotten_tomatoes",
            None,
            "aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
        ),
        texts=("text",),
        label="label",
        labels=(("neg", _NEGATIVE), ("pos", _POSITIVE)),
    ),
    Source(
        "tweet_eval_sentiment",
        _tweet_eval("sentiment"),
        texts=("text",),
        label="label",
        labels=(("negative", _NEGATIVE), ("neutral", _NEUTRAL), ("positive", _POSITIVE)),
    ),
    Source(
        "tweet_eval_offensive",
        _tweet_eval("offensive"),
        texts=("text",),
        label="label",
        labels=(("non-offensive", "Not Offensive"), ("offensive", "Offensive")),
    ),
    Source(
        "tweet_eval_irony",
        _tweet_eval("irony"),
        texts=("text",),
        label="label",
        labels=(("non_irony", "Not Irony"), ("irony", "Irony")),
    ),
    Source(
        "qqp",
        _glue("qqp"),
        texts=("question1", "question2"),
        label="label",
        labels=(("not_duplicate", "Not Duplicate"), ("duplicate", "Duplicate")),
    ),
    Source(
        "mrpc",
        _glue("mrpc"),
        texts=("sentence1", "sentence2"),
        label="label",
        labels=(("not_equivalent", "Not Equivalent"), ("equivalent", "Equivalent")),
    ),
    Source(
        "paws",
        HubRows(
            "google-research-datasets/paws",
            "labeled_final",
            "161ece9501cf0a11f3e48bd356eaa82de46d6a09",
        ),
        texts=("sentence1", "sentence2"),
        label="label",
        labels=(("0", "Different Meaning"), ("1", "Paraphrase")),
    ),
    Source(
        "rte",
        _super_glue("rte"),
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _NOT_ENTAILMENT),
    ),
    Source(
        "wnli",
        _glue("wnli"),
        texts=("sentence1", "sentence2"),
        label="label",
        labels=(_NOT_ENTAILMENT, _ENTAILMENT),
    ),
    Source(
        "qnli",
        _glue("qnli"),
        texts=("sentence", "question"),
        label="label",
        labels=(_ENTAILMENT, _NOT_ENTAILMENT),
    ),
    Source(
        "mnli",
        _glue("mnli", validation="validation_matched"),
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _NEITHER, _CONTRADICTION),
    ),
    Source(
        "snli",
        HubRows("stanfordnlp/snli", None, "cdb5c3d5eed6ead6e5a341c8e56e669bb666725b"),
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _NEITHER, _CONTRADICTION),
    ),
    Source(
        "cb",
        _super_glue("cb"),
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _CONTRADICTION, _NEITHER),
    ),
    Source(
        "trec",
        HubRows(
            "CogComp/trec",
            None,
            "main",  # a loading script, which `datasets` no longer runs: see `download`
            validation="test",  # trec has no validation split; its test split is labelled
            # jsonl; numbers its coarse labels in another order, and gives the names as text too
            download=Download(
                "SetFit/TREC-QC",
                "0a34640b3cac3affef6f0abdfb81e3d0ecffcf92",
                "label_coarse_original",
            ),
        ),
        texts=("text",),
        label="coarse_label",
        labels=(
            ("ABBR", "Abbreviation"),
            ("ENTY", "Entity"),
            ("DESC", "Description or Abstract Concept"),
            ("HUM", "Human Being"),
            ("LOC", "Location"),
            ("NUM", "Numeric Value"),
        ),
    ),
    Source(
        "ag_news",
        HubRows(
            "fancyzhx/ag_news",
            None,
            "eb185aade064a813bc0b7f42de02595523103ca4",
            validation="test",  # ag_news has no validation split; its test split is labelled
        ),
        texts=("text",),
        label="label",
        labels=(
            ("World", "World"),
            ("Sports", "Sports"),
            ("Business", "Business"),
            ("Sci/Tech", "Science and Technology"),
        ),
    ),
    Source(
        "cola",
        _glue("cola"),
        texts=("sentence",),
        label="label",
        labels=(("unacceptable", "Unacceptable Sentence"), ("acceptable", "Acceptable Sentence")),
    ),
)

SOURCES: Mapping[str, Source] = {source.name: source for source in _TABLE}


def choose(names: Sequence[str], sources: Mapping[str, Source]) -> tuple[Source, ...]:
    """The named data sets in the order of `sources`; all of them if `names` is empty.

    Raises:
      UserError: an unknown name, with the closest known ones, or a name that is given twice.
    """
    for name in names:
        if name not in sources:
            hint = did_you_mean(name, sources) or f"; known: {', '.join(sources)}"
            raise UserError(f"unknown data set {name!r}{hint}")
        if list(names).count(name) > 1:
            raise UserError(f"data set {name!r} is named twice; name each data set once")
    return tuple(source for name, source in sources.items() if not names or name in names)
