"""The committed results are those of the experiments in the code."""

import csv
import re
from pathlib import Path

from sycophancy.reproduction.experiments import experiments
from sycophancy.reproduction.families import FAMILIES

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results" / "mini"


def test_every_claim_of_the_code_was_decided_in_the_committed_results():
    with (RESULTS / "claims.csv").open(newline="") as file:
        committed = list(csv.DictReader(file))
    assert [(row["experiment"], row["claim"], row["expected"]) for row in committed] == [
        (experiment.key, claim.name, claim.where)
        for experiment in experiments(FAMILIES["mini"])
        for claim in experiment.claims
    ]
    assert not [row["claim"] for row in committed if row["verdict"] == "not run"]


def test_the_document_has_the_verdicts_of_the_page():
    page = (RESULTS / "report.html").read_text(encoding="utf-8")
    keys = re.findall(r'<tr data-experiment="([\w-]+)" data-verdict="(\w+)"', page)
    told = [row.split("|")[-2] for row in (DOCS / "reproduce.md").read_text().splitlines()
            if row.startswith(("| Fig.", "| App.", "| retention"))]  # fmt: skip
    words = {"agree": "agrees", "disagree": "disagrees", "undecided": "undecided"}
    own = [experiment.key for experiment in experiments(FAMILIES["mini"])][: len(told)]
    assert [key for key, _ in keys][: len(told)] == own
    for (key, verdict), cell in zip(keys, told, strict=False):
        assert cell.strip().startswith(words[verdict]), key
