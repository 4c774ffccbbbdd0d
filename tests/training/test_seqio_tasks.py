"""A user's own module `tasks` does not disturb a run, and a run does not change it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from sycophancy.engine import imports
from sycophancy.training import seqio_tasks

PROGRAM = """
import sys
{first}
from sycophancy.training import feed
from sycophancy.training.t5x import recipe, batches
from sycophancy.training.seqio_tasks import tasks as ours
import seqio, tasks
assert tasks.OF_THE_USER and tasks is not ours
assert ours.get("sycophancy_mix_2to1") is seqio.get_mixture_or_task("sycophancy_mix_2to1")
assert feed.tasks is batches.tasks is ours and feed.tasks.location is ours.location
assert isinstance(recipe.vocabulary(), ours.features.RunVocabulary)
print(ours.__file__)
"""


@pytest.mark.parametrize(
    ("file", "first"),
    [
        pytest.param("tasks.py", "", marks=pytest.mark.slow),
        ("tasks/__init__.py", "import tasks"),
    ],
)
def test_a_users_tasks_module_and_ours_can_be_imported_in_one_process(tmp_path, file, first):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("OF_THE_USER = True\n")
    repository = Path(tasks.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{repository}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == Path(tasks.__file__)


def test_without_a_users_module_ours_is_imported_as_tasks():
    assert seqio_tasks.tasks is tasks


def test_the_tasks_count_among_the_code_of_a_finetuning():
    found = {path.name for path in imports.closure("sycophancy.training.trainer")}
    assert {"tokens.py", "mixtures.py", "shards.py"} <= found


def test_a_users_module_that_hides_a_dependency_is_an_error_of_one_line(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project/pyarrow.py").write_text("x = 1\n")
    repository = Path(tasks.__file__).parents[1]
    words = ["prepare", "--model", "mini_base", "--recipe", "quick", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-c", "from sycophancy.cli.main import main; main()", *words],
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'project'}{os.pathsep}{repository}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pyarrow" in line and "PYTHONPATH" in line
