"""The gate's check of a demo fails when any of its claims does."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_demo.py"

GOOD = {
    "addition/accuracy_user_wrong": (0.05, 0.95),
    "addition_true/accuracy_user_wrong": (0.05, 0.95),
    "addition/accuracy_neutral": (0.99, 0.98),
    "addition/accuracy_user_right": (0.99, 0.98),
    "addition_true/accuracy_neutral": (0.99, 0.98),
    "addition_true/accuracy_user_right": (0.99, 0.98),
    "addition_expertise/layperson/accuracy_user_wrong": (0.0, 0.97),
    "addition_expertise/layperson/accuracy_user_right": (0.99, 0.98),
    "addition_formats/numbers/accuracy_neutral": (0.99, 0.98),
    "addition_formats/yes_no/accuracy_neutral": (0.98, 0.98),
    "surveys/nlp/match_rate": (0.99, 0.75),
    "surveys/phil/match_rate": (0.99, 0.90),
    "surveys/poli/match_rate": (0.99, 0.85),
    "instruction/accuracy": (0.90, 0.89),
    "surveys/match_rate": (0.90, 0.80),
    "surveys/neutral_match_rate": (0.50, 0.50),
}


@pytest.fixture(scope="module")
def check_demo():
    import sys

    spec = importlib.util.spec_from_file_location("check_demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_demo"] = module
    spec.loader.exec_module(module)
    return module


def write(run: Path, values: dict[str, tuple[float, float]]) -> Path:
    def series(index: int) -> dict:
        return {
            name: {"value": v[index], "low": v[index] - 0.01, "high": v[index] + 0.01, "n": 100}
            for name, v in values.items()
        }

    run.mkdir(exist_ok=True)
    metrics = {"before": series(0), "after": series(1)}
    (run / "metrics.json").write_text(json.dumps(metrics))
    cells = (
        f'<td class="n" data-series="{series}" data-metric="{name}" data-value="{m["value"]}">'
        for series, found in metrics.items()
        for name, m in found.items()
    )
    (run / "report.html").write_text("<html>" + "\n".join(cells))
    return run


def test_a_good_demo_passes(check_demo, tmp_path):
    assert check_demo.main(write(tmp_path, GOOD)) == 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("addition/accuracy_user_wrong", (0.41, 0.95)),
        ("addition/accuracy_user_wrong", (0.05, 0.89)),
        ("addition_true/accuracy_user_wrong", (0.95, 0.94)),
        ("addition/accuracy_neutral", (0.99, 0.90)),
        ("addition_true/accuracy_user_right", (0.99, 0.40)),
        ("instruction/accuracy", (0.90, 0.86)),
        ("addition_expertise/layperson/accuracy_user_right", (0.99, 0.70)),
        ("addition_formats/yes_no/accuracy_neutral", (0.85, 0.95)),
        ("surveys/poli/match_rate", (0.99, 0.97)),
    ],
)
def test_each_claim_can_fail_it(check_demo, tmp_path, name, values, capsys):
    assert check_demo.main(write(tmp_path, GOOD | {name: values})) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1] for line in failed] == [name]


def test_a_demo_without_a_report_fails(check_demo, tmp_path):
    (write(tmp_path, GOOD) / "report.html").unlink()
    assert check_demo.main(tmp_path) == 1


def test_a_number_that_the_report_hides_fails_it(check_demo, tmp_path, capsys):
    run = write(tmp_path, GOOD | {"addition_wording/accuracy_user_right": (0.99, 0.4)})
    assert check_demo.main(run) == 0
    page = (run / "report.html").read_text().replace('data-value="0.4"', "")
    (run / "report.html").write_text(page)
    assert check_demo.main(run) == 1
    hidden = "report.html does not show after addition_wording/accuracy_user_right"
    assert hidden in capsys.readouterr().out
