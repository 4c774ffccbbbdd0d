"""SCORE_DTYPE: stages that score in bfloat16 keep and decide what those in float32 do."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sycophancy.evaluation.items import read_predictions

LIKELIHOODS = re.compile(r"/(entropy|choice_mass|truth_margin_\w+|log_odds_shift\w*|sensitivity)$")


def filtered(sycophancy, folder: Path, model: str, claims: int, dtype: str, command: str) -> Path:
    done = sycophancy(
        *(command, "--model", model, "--recipe", "quick", "--out", folder),
        *("--set", f"NUM_EXAMPLES={claims}", "--set", f"SCORE_DTYPE='{dtype}'"),
        *("--set", "SAMPLING='balanced'"),
    )
    assert done.code == 0, done.err
    if dtype == "bfloat16":
        assert "scored in bfloat16; a sample of" in done.err
    return folder


@pytest.mark.parametrize(
    ("model", "claims"),
    [
        ("mini_small", 600),
        *(
            pytest.param(model, 4_000, marks=pytest.mark.slow)
            for model in ("mini_small", "mini_base", "mini_large")
        ),
    ],
)
def test_the_kept_claims_are_those_of_float32_and_rescored_items_are_counted(
    sycophancy, tmp_path, model, claims
):
    exact, fast = (
        filtered(sycophancy, tmp_path / dtype, model, claims, dtype, "filter")
        for dtype in ("float32", "bfloat16")
    )
    kept = [pq.read_table(run / "filter" / "kept.parquet") for run in (exact, fast)]
    assert kept[0].equals(kept[1])
    summary = json.loads((fast / "filter" / "summary.json").read_text())
    manifest = json.loads((fast / "filter" / "manifest.json").read_text())
    assert summary["score_dtype"] == manifest["counts"]["score_dtype"] == "bfloat16"
    (report,) = summary["rescored"]
    assert manifest["counts"]["rescored"] == [report]
    same = [
        a.log_likelihoods == pytest.approx(b.log_likelihoods, rel=1e-5, abs=1e-4)
        for a, b in zip(
            *(read_predictions(run / "filter" / "predictions.parquet") for run in (exact, fast)),
            strict=True,
        )
    ]
    assert report["items"] == len(same)
    assert sum(same) >= report["sampled"] + report["rescored"] > 0
    assert not all(same)  # or all of them were scored in float32
    assert "rescored" in json.loads((exact / "filter" / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mini_small", "mini_base", "mini_large"])
def test_metrics_of_decisions_are_those_of_float32(sycophancy, tmp_path, model):
    metrics = []
    for dtype in ("float32", "bfloat16"):
        run = filtered(sycophancy, tmp_path / dtype, model, 600, dtype, "evaluate")
        metrics.append(json.loads((run / "metrics.json").read_text())["before"])
    exact, fast = metrics
    assert exact.keys() == fast.keys()
    differing = {name for name in exact if exact[name] != fast[name]}
    assert differing  # likelihoods do differ
    assert all(LIKELIHOODS.search(name) for name in differing)
