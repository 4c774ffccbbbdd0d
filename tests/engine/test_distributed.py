"""How the processes of a run know of each other."""

import os
import subprocess
import sys

import pytest

from sycophancy.engine import distributed
from sycophancy.errors import UserError

SAID = {
    "SYCOPHANCY_COORDINATOR": "host:1234",
    "SYCOPHANCY_NUM_PROCESSES": "4",
    "SYCOPHANCY_PROCESS_ID": "3",
}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "7"},  # a job without srun
        {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
)
def test_one_process_meets_nobody(environment):
    processes = distributed.assemble(environment)
    assert (processes.leader, processes.size) == (True, 1)
    assert processes.broadcast(lambda: {"x": 1}) == {"x": 1}
    with pytest.raises(UserError, match="mine"):
        processes.broadcast(_raise)


def _raise():
    raise UserError("mine")


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        (SAID, {"coordinator_address": "host:1234", "num_processes": 4, "process_id": 3}),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "2"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}),
        ({"OMPI_COMM_WORLD_SIZE": "8"}, {}),
        ({"SYCOPHANCY_COORDINATOR": "auto"}, {}),  # a TPU pod's own metadata
    ],
)
def test_launchers_are_known(environment, arguments):
    assert distributed._arguments(environment) == arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SYCOPHANCY_PROCESS_ID": ""}, "set all of SYCOPHANCY_COORDINATOR"),
        ({"SYCOPHANCY_PROCESS_ID": "4"}, "is 4, expected 0 to 3"),
        ({"SYCOPHANCY_NUM_PROCESSES": "four"}, "must be whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        distributed.assemble({**SAID, **change})


def start(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from sycophancy.cli.main import main; main()", *map(str, words)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("JAX_PLATFORMS", "cpux", "JAX finds no devices with JAX_PLATFORMS=cpux: "),
        ("JAX_NUM_CPU_DEVICES", "many", 'Invalid value "many" for JAX flag jax_num_cpu_devices'),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=x", "Couldn't interpret value x"),
    ],
)
def test_devices_that_are_not_there_are_noticed_before_anything_is_prepared(
    tmp_path, variable, value, said
):
    words = ("filter", "--model", "mini_base", "--recipe", "quick", "--out", tmp_path / "run")
    done = start(*words, **{"XLA_FLAGS": "", variable: value})
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert said in line
    assert f"{variable}={value}" in line or variable in line.upper()
    assert "; " in line  # and the way out
    assert not (tmp_path / "run").exists()


def test_without_devices_data_can_be_prepared(micro, tmp_path):
    model = micro()
    recipe = model.with_name("micro_recipe.gin")
    words = ("prepare", "--model", model, "--recipe", recipe, "--out", tmp_path / "run")
    done = start(*words, JAX_PLATFORMS="cpux")
    assert done.returncode == 0, done.stderr
