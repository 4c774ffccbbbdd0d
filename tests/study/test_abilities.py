"""MMLU and BIG-Bench Hard are an experiment where runs asked them, and only there."""

import numpy as np
import pytest
from fabricated_sweep import ask_abilities, fabricate
from scipy.stats import norm

from sycophancy.evaluation.retention import VARIANTS
from sycophancy.study.answers import Answers
from sycophancy.study.claims import UNCHANGED
from sycophancy.study.experiments import experiments
from sycophancy.study.families import FAMILIES
from sycophancy.study.index import read_sweep
from sycophancy.study.verdicts import outcomes

MINI = FAMILIES["mini"]
NAMES = [variant.name for variant in VARIANTS]
ROWS = 4000


def decided(folder):
    """The claims of the experiment that were run, by the name of their variant."""
    table = experiments(MINI, {variant.metric for variant in VARIANTS})
    own = [experiment for experiment in table if experiment.key == "abilities"]
    answers = Answers(read_sweep(folder), {side.measure for e in own for side in e.sides()})
    return {
        decision.claim.terms[0][1].measure.split("/")[1]: decision
        for decision in outcomes(own, answers)[0].decisions
        if decision.contrast
    }


def right(lost: int, gained: int):
    """Half of the rows right before; after, some of these are lost and some others gained."""

    def of(variant: str, side: str) -> np.ndarray:
        answers = np.arange(ROWS) < ROWS // 2
        if side == "after":
            answers[:lost] = False
            answers[ROWS // 2 : ROWS // 2 + gained] = True
        return answers

    return of


@pytest.fixture
def run(tmp_path):
    """A sweep of one run that was asked a few held-out items."""
    return fabricate(tmp_path, number=2, planned=[("mini_base", "demo")])


def test_nothing_else_changes_where_they_were_not_asked():
    assert experiments(MINI, {"addition/accuracy_neutral"}) == experiments(MINI)
    assert "abilities" not in [experiment.key for experiment in experiments(MINI)]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_each_variant_that_was_asked_has_claims_and_a_picture(family):
    asked = {VARIANTS[0].metric, VARIANTS[3].metric}
    table = experiments(family, asked)
    assert [e for e in table if e.key not in ("abilities", "retention")] == [
        e for e in experiments(family) if e.key != "retention"
    ]
    (own,) = (e for e in table if e.key == "abilities")
    assert {side.measure for side in own.sides()} == asked
    assert len(own.pictures) == 2
    assert len({claim.name for claim in own.claims}) == len(own.claims) == 4 * len(family.sizes)
    assert {(c.expected, c.margin, c.line) for c in own.claims} == {("within", UNCHANGED, 0.0)}
    ranges = {VARIANTS[0].metric: "-1.6 to +0.6", VARIANTS[3].metric: "-1.5 to +3.1"}
    for claim in own.claims:
        assert f"the paper: {ranges[claim.terms[0][1].measure]} points" in claim.name
    (instructions,) = (e for e in table if e.key == "retention")
    assert "Neither is asked" not in instructions.paper
    assert set(own.cells) <= {cell for e in experiments(family) for cell in e.cells}


@pytest.mark.parametrize(
    ("lost", "gained", "verdict"),
    [(60, 40, "agree"), (200, 80, "undecided"), (400, 20, "disagree"), (20, 400, "disagree")],
)
def test_the_change_is_that_of_pairs_and_decided_by_two_tests(run, lost, gained, verdict):
    """By hand: a row's change is -1, 0 or +1, and the mean of many is normal."""
    ask_abilities(run, right(lost, gained), NAMES[:1])
    (found,) = decided(run).values()
    change = (gained - lost) / ROWS
    error = ((lost + gained) / ROWS - change**2) ** 0.5 / ROWS**0.5
    contrast = found.contrast
    assert contrast.paired and contrast.n == ROWS
    assert contrast.value == pytest.approx(change)
    assert contrast.low == pytest.approx(change - 1.96 * error, abs=6e-4)
    assert contrast.high == pytest.approx(change + 1.96 * error, abs=6e-4)
    both = max(norm.sf((change + UNCHANGED) / error), norm.cdf((change - UNCHANGED) / error))
    assert found.tests[0].p_value == pytest.approx(both, abs=0.02)
    assert found.verdict == verdict


def test_a_variant_that_was_not_asked_is_not_run(run):
    ask_abilities(run, right(0, 0), NAMES[2:])
    assert set(decided(run)) == set(NAMES[2:])


def test_metrics_without_their_rows_are_compared_unpaired(run):
    ask_abilities(run, right(30, 30), NAMES[:1])
    for path in run.rglob("samples.parquet"):
        path.unlink()
    (found,) = decided(run).values()
    assert not found.contrast.paired
    half = 1.96 * (2 * 0.25 / ROWS) ** 0.5
    assert found.contrast.high == pytest.approx(half, abs=2e-3)


def test_damaged_rows_are_not_run(run):
    ask_abilities(run, right(30, 30), NAMES[:1])
    (path,) = run.glob("mini_base/demo/seed0/retention_after/samples.parquet")
    path.write_text("{")
    assert decided(run) == {}
