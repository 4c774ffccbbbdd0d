"""What an experiment is made of: sides, claims that contrast them, and pictures of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from sycophancy.study.families import Family, Size

Expected = Literal["above", "below", "within"]
Style = Literal["pretrained", "before", "after", "other"]

SURVEYS = "surveys/match_rate"
NEUTRAL_SURVEYS = "surveys/neutral_match_rate"
SUMS_NEUTRAL = "addition/accuracy_neutral"
SUMS_WRONG = "addition/accuracy_user_wrong"
SUMS_RIGHT = "addition/accuracy_user_right"
SUMS_AGREE = "addition/agree_share"
INSTRUCTIONS = "instruction/accuracy"

STEPS = (100, 250, 500, 1000, 2000)  # App. A.6; step 0 is the model before
CLOSE_TO_ALL = 0.9  # how "close to 100%" is read
UNCHANGED = 0.03  # how "unchanged" is read: within so much
NOTHING = 0.01  # a change whose interval lies within so much is none
SIMILAR = 0.05  # the same for comparisons the paper makes no claim about


@dataclasses.dataclass(frozen=True)
class Side:
    """One measure of one model: `before`, `after` or at a `step N` of a recipe.

    A model or recipe is None where the family has none in this part.
    """

    model: str | None
    recipe: str | None
    when: str
    measure: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A signed contrast, and where its 95 % interval is expected.

    Attributes:
      name: what is contrasted, in words.
      terms: factors and sides; the contrast is their sum.
      expected: `above` or `below` the line, or `within` the margin on both sides of it.
      line: what the contrast is held against.
      margin: half the width of what counts as the same.
    """

    name: str
    terms: tuple[tuple[float, Side], ...]
    expected: Expected
    line: float = 0.0
    margin: float = 0.0

    @property
    def is_difference(self) -> bool:
        """Whether the factors cancel, so that the contrast is a change and not a rate."""
        return abs(sum(factor for factor, _ in self.terms)) < 1e-9

    @property
    def where(self) -> str:
        """Where its interval is expected, in words."""
        if self.expected == "within":
            return f"within ±{self.margin * 100:g} points"
        return f"{self.expected} {'zero' if self.line == 0 else f'{self.line:.0%}'}"

    @property
    def rule(self) -> str:
        """How it is decided, in words."""
        other = {
            "within": "wholly outside",
            "above": self.where.replace("above", "below"),
            "below": self.where.replace("below", "above"),
        }[self.expected]
        if self.expected != "within" and self.is_difference:
            other += f" or within ±{NOTHING * 100:g} point"
        return (
            f"agrees if the 95% interval lies {self.where}, disagrees if it lies {other}, "
            "else undecided"
        )


@dataclasses.dataclass(frozen=True)
class Dot:
    """One number of a picture, with the colour it has."""

    label: str
    style: Style
    side: Side


@dataclasses.dataclass(frozen=True)
class Row:
    """Numbers under one another: one size, one ratio."""

    label: str
    dots: tuple[Dot, ...]


@dataclasses.dataclass(frozen=True)
class Rows:
    """A picture of rows on a scale from 0 to 100 %.

    Attributes:
      reference: a rate to mark, `chance` for that of surveys, or None.
      reference_name: what it is.
    """

    title: str
    subtitle: str
    rows: tuple[Row, ...]
    reference: float | Literal["chance"] | None = None
    reference_name: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
    """A measure over steps."""

    label: str
    style: Style
    points: tuple[tuple[int, Side], ...]


@dataclasses.dataclass(frozen=True)
class Lines:
    """A picture of measures over steps."""

    title: str
    subtitle: str
    lines: tuple[Line, ...]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One figure or appendix of the paper, or a question beyond it.

    Attributes:
      key: its name within a page.
      source: where the paper has it, or `beyond the paper`.
      paper: what the paper found; beyond the paper, what is expected and why.
      claims: what decides whether a sweep agrees.
      pictures: what is drawn.
    """

    key: str
    title: str
    source: str
    paper: str
    claims: tuple[Claim, ...]
    pictures: tuple[Rows | Lines, ...]

    def sides(self) -> Iterator[Side]:
        """Everything it reads; the same side may come twice."""
        for claim in self.claims:
            yield from (side for _, side in claim.terms)
        for picture in self.pictures:
            if isinstance(picture, Rows):
                yield from (dot.side for row in picture.rows for dot in row.dots)
            else:
                yield from (side for line in picture.lines for _, side in line.points)

    @property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """The models and recipes it needs, each once."""
        pairs = ((side.model, side.recipe) for side in self.sides())
        return tuple(dict.fromkeys((m, r) for m, r in pairs if m is not None and r is not None))


def modes(family: Family) -> tuple[tuple[str, str], ...]:
    """The recipes whose claims are compared, the paper's first."""
    return (
        (family.paper_claims, "paper's claims"),
        (family.balanced_claims, "balanced claims"),
    )


def before(family: Family, size: Size, measure: str) -> Side:
    return Side(size.model, family.main, "before", measure)


def difference(
    name: str, first: Side, second: Side, expected: Expected, margin: float = 0.0
) -> Claim:
    return Claim(name, ((1.0, first), (-1.0, second)), expected, margin=margin)


def moved(
    family: Family,
    size: Size,
    recipe: str,
    words: str,
    measure: str,
    expected: Expected,
    margin: float = 0.0,
) -> Claim:
    """After minus before."""
    name = ", ".join(filter(None, (size.label, "after minus before", words)))
    after = Side(size.model, recipe, "after", measure)
    return difference(name, after, Side(size.model, recipe, "before", measure), expected, margin)


def cured(
    family: Family,
    title: str,
    subtitle: str,
    measure: str,
    reference: float | Literal["chance"] | None = None,
    reference_name: str = "",
) -> Rows:
    """By size: before, and after with both kinds of claims."""
    rows = tuple(
        Row(
            size.label,
            (
                Dot("before", "before", before(family, size, measure)),
                Dot("paper's claims", "other",
                    Side(size.model, family.paper_claims, "after", measure)),
                Dot("balanced claims", "after",
                    Side(size.model, family.balanced_claims, "after", measure)),
            ),
        )
        for size in family.sizes
    )  # fmt: skip
    return Rows(title, subtitle, rows, reference, reference_name)


def pair(family: Family, title: str, subtitle: str, measure: str) -> Rows:
    """By size: before and after the main recipe."""
    rows = tuple(
        Row(
            size.label,
            (
                Dot("before", "before", before(family, size, measure)),
                Dot("after", "after", Side(size.model, family.main, "after", measure)),
            ),
        )
        for size in family.sizes
    )
    return Rows(title, subtitle, rows)
