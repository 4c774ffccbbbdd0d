"""`make check` runs the tests that a change can affect, the nearest first, within its budget."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INTERVALS = ROOT / "sycophancy/evaluation/intervals.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check", ROOT / "scripts/check_changed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(tests) -> set[str]:
    return {str(path.relative_to(ROOT / "tests")) for path in tests}


def test_a_changed_module_affects_the_tests_that_import_it_at_any_distance(script):
    affected = script.affected({INTERVALS})
    by_name = {str(path.relative_to(ROOT / "tests")): near for path, near in affected.items()}
    assert by_name["evaluation/test_intervals.py"] == 1
    assert by_name["stages/test_stages.py"] > 1
    assert "system/test_lock.py" not in by_name


def test_a_changed_test_helper_affects_the_tests_that_import_it(script):
    affected = names(script.affected({ROOT / "tests/prepared_run.py"}))
    assert {"tasks/test_mixing.py", "training/test_feed.py"} <= affected
    assert "evaluation/test_intervals.py" not in affected


def test_a_changed_template_affects_the_tests_of_the_modules_beside_it(script):
    affected = names(script.affected({ROOT / "sycophancy/launch/templates/slurm.sh"}))
    assert "launch/test_launch_job.py" in affected
    assert "evaluation/test_intervals.py" not in affected


def test_a_test_that_asks_for_the_command_line_is_affected_by_its_modules(script):
    affected = names(script.affected({ROOT / "sycophancy/cli/doctor.py"}))
    assert "cli/test_bad_input.py" in affected


def test_the_nearest_tests_run_first_and_the_budget_holds(script):
    near, far, slow = (ROOT / f"tests/test_{name}.py" for name in ("near", "far", "slow"))
    known = {
        "tests/test_near.py::test_a": 9.0,
        "tests/test_near.py::test_b": 1.0,
        "tests/test_far.py::test_a": 1.0,
        "tests/test_slow.py::test_a": script.BUDGET,
    }
    run, left = script.chosen({far: 3, near: 1, slow: 2}, known)
    assert run == [near, far]
    assert left == [slow]
