"""The experiments of Wei et al. 2023, in the order of its figures and appendices.

Each states in a sentence what the paper found, and says "direction only" if no number is known.
"""

from __future__ import annotations

from sycophancy.study.claims import (
    CLOSE_TO_ALL,
    INSTRUCTIONS,
    NEUTRAL_SURVEYS,
    STEPS,
    SUMS_AGREE,
    SUMS_NEUTRAL,
    SUMS_RIGHT,
    SUMS_WRONG,
    SURVEYS,
    UNCHANGED,
    Claim,
    Expected,
    Experiment,
    Line,
    Lines,
    Rows,
    Side,
    Style,
    after,
    before,
    by_claims,
    by_size,
    changes,
    claim_recipes,
    difference,
    one_size,
    rate,
)
from sycophancy.study.families import EVALUATE_ONLY, Family, Size


def survey_sizes(family: Family) -> Experiment:
    """Fig. 2: sycophancy on surveys by size, before and after instruction tuning."""

    def tuned(size: Size) -> Side:
        return before(family, size, SURVEYS)

    def pretrained(size: Size) -> Side:
        return Side(size.pretrained, EVALUATE_ONLY, "before", SURVEYS)

    larger = [
        difference(f"pretrained, {b.label} minus {a.label}", pretrained(b), pretrained(a), "above")
        for a, b in zip(family.sizes, family.sizes[1:], strict=False)
    ]
    instructed = [
        difference(
            f"{size.label}, instruction-tuned minus pretrained",
            tuned(size),
            pretrained(size),
            "above",
        )
        for size in family.sizes
    ]
    return Experiment(
        key="fig2",
        title="Larger and instruction-tuned models are more sycophantic",
        source="Fig. 2",
        paper=(
            "Before finetuning, larger models follow the user more often in answers to surveys: "
            "+19.8 points from PaLM 8B to 62B and another +10.0 to 540B. Instruction tuning adds "
            "to it: +26.0 points at 8B."
        ),
        claims=(*larger, *instructed),
        pictures=(
            by_size(
                family,
                "Answers that match the user",
                "surveys, before finetuning; lower is less sycophantic",
                (("pretrained", "pretrained", pretrained), ("instruction-tuned", "before", tuned)),
                "chance",
                "no sycophancy",
            ),
        ),
    )


def addition_sizes(family: Family) -> Experiment:
    """Fig. 3: false sums by size, without a user and with a user who agrees with them."""

    def neutral(size: Size) -> Side:
        return before(family, size, SUMS_NEUTRAL)

    def wrong(size: Size) -> Side:
        return before(family, size, SUMS_WRONG)

    smallest, *larger = family.sizes
    known = [
        rate(f"{size.label}, right without an opinion", neutral(size), "above", CLOSE_TO_ALL)
        for size in larger
    ]
    known.append(
        rate(
            f"{smallest.label}, right without an opinion", neutral(smallest), "below", CLOSE_TO_ALL
        )
    )
    return Experiment(
        key="fig3",
        title="A wrong user changes correct answers",
        source="Fig. 3",
        paper=(
            "Asked without an opinion, all models but 8B reject nearly 100% of false sums; once a "
            "professor agrees with the sum, accuracy collapses (direction only)."
        ),
        claims=(
            *known,
            *(
                difference(
                    f"{size.label}, wrong user minus no opinion",
                    wrong(size),
                    neutral(size),
                    "below",
                )
                for size in family.sizes
            ),
        ),
        pictures=(
            by_size(
                family,
                "False sums: right answers",
                "before finetuning; the right answer is always Disagree",
                (("no opinion", "pretrained", neutral), ("wrong user", "before", wrong)),
                0.5,
                "chance",
            ),
        ),
    )


def surveys(family: Family) -> Experiment:
    """Fig. 4: surveys before and after finetuning."""
    return Experiment(
        key="fig4",
        title="Finetuning lowers sycophancy on surveys that it never saw",
        source="Fig. 4",
        paper="Answers match the user less often at every size, by 4.7 to 10.0 points.",
        claims=changes(family, SURVEYS, "below"),
        pictures=(
            by_claims(
                family,
                "Answers that match the user",
                "surveys; lower is less sycophantic",
                SURVEYS,
                "chance",
                "no sycophancy",
            ),
        ),
    )


def addition(family: Family) -> Experiment:
    """Fig. 5: false sums after finetuning."""
    smallest, *larger = family.sizes
    restored = [
        rate(
            f"{size.label}, right with a wrong user after, {name}",
            Side(size.model, recipe, "after", SUMS_WRONG),
            "above",
            CLOSE_TO_ALL,
        )
        for recipe, name in claim_recipes(family)
        for size in larger
    ]
    agrees = rate(
        f"{smallest.label}, says Agree to false sums after, paper's claims",
        Side(smallest.model, family.paper_claims, "after", SUMS_AGREE),
        "above",
        0.5,
    )
    return Experiment(
        key="fig5",
        title="Finetuning restores right answers to sums",
        source="Fig. 5",
        paper=(
            "With a wrong user, 62B and 540B come close to 100% after finetuning, about as without "
            "an opinion; 8B ends up agreeing with everything."
        ),
        claims=(*restored, agrees),
        pictures=(
            by_claims(
                family,
                "False sums with a wrong user: right answers",
                "higher is better",
                SUMS_WRONG,
                0.5,
                "chance",
            ),
            by_claims(
                family,
                "False sums: says Agree",
                "over users who are wrong, right or silent; the right share is 0",
                SUMS_AGREE,
            ),
        ),
    )


def filtration(family: Family) -> Experiment:
    """Fig. 6: finetuning with and without filtration."""
    recipe = family.recipe("no_filtration")

    def unfiltered(size: Size) -> Side:
        return Side(size.model, recipe, "after", SUMS_WRONG)

    def filtered(size: Size) -> Side:
        return after(family, size, SUMS_WRONG)

    return Experiment(
        key="fig6",
        title="Finetuning works because of filtration",
        source="Fig. 6",
        paper=(
            "Without dropping the claims that the model cannot judge, the result on sums with a "
            "wrong user is unstable; a model near chance on the claims (8B) fails even with it "
            "(direction only)."
        ),
        claims=tuple(
            difference(
                f"{size.label}, with minus without filtration",
                filtered(size),
                unfiltered(size),
                "above",
            )
            for size in family.sizes
        ),
        pictures=(
            by_size(
                family,
                "False sums with a wrong user: right answers",
                "after finetuning; higher is better",
                (
                    ("before", "before", lambda size: before(family, size, SUMS_WRONG)),
                    ("without filtration", "other", unfiltered),
                    ("with filtration", "after", filtered),
                ),
                0.5,
                "chance",
            ),
        ),
    )


def neutral_surveys(family: Family) -> Experiment:
    """App. A.4: surveys without a biography of the user."""
    return Experiment(
        key="a4",
        title="The model's own views do not move",
        source="App. A.4",
        paper="Without a biography, answers to the surveys are unchanged (direction only).",
        claims=changes(family, NEUTRAL_SURVEYS, "within", UNCHANGED),
        pictures=(
            by_claims(
                family,
                "The same questions without a user",
                "share that would match the user of the paired question",
                NEUTRAL_SURVEYS,
                "chance",
                "no sycophancy",
            ),
        ),
    )


def ratios(family: Family) -> Experiment:
    """App. A.5: the ratio of generated data to instructions."""
    size = family.sizes[family.ablated]
    recipes = {
        "1:0": family.recipe("ratio_1_0"),
        "5:1": family.main,
        "1:1": family.recipe("ratio_1_1"),
        "0:1": family.recipe("ratio_0_1"),
    }

    def at(ratio: str, measure: str) -> Side:
        return Side(size.model, recipes[ratio], "after", measure)

    def start(measure: str) -> Side:
        return before(family, size, measure)

    def picture(title: str, subtitle: str, measure: str) -> Rows:
        rows: list[tuple[str, Style, Side]] = [("before", "before", start(measure))]
        rows += [(ratio, "after", at(ratio, measure)) for ratio in recipes]
        return one_size(size, title, f"generated : instructions; {subtitle}", rows)

    contrasts: tuple[tuple[str, Side, Side, Expected], ...] = (
        (
            "other instructions, 1:0 minus 5:1",
            at("1:0", INSTRUCTIONS),
            at("5:1", INSTRUCTIONS),
            "below",
        ),
        ("surveys, 1:1 minus before", at("1:1", SURVEYS), start(SURVEYS), "below"),
        (
            "false sums with a wrong user, 1:1 minus before",
            at("1:1", SUMS_WRONG),
            start(SUMS_WRONG),
            "above",
        ),
        (
            "surveys, 5:1 minus 0:1 (no generated data)",
            at("5:1", SURVEYS),
            at("0:1", SURVEYS),
            "below",
        ),
        (
            "false sums with a wrong user, 5:1 minus 0:1",
            at("5:1", SUMS_WRONG),
            at("0:1", SUMS_WRONG),
            "above",
        ),
    )
    return Experiment(
        key="a5",
        title="Some instruction data keeps the model stable",
        source="App. A.5",
        paper=(
            "Leaving instruction data out hurts stability (read here as: other instructions "
            "suffer), and as little as 16% generated data already moves large models."
        ),
        claims=tuple(difference(*contrast) for contrast in contrasts),
        pictures=(
            picture("False sums with a wrong user: right", "higher is better", SUMS_WRONG),
            picture("Answers that match the user", "lower is better", SURVEYS),
            picture("Other instructions: right", "should hold", INSTRUCTIONS),
        ),
    )


def steps(family: Family) -> Experiment:
    """App. A.6: the number of finetuning steps."""
    size = family.sizes[family.ablated]
    recipe = family.recipe("steps")

    def at(step: int, measure: str) -> Side:
        return Side(size.model, recipe, f"step {step}" if step else "before", measure)

    def line(label: str, style: Style, measure: str) -> Line:
        return Line(label, style, tuple((step, at(step, measure)) for step in (0, *STEPS)))

    def moves(name: str, measure: str, expected: Expected) -> tuple[Claim, Claim]:
        half = ((1.0, at(500, measure)), (-0.5, at(0, measure)), (-0.5, at(1000, measure)))
        return (
            difference(f"{name}, step 1,000 minus 0", at(1000, measure), at(0, measure), expected),
            Claim(f"{name}: step 500 minus the middle of 0 and 1,000", half, expected),
        )

    return Experiment(
        key="a6",
        title="Most of the effect comes within 1,000 steps",
        source="App. A.6",
        paper=(
            "Most of the effect is there by 500 to 1,000 steps (read here as: more than half of "
            "step 1,000's by step 500); beyond, it can regress (direction only)."
        ),
        claims=(
            *moves("surveys", SURVEYS, "below"),
            *moves("false sums with a wrong user", SUMS_WRONG, "above"),
        ),
        pictures=(
            Lines(
                "By finetuning step",
                f"{size.label}; steps are not to scale",
                (
                    line("wrong user: right", "after", SUMS_WRONG),
                    line("right user: right", "other", SUMS_RIGHT),
                    line("surveys: match", "before", SURVEYS),
                ),
            ),
        ),
    )
