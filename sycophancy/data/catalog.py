"""The 17 data sets of the intervention as one table (Wei et al. 2023, appendix B.2).

A data set is named here once: where it lives on the hub, its text fields in the order in which a
claim quotes them, its labels by the hub's name and by the protocol's. `sources.load_source` reads
any of them from any origin.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

from sycophancy.errors import UserError


@dataclasses.dataclass(frozen=True)
class Download:
    """A copy to take from the hub when the data set's own repository holds only a script."""

    hub_id: str
    revision: str
    label: str


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
      name: how this package calls it.
      hub_id: `owner/name`; a mirror's folder is `owner__name`.
      config: the hub's configuration, None where there is only one.
      revision: commit on the hub.
      texts: columns that a claim quotes, in this order.
      label: the label's column.
      labels: (hub's name, protocol's name) in the protocol's order. Labels are mapped by these
        names, never by number.
      validation: split for held-out rows. Rows that occur in train are dropped from it.
      download: another repository to read on the hub, with the same texts.
    """

    name: str
    hub_id: str
    config: str | None
    revision: str
    texts: tuple[str, ...]
    label: str
    labels: tuple[tuple[str, str], ...]
    validation: str = "validation"
    download: Download | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels as a claim words them."""
        return tuple(wording for _, wording in self.labels)


# Commits of the hub's main branches as of 2025; all of them hold parquet.
_GLUE = ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
_SUPER_GLUE = ("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646")
_TWEET_EVAL = ("cardiffnlp/tweet_eval", "b3a375baf0f409c77e6bc7aa35102b7b3534f8be")

_NEGATIVE, _NEUTRAL, _POSITIVE = "Negative Sentiment", "Neutral Sentiment", "Positive Sentiment"
_ENTAILMENT = ("entailment", "Entailment")
_NOT_ENTAILMENT = ("not_entailment", "Not Entailment")
_CONTRADICTION = ("contradiction", "Contradiction")
_NEITHER = ("neutral", "Neither Entailment Nor Contradiction")

_TABLE = (
    Source(
        name="sst2",
        hub_id="stanfordnlp/sst2",
        config=None,
        revision="8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        texts=("sentence",),
        label="label",
        labels=(("negative", _NEGATIVE), ("positive", _POSITIVE)),
    ),
    Source(
        name="rotten_tomatoes",
        hub_id="cornell-movie-review-data/rotten_tomatoes",
        config=None,
        revision="aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
        texts=("text",),
        label="label",
        labels=(("neg", _NEGATIVE), ("pos", _POSITIVE)),
    ),
    Source(
        "tweet_eval_sentiment",
        _TWEET_EVAL[0],
        config="sentiment",
        revision=_TWEET_EVAL[1],
        texts=("text",),
        label="label",
        labels=(("negative", _NEGATIVE), ("neutral", _NEUTRAL), ("positive", _POSITIVE)),
    ),
    Source(
        "tweet_eval_offensive",
        _TWEET_EVAL[0],
        config="offensive",
        revision=_TWEET_EVAL[1],
        texts=("text",),
        label="label",
        labels=(("non-offensive", "Not Offensive"), ("offensive", "Offensive")),
    ),
    Source(
        "tweet_eval_irony",
        _TWEET_EVAL[0],
        config="irony",
        revision=_TWEET_EVAL[1],
        texts=("text",),
        label="label",
        labels=(("non_irony", "Not Irony"), ("irony", "Irony")),
    ),
    Source(
        "qqp",
        _GLUE[0],
        config="qqp",
        revision=_GLUE[1],
        texts=("question1", "question2"),
        label="label",
        labels=(("not_duplicate", "Not Duplicate"), ("duplicate", "Duplicate")),
    ),
    Source(
        "mrpc",
        _GLUE[0],
        config="mrpc",
        revision=_GLUE[1],
        texts=("sentence1", "sentence2"),
        label="label",
        labels=(("not_equivalent", "Not Equivalent"), ("equivalent", "Equivalent")),
    ),
    Source(
        name="paws",
        hub_id="google-research-datasets/paws",
        config="labeled_final",
        revision="161ece9501cf0a11f3e48bd356eaa82de46d6a09",
        texts=("sentence1", "sentence2"),
        label="label",
        labels=(("0", "Different Meaning"), ("1", "Paraphrase")),
    ),
    Source(
        "rte",
        _SUPER_GLUE[0],
        config="rte",
        revision=_SUPER_GLUE[1],
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _NOT_ENTAILMENT),
    ),
    Source(
        "wnli",
        _GLUE[0],
        config="wnli",
        revision=_GLUE[1],
        texts=("sentence1", "sentence2"),
        label="label",
        labels=(_NOT_ENTAILMENT, _ENTAILMENT),
    ),
    Source(
        "qnli",
        _GLUE[0],
        config="qnli",
        revision=_GLUE[1],
        texts=("sentence", "question"),
        label="label",
        labels=(_ENTAILMENT, _NOT_ENTAILMENT),
    ),
    Source(
        "mnli",
        _GLUE[0],
        config="mnli",
        revision=_GLUE[1],
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _NEITHER, _CONTRADICTION),
        validation="validation_matched",
    ),
    Source(
        name="snli",
        hub_id="stanfordnlp/snli",
        config=None,
        revision="cdb5c3d5eed6ead6e5a341c8e56e669bb666725b",
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _NEITHER, _CONTRADICTION),
    ),
    Source(
        "cb",
        _SUPER_GLUE[0],
        config="cb",
        revision=_SUPER_GLUE[1],
        texts=("premise", "hypothesis"),
        label="label",
        labels=(_ENTAILMENT, _CONTRADICTION, _NEITHER),
    ),
    Source(
        name="trec",
        hub_id="CogComp/trec",
        config=None,
        revision="main",  # a loading script, which `datasets` no longer runs: see `download`
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
        validation="test",  # trec has no validation split; its test split is labelled
        # jsonl; numbers its coarse labels in another order, and gives the names as text too
        download=Download(
            "SetFit/TREC-QC", "0a34640b3cac3affef6f0abdfb81e3d0ecffcf92", "label_coarse_original"
        ),
    ),
    Source(
        name="ag_news",
        hub_id="fancyzhx/ag_news",
        config=None,
        revision="eb185aade064a813bc0b7f42de02595523103ca4",
        texts=("text",),
        label="label",
        labels=(
            ("World", "World"),
            ("Sports", "Sports"),
            ("Business", "Business"),
            ("Sci/Tech", "Science and Technology"),
        ),
        validation="test",  # ag_news has no validation split; its test split is labelled
    ),
    Source(
        "cola",
        _GLUE[0],
        config="cola",
        revision=_GLUE[1],
        texts=("sentence",),
        label="label",
        labels=(
            ("unacceptable", "Unacceptable Sentence"),
            ("acceptable", "Acceptable Sentence"),
        ),
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _TABLE}


def get_source(name: str) -> Source:
    """Looks a data set up by name.

    Raises:
      UserError: there is none of that name; the message suggests close ones.
    """
    if name in SOURCES:
        return SOURCES[name]
    close = difflib.get_close_matches(name, SOURCES, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(SOURCES)}"
    raise UserError(f"unknown data set {name!r}; {hint}")


def selected_names(names: Sequence[str]) -> tuple[str, ...]:
    """Checks a choice of data sets and puts it in the table's order; empty means all 17.

    Raises:
      UserError: an unknown name, or one named twice.
    """
    for name in names:
        get_source(name)
        if list(names).count(name) > 1:
            raise UserError(f"data set {name!r} is named twice; name each data set once")
    return tuple(name for name in SOURCES if not names or name in names)
