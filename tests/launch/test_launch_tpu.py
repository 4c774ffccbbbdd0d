"""The TPU script with a stand-in for gcloud: it creates, runs on every host, fetches, deletes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sycophancy.errors import UserError
from sycophancy.launch import job, tpu

# A cloud in a folder: one folder a TPU, in it one home a host. It does what gcloud would do with
# the words it is given, refuses words it does not know, and fails where a file says so.
GCLOUD = r"""
import json, os, pathlib, shutil, signal, subprocess, sys
cloud = pathlib.Path(os.environ["CLOUD"])
words = sys.argv[1:]
with (cloud / "calls").open("a") as log:
    log.write(json.dumps(words) + "\n")
if words[0] == "storage":
    assert words[1] == "rsync" and words[4:] == [
        "--recursive", "--exclude=finetune/checkpoints/.*"], words
    assert words[2].startswith("gs://"), words
    source = cloud / words[2].removeprefix("gs://")
    pathlib.Path(words[3], "report.html").write_text((source / "report.html").read_text())
    sys.exit(0)
assert words[:2] == ["compute", "tpus"], words
group, verb, rest = words[2], words[3], words[4:]
flags = dict(w[2:].partition("=")[::2] for w in rest if w.startswith("--"))
names = [w for w in rest if not w.startswith("--")]
known = {
    "create": {"accelerator-type", "version", "runtime-version", "node-id", "spot"},
    "describe": {"format"}, "delete": {"force"}, "ssh": {"worker", "command"}, "scp": {"worker"},
}[verb] | {"zone", "project", "quiet"}
assert set(flags) <= known, flags
assert flags["zone"] == "us-central2-b", flags
def fails(what):
    file = cloud / f"fail-{what}"
    if not file.exists():
        return False
    left = int(file.read_text() or "1") - 1
    file.write_text(str(left)) if left else file.unlink()
    return True
name = names[0].split(":")[0] if verb != "scp" else [n for n in names if ":" in n][0].split(":")[0]
place = cloud / group / name
vm = cloud / "tpu-vm" / name
def make():
    for worker in range(int(os.environ.get("HOSTS", "4"))):
        (vm / str(worker)).mkdir(parents=True)
def end():  # its processes end with it, or they would go on writing into the folder
    gone = vm.rename(cloud / f"gone-{os.getpid()}")
    for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HOME={vm}/".encode() in file.read_bytes():
                os.kill(int(file.parent.name), signal.SIGKILL)
        except OSError:
            pass  # it has ended, or is another user's
    shutil.rmtree(gone, ignore_errors=True)
def remote(worker, command):
    home = vm / worker
    return subprocess.run(["bash", "-c", command], cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "WORKER": worker,
             "CLOUD": str(cloud)})
if verb == "create":
    if fails("create"):
        sys.exit("ERROR: no capacity")
    if fails("create-half"):
        make()
        sys.exit("ERROR: it broke off")
    place.mkdir(parents=True, exist_ok=True)
    if not any(vm.iterdir()) if vm.exists() else True:
        make()
elif verb == "describe":
    if not place.exists():
        sys.exit("ERROR: (gcloud.x) NOT_FOUND: no " + name)
    print("ACTIVE" if group == "queued-resources" else "READY")
elif verb == "delete":
    if fails("delete"):
        sys.exit("ERROR: try later")
    if not place.exists():
        sys.exit("ERROR: NOT_FOUND")
    end() if place == vm else shutil.rmtree(place)
    if group == "queued-resources" and vm.exists():
        end()
elif not vm.exists():
    sys.exit("ERROR: NOT_FOUND")
else:
    workers = [flags["worker"]]
    if workers == ["all"]:
        workers = sorted(p.name for p in vm.iterdir())
    if fails(verb):
        sys.exit("ERROR: connection refused")
    if verb == "ssh":
        begun = (cloud / "ran-0").exists() and (cloud / "ran-0").stat().st_size
        if "status" in flags["command"] and begun and fails("taken"):
            end()
            sys.exit("ERROR: gone")
        sys.exit(max(remote(worker, flags["command"]).returncode for worker in workers))
    *sources, target = names
    for worker in workers:
        for source in sources:
            if ":" in target:
                shutil.copy(source, vm / worker / target.partition(":")[2])
            else:
                shutil.copy(vm / worker / source.partition(":")[2], target)
"""
# uv "installs" a sycophancy that records what it was called with, and writes a report.
UV = r"""
case "$1" in
  venv) mkdir -p .venv/bin ;;
  pip) cp "$CLOUD/sycophancy" .venv/bin/sycophancy ;;
esac
"""
SYCOPHANCY = r"""
import json, os, pathlib, sys
cloud, worker = pathlib.Path(os.environ["CLOUD"]), os.environ["WORKER"]
variables = {k: v for k, v in os.environ.items() if k.startswith("SYCOPHANCY_")}
with (cloud / f"ran-{worker}").open("a") as log:
    log.write(json.dumps([sys.argv[1:], variables]) + "\n")
if "--out" in sys.argv:
    folder = cloud / sys.argv[sys.argv.index("--out") + 1].removeprefix("gs://")
else:
    folder = pathlib.Path("runs", sys.argv[sys.argv.index("--name") + 1])
(folder / "finetune" / "checkpoints").mkdir(parents=True, exist_ok=True)
(folder / "finetune" / "checkpoints" / "weights").write_text("big")
(folder / "report.html").write_text("report")
if worker == "1" and (cloud / "code").exists():
    codes = (cloud / "code").read_text().split()
    (cloud / "code").write_text(" ".join(codes[1:]) or "0")
    sys.exit(int(codes[0]))
"""
CURL = r"""
case "$*" in
  *endpoints) echo 'a:8470:10.0.0.1,b:8470:10.0.0.2,c:8470:10.0.0.3,d:8470:10.0.0.4' ;;
  *agent-worker-number) echo "$WORKER" ;;
  *) exit 22 ;;
esac
"""
ODD = ("it's", '"$HOME"', "`id`", "$(id)", "a  b", "\\", "*", "~", "#!", "é", "a;b|c&d>e", "-n", "")


def stand_in(path: Path, text: str, program: str = "/bin/bash") -> None:
    path.write_text(f"#!{program}\n{text}")
    path.chmod(0o755)


class Cloud:
    """The stand-ins, and what they recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "cloud", folder / "bin"
        self.here = folder / "here"
        for place in (self.folder, self.bin, self.here):
            place.mkdir()
        stand_in(self.bin / "gcloud", GCLOUD, f"{sys.executable} -IS")
        stand_in(self.bin / "uv", UV)
        stand_in(self.bin / "curl", CURL)
        stand_in(self.bin / "mountpoint", "exit 1\n")
        stand_in(self.bin / "gcsfuse", 'printf "%s\\n" "$@" > "$CLOUD/gcsfuse"\n')
        stand_in(self.folder / "sycophancy", SYCOPHANCY, f"{sys.executable} -IS")
        self.source = folder / "source of it"
        self.source.mkdir()
        for name in ("pyproject.toml", "requirements.lock", "$odd 'name'"):
            (self.source / name).write_text(name)

    def run(self, script: job.Script, *, hosts: int = 4, timeout: float = 60):
        path = job.write(script, self.here / "tpu.sh")
        return subprocess.run(
            ["bash", path],
            cwd=self.here,
            env={
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "CLOUD": str(self.folder),
                "HOSTS": str(hosts),
                "LAUNCH_POLL_SECONDS": "0.1",
                "TMPDIR": str(self.folder),
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def calls(self, verb: str) -> list[list[str]]:
        lines = map(json.loads, (self.folder / "calls").read_text().splitlines())
        return [words for words in lines if words[3] == verb]

    def ran(self, worker: int) -> list:
        file = self.folder / f"ran-{worker}"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def fail(self, what: str, times: int = 1) -> None:
        (self.folder / f"fail-{what}").write_text(str(times))

    def exists(self) -> bool:
        return any(
            (self.folder / group / "xl").exists() for group in ("tpu-vm", "queued-resources")
        )


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    made = Cloud(tmp_path)
    monkeypatch.chdir(made.here)
    return made


WORDS = ("run", "--model", "flan_t5_xl", *ODD, "--name", "xl")
IN_BUCKET = (*WORDS[:-2], "--out", "gs://b/runs/xl")


def render(cloud, words=WORDS, sweeps=(), **given):
    given = {"accelerator": "v4-32", "zone": "us-central2-b", "bucket": "gs://b/runs"} | given
    runs = job.plan_runs("xl", words, sweeps)
    return tpu.render("xl", runs, tpu.Slice(**given), cloud.source)


def test_the_script_creates_runs_on_every_host_fetches_and_deletes(cloud):
    done = cloud.run(render(cloud, project="my-project", spot=True))
    assert done.returncode == 0, done.stderr
    (create,) = cloud.calls("create")
    assert create[2:6] == ["tpu-vm", "create", "xl", "--accelerator-type=v4-32"]
    assert create[6:8] == ["--version=tpu-ubuntu2204-base", "--spot"]
    assert create[8:] == ["--zone=us-central2-b", "--project=my-project", "--quiet"]
    for worker in range(4):  # every host, with every odd word as it was, and its own number
        assert cloud.ran(worker) == [
            [
                list(IN_BUCKET),
                {
                    "SYCOPHANCY_COORDINATOR": "10.0.0.1:8482",
                    "SYCOPHANCY_NUM_PROCESSES": "4",
                    "SYCOPHANCY_PROCESS_ID": str(worker),
                },
            ]
        ]
    assert (cloud.here / "runs/xl/report.html").read_text() == "report"
    assert (cloud.here / "runs/xl/launch.log").exists()
    assert not (cloud.here / "runs/xl/finetune/checkpoints").exists()  # they are in the bucket
    assert not (cloud.folder / "gcsfuse").exists()
    assert len(cloud.calls("delete")) == 1
    assert not cloud.exists()


def test_the_checkpoint_of_one_host_is_fetched_without_a_bucket(cloud):
    script = render(cloud, accelerator="v4-8", bucket=None)
    done = cloud.run(script, hosts=1)
    assert done.returncode == 0, done.stderr
    assert cloud.ran(0) == [[list(WORDS), {}]]
    assert (cloud.here / "runs/xl/finetune/checkpoints/weights").exists()
    assert not (cloud.folder / "gcsfuse").exists()


def test_a_sweep_lies_in_the_bucket(cloud):
    done = cloud.run(render(cloud, ("sweep", "--models", "mini_base", "--name", "xl")))
    assert done.returncode == 0, done.stderr
    assert cloud.ran(0)[0][0] == ["sweep", "--models", "mini_base", "--out", "gs://b/runs/xl"]
    assert not (cloud.folder / "gcsfuse").exists()
    assert (cloud.here / "runs/xl/report.html").exists()
    assert not (cloud.here / "runs/xl/finetune/checkpoints").exists()


def test_hosts_of_a_run_with_t5x_install_it_and_have_the_bucket_mounted(cloud):
    stand_in(cloud.bin / "uv", 'echo "$@" >> "$CLOUD/uv-$WORKER"\n' + UV)
    words = ("run", "--model", "m", "--trainer", "t5x", "--name", "xl")
    done = cloud.run(render(cloud, words))
    assert done.returncode == 0, done.stderr
    assert cloud.ran(3)[0][0] == list(words)
    for worker in range(4):
        installed = (cloud.folder / f"uv-{worker}").read_text().splitlines()[-1]
        assert installed.endswith("--no-deps --requirement requirements-t5x.txt")
    assert (cloud.folder / "gcsfuse").exists()


def test_the_hosts_install_the_checkout(cloud):
    done = cloud.run(render(cloud, keep=True))
    assert done.returncode == 0, done.stderr
    assert (cloud.folder / "tpu-vm/xl/3/sycophancy/$odd 'name'").exists()


def test_a_sweep_uses_one_tpu_for_all_its_runs(cloud):
    words = ("run", "--model", "mini_base")
    done = cloud.run(render(cloud, words, ["SEED=0,1"]))
    assert done.returncode == 0, done.stderr
    assert [ran[0][-3:] for ran in cloud.ran(2)] == [
        ["0", "--out", "gs://b/runs/xl-seed0"],
        ["1", "--out", "gs://b/runs/xl-seed1"],
    ]
    assert len(cloud.calls("create")) == 1
    assert (cloud.here / "runs/xl-seed1/report.html").exists()


@pytest.mark.parametrize("how", ["create", "create-half"])
def test_after_a_failed_creation_the_tpu_is_deleted(cloud, how):
    cloud.fail(how)
    done = cloud.run(render(cloud))
    assert done.returncode == 1
    assert cloud.calls("delete")
    assert not cloud.exists()
    assert "is deleted" in done.stderr


def test_a_failed_deletion_is_repeated_and_then_reported_in_capitals(cloud):
    cloud.fail("delete", 2)
    assert cloud.run(render(cloud)).returncode == 0
    assert not cloud.exists()
    cloud.fail("delete", 99)
    done = cloud.run(render(cloud))
    assert done.returncode == 1
    assert "MAY STILL BE THERE AND COST MONEY" in done.stderr.splitlines()[-1]
    assert "tpu-vm delete xl --zone=us-central2-b" in done.stderr.splitlines()[-1]


def test_keep_leaves_the_tpu_and_uses_it_again(cloud):
    done = cloud.run(render(cloud, keep=True))
    assert done.returncode == 0, done.stderr
    assert cloud.exists()
    assert "costs money until" in done.stderr
    assert cloud.run(render(cloud, keep=True)).returncode == 0
    assert len(cloud.calls("create")) == 1


def test_an_existing_tpu_of_that_name_is_left_alone(cloud):
    (cloud.folder / "tpu-vm/xl/0").mkdir(parents=True)
    done = cloud.run(render(cloud))
    assert done.returncode == 1
    assert "a TPU named xl exists" in done.stderr
    assert cloud.exists()
    assert not cloud.calls("delete")


def test_a_preempted_tpu_is_created_again_and_the_run_continues(cloud):
    cloud.fail("taken")
    done = cloud.run(render(cloud, spot=True))
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls("create")) == 2
    assert len(cloud.ran(0)) == 2
    assert "was preempted" in done.stderr
    assert not cloud.exists()


def test_a_run_that_was_stopped_is_continued(cloud):
    (cloud.folder / "code").write_text("75 0")
    done = cloud.run(render(cloud))
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls("create")) == 1
    assert len(cloud.ran(1)) == 2


def test_a_run_is_restarted_at_most_restarts_times(cloud):
    (cloud.folder / "code").write_text("75 75 75 75 75 75")
    done = cloud.run(render(cloud, restarts=2))
    assert done.returncode == 75
    assert len(cloud.ran(1)) == 3
    assert not cloud.exists()


def test_a_run_that_fails_is_not_repeated_and_the_tpu_is_deleted(cloud):
    (cloud.folder / "code").write_text("2")
    done = cloud.run(render(cloud))
    assert done.returncode == 2
    assert len(cloud.ran(1)) == 1
    assert (cloud.here / "runs/xl/launch.log").exists()
    assert not cloud.exists()


def test_the_script_waits_for_ssh(cloud):
    cloud.fail("scp", 2)
    assert cloud.run(render(cloud)).returncode == 0


def test_a_tpu_with_the_only_copy_of_the_results_is_kept(cloud):
    script = render(cloud, accelerator="v4-8", bucket=None)
    stand_in(
        cloud.bin / "tar", 'case "$*" in *results.tar.gz*) exit 1;; esac; exec /usr/bin/tar "$@"\n'
    )
    done = cloud.run(script, hosts=1)
    assert done.returncode == 1
    assert cloud.exists()
    assert "only xl has its results" in done.stderr


def test_a_queued_tpu_is_waited_for_and_deleted_with_its_request(cloud):
    done = cloud.run(render(cloud, queued=True, spot=True))
    assert done.returncode == 0, done.stderr
    (create,) = cloud.calls("create")
    assert create[2:6] == ["queued-resources", "create", "xl", "--node-id=xl"]
    assert {"--runtime-version=tpu-ubuntu2204-base", "--spot"} <= set(create)
    assert cloud.calls("delete")[0][2] == "queued-resources"
    assert "--force" in cloud.calls("delete")[0]
    assert not cloud.exists()


def test_without_gcloud_one_line_names_the_way_out(cloud):
    path = job.write(render(cloud), cloud.here / "tpu.sh")
    empty = cloud.here / "empty"
    empty.mkdir()
    done = subprocess.run(
        [shutil.which("bash"), path], env={"PATH": str(empty)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "gcloud auth login" in done.stderr


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"bucket": None}, "4 hosts"),
        ({"bucket": None, "accelerator": "v4-8", "spot": True}, "loses its disk"),
        ({"bucket": "s3://b"}, "expected gs://"),
        ({"accelerator": "h100"}, "expected KIND-NUMBER"),
        ({"accelerator": "v4-0"}, "expected KIND-NUMBER"),
        ({"zone": "a b"}, "no spaces"),
        ({"project": "a;b"}, "no spaces"),
        ({"setup": "a\nb"}, "newline"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(cloud, given, problem):
    with pytest.raises(UserError, match=re.escape(problem)):
        render(cloud, **given)


def test_shellcheck_finds_nothing(cloud):
    shellcheck = shutil.which(
        "shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    assert cloud.run(render(cloud, keep=True)).returncode == 0
    worker = cloud.folder / "tpu-vm/xl/0/sycophancy-worker.sh"  # its comments did not travel
    for words in ([cloud.here / "tpu.sh"], ["--exclude=SC1003,SC2016,SC2034", worker]):
        done = subprocess.run(
            [shellcheck, "--shell=bash", *words], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout
