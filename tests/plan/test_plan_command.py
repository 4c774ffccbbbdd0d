"""The command `plan`."""

import subprocess
import sys

import pytest

from sycophancy.plan import request


def test_the_memory_of_gpus_is_estimated(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_xl", "--topology", "h100:8", "--mesh", "fsdp=8")
    assert done.code == 0
    assert "estimate" in done.out
    assert "fits: yes" in done.out


def test_a_run_that_does_not_fit_lists_the_ways_out(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_xxl", "--topology", "h100:4")
    assert "fits: NO" in done.out
    assert "--mesh data=-1,fsdp=4,model=1" in done.out
    assert "REMAT_POLICY='full'" in done.out


def test_a_batch_that_cannot_be_shared_is_refused(sycophancy):
    done = sycophancy("plan", "--model", "flan_t5_small", "--topology", "v4:4x4x8")
    assert done.code == 2
    assert "BATCH_SIZE 64" in done.err
    assert "model" in done.err


def test_without_libtpu_one_line_says_what_to_install(sycophancy, monkeypatch):
    monkeypatch.setattr(request.importlib.util, "find_spec", lambda name: None)
    done = sycophancy("plan", "--model", "flan_t5_small", "--topology", "v4-32")
    assert done.code == 2
    assert done.err.strip().count("\n") == 0
    assert "pip install -e '.[plan]'" in done.err


@pytest.mark.parametrize(
    ("given", "missing"), [("--model", "--topology"), ("--topology", "--model")]
)
def test_model_and_topology_are_required(sycophancy, given, missing):
    done = sycophancy("plan", given, {"--model": "mini_base", "--topology": "v4-8"}[given])
    assert done.code == 2
    assert done.err == f"sycophancy: Missing option '{missing}'.\n"


def test_the_command_line_imports_no_jax():
    code = "import sys, sycophancy.cli.main; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
