"""SkyPilot's YAML has the documented fields, and every word reaches the run unchanged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sycophancy.errors import UserError
from sycophancy.launch import job, sky

yaml = pytest.importorskip("yaml", reason="PyYAML reads what was rendered")

ODD = (
    "it's",
    '"$HOME"',
    "`id`",
    "a  b",
    "\\",
    "*",
    "~",
    "#!",
    "é: x",
    "- a",
    "a;b|c&d>e",
    "{}",
    "",
)
RECORD = """import json, os, sys
variables = {k: v for k, v in os.environ.items() if k.startswith("SYCOPHANCY_")}
json.dump([sys.argv[1:], variables], open("ran", "w"))
"""


def render(words=("run", *ODD), sweeps=(), source="/it's $HOME: #1", **given) -> job.Script:
    given = {"accelerators": "H100:8", "bucket": "gs://b/x"} | given
    return sky.render("xl", job.plan_runs("xl", words, sweeps), sky.Machines(**given), Path(source))


def stand_in(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    path.chmod(0o755)


def run(script: job.Script, workdir: Path, **environment: str) -> list:
    """What SkyPilot does on a machine: the envs, then `run` in the synchronised folder."""
    task = yaml.safe_load(script.text)
    stand_in(workdir / ".venv/bin/sycophancy", RECORD)
    done = subprocess.run(
        ["bash", "-c", task["run"]],
        cwd=workdir,
        env={"PATH": f"{workdir / 'bin'}:/usr/bin:/bin", **task["envs"], **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((workdir / "ran").read_text())


def test_the_yaml_has_the_requested_fields():
    task = yaml.safe_load(render(nodes=2, infra="gcp/us-central1", spot=False, restarts=5).text)
    scripts = task.pop("setup") + task.pop("run")
    assert "resumable .venv/bin/sycophancy" in scripts
    assert task == {
        "name": "xl",
        "workdir": "/it's $HOME: #1",
        "num_nodes": 2,
        "resources": {
            "accelerators": "H100:8",
            "infra": "gcp/us-central1",
            "use_spot": False,
            "disk_size": 256,
            "job_recovery": {"max_restarts_on_errors": 5, "recover_on_exit_codes": [75]},
        },
        "envs": {"SYCOPHANCY_RUN": "0"},
    }


def test_a_run_with_t5x_has_the_bucket_mounted():
    task = yaml.safe_load(render(("run", "--model", "m", "--trainer", "t5x")).text)
    assert task["file_mounts"] == {"/sycophancy-runs": {"source": "gs://b/x", "mode": "MOUNT"}}
    assert "mounted=yes" in task["setup"]


def test_skypilot_accepts_the_yaml(tmp_path):
    skypilot = pytest.importorskip("sky", reason="SkyPilot is not installed")
    (tmp_path / "xl.yaml").write_text(render(source=str(tmp_path)).text)
    task = skypilot.Task.from_yaml(str(tmp_path / "xl.yaml"))
    assert task.num_nodes == 1


def test_every_word_reaches_the_run_unchanged(tmp_path):
    words, environment = run(render(), tmp_path)
    assert words == ["run", *ODD, "--out", "gs://b/x/xl"]
    assert environment == {"SYCOPHANCY_RUN": "0"}


def test_several_nodes_get_the_variables_of_a_shared_run(tmp_path):
    nodes = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    nodes["SKYPILOT_NODE_IPS"] = "10.0.0.7\n10.0.0.8"
    assert run(render(nodes=2), tmp_path, **nodes)[1] == {
        "SYCOPHANCY_RUN": "0",
        "SYCOPHANCY_COORDINATOR": "10.0.0.7:8476",
        "SYCOPHANCY_NUM_PROCESSES": "2",
        "SYCOPHANCY_PROCESS_ID": "1",
    }


def test_hosts_of_a_tpu_have_the_tpus_numbers(tmp_path):
    answers = {"worker-network-endpoints": "a:1:10.0.0.1,b:1:10.0.0.2", "agent-worker-number": "0"}
    curl = f"import sys\nprint({answers!r}[sys.argv[-1].rpartition('/')[2]])"
    stand_in(tmp_path / "bin/curl", curl)
    nodes = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "x\ny"}
    script = render(accelerators="tpu-v4-16", runtime="tpu-ubuntu2204-base")
    arguments = yaml.safe_load(script.text)["resources"]["accelerator_args"]
    assert arguments == {"runtime_version": "tpu-ubuntu2204-base"}
    assert run(script, tmp_path, **nodes)[1] == {
        "SYCOPHANCY_RUN": "0",
        "SYCOPHANCY_COORDINATOR": "10.0.0.1:8482",
        "SYCOPHANCY_NUM_PROCESSES": "2",
        "SYCOPHANCY_PROCESS_ID": "0",
    }


def test_a_sweep_is_one_job_for_each_run(tmp_path):
    script = render(("run", "--model", "m"), ["SEED=4,5"])
    assert [command[5:9] for command in script.commands] == [
        ("--name", "xl-0", "--env", "SYCOPHANCY_RUN=0"),
        ("--name", "xl-1", "--env", "SYCOPHANCY_RUN=1"),
    ]
    words, _ = run(script, tmp_path, SYCOPHANCY_RUN="1")
    assert words == ["run", "--model", "m", "--seed", "5", "--out", "gs://b/x/xl-seed5"]


def setup_of(script, tmp_path) -> list[str]:
    """What uv is asked, a line each."""
    stand_in(tmp_path / "bin/uv", "import sys\nprint(*sys.argv[1:], sep='|')")
    done = subprocess.run(
        ["bash", "-c", yaml.safe_load(script.text)["setup"]],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(("accelerators", "extra"), [("H100:8", "gpu"), ("tpu-v4-8", "tpu")])
def test_setup_installs_for_the_accelerator(tmp_path, accelerators, extra):
    asked = setup_of(render(accelerators=accelerators), tmp_path)
    assert asked[-1].endswith(f"--constraint|requirements.lock|.[{extra},gcs]")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("swept", "extras"), [(["SEED=0,1"], "gpu"), (["TRAINER=t5x,jax"], "gpu,gcs")]
)
def test_setup_installs_t5x_where_a_run_names_it(tmp_path, swept, extras):
    trainer = () if "TRAINER" in swept[0] else ("--trainer", "t5x")
    asked = setup_of(render(("run", "--model", "m", *trainer), swept), tmp_path)
    assert asked[-1].endswith("--no-deps|--requirement|requirements-t5x.txt")
    assert asked[-2].endswith(f".[{extras}]")
    assert (tmp_path / "runs").is_symlink()  # T5X writes no bucket


def test_go_submits_every_run(sycophancy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    record = "import json, sys\nprint(json.dumps(sys.argv[1:]), file=open('sky', 'a'))"
    words = ("launch", "sky", "--name", "xl", "--accelerators", "A100:1", "--bucket", "s3://b")
    words = (*words, "--sweep", "SEED=0,1", "--go", "--", "run", "--model", "m")
    outcome = sycophancy(*words)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "install SkyPilot" in outcome.err
    stand_in(tmp_path / "bin/sky", record)
    outcome = sycophancy(*words)
    assert outcome.code == 0
    assert "sky jobs logs" in outcome.err
    calls = [json.loads(line) for line in (tmp_path / "sky").read_text().splitlines()]
    assert [call[:4] for call in calls] == [["jobs", "launch", "--yes", "--detach-run"]] * 2
    assert [call[-2:] for call in calls] == [
        [f"SYCOPHANCY_RUN={number}", "runs/launch/xl.yaml"] for number in (0, 1)
    ]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"bucket": "b"}, "expected gs://"),
        ({"bucket": "gs://a b"}, "no spaces"),
        ({"accelerators": "H100: 8"}, "no spaces"),
        ({"accelerators": "tpu-v4-32", "nodes": 2}, "one node to SkyPilot"),
        ({"words": ("run", "--out", "x")}, "--name instead"),
    ],
)
def test_bad_input_is_refused(given, problem):
    with pytest.raises(UserError, match=problem):
        render(**given)


def test_shellcheck_finds_nothing(tmp_path):
    where = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if (shellcheck := shutil.which("shellcheck", path=where)) is None:
        pytest.skip("shellcheck is not installed")
    task = yaml.safe_load(render(("run",)).text)
    for part in ("setup", "run"):
        (tmp_path / part).write_text(task[part])
        done = subprocess.run(
            [shellcheck, "--shell=bash", tmp_path / part], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
