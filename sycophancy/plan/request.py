"""Asks a process of its own to compile, and keeps the answers."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sycophancy.config.schema import Config
from sycophancy.engine import fingerprint
from sycophancy.errors import UserError
from sycophancy.plan import work as work
from sycophancy.plan.chips import Slice
from sycophancy.system import json_files

# What decides a compiled program besides the request.
_CODE = (
    "sycophancy/plan/compile.py",
    "sycophancy/plan/dump.py",
    "sycophancy/plan/hlo.py",
    "sycophancy/model/network.py",
    "sycophancy/model/checkpoints/layout.py",
    "sycophancy/training/step.py",
    "sycophancy/training/loss.py",
    "sycophancy/training/optimizer.py",
    "sycophancy/model/sharding.py",
    "sycophancy/scoring/score.py",
    "sycophancy/scoring/batching.py",
)
_PACKAGES = ("jax", "flax", "optax", "libtpu")
# The settings of training that decide the compiled step, besides the network's.
_TRAINING = (
    "batch_size",
    "input_length",
    "target_length",
    "packing",
    "dropout_rate",
    "learning_rate",
    "z_loss",
    "microbatches",
)


def answer_of(
    config: Config,
    place: Slice,
    mesh: tuple[int, int, int],
    name: str,
    only_cached: bool = False,
) -> dict[str, Any]:
    """What `plan_compile.compiled` answers, from the cache if it is there.

    Raises:
      UserError: libtpu is missing; the compiler failed for another reason than memory.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "plan compiles for TPUs with libtpu, which is not installed: run "
            "pip install -e '.[plan]' in the folder of the checkout"
        )
    request: dict[str, Any] = {
        "network": dataclasses.asdict(config.model.network),
        "training": {field: getattr(config.training, field) for field in _TRAINING},
        "topology": place.topology,
        "mesh": mesh,
        "program": name,
        "shape": work.CLAIM_SHAPE,
        "code": dict(fingerprint.of_code(patterns=_CODE)),
        "versions": versions(),
    }
    if name == "score":  # which overrides these, and does not ask for the recipe
        of_training = {"dtype": "float32", "remat_policy": "none", "dropout_rate": 0.0}
        request |= {"training": {}, "network": request["network"] | of_training}
    text = json.dumps(request, sort_keys=True)
    kept = cache_folder() / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.json"
    earlier, _ = json_files.read_object(kept)
    if earlier is not None and isinstance(earlier.get("answer"), dict):
        return earlier["answer"]
    if only_cached:
        raise UserError(f"{name} on {place.name} was not compiled yet")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as dump:
        answer = _ask_compiler({**request, "operative": config.operative, "dump": dump}, place)
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps({"request": request, "answer": answer}, indent=1))
    new.replace(kept)
    return answer


def _ask_compiler(request: Mapping[str, Any], place: Slice) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # a program from there is not written down
        "TPU_ACCELERATOR_TYPE": place.name.replace("v5e", "v5litepod"),
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing here touches a TPU, so none is locked
        "TPU_SKIP_MDS_QUERY": "1",  # no cloud's metadata server is asked
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sycophancy.plan.compile"],
        input=json.dumps(request),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"compiling {request['program']} for {place.topology} ended with code "
            f"{done.returncode}: {last[:300]}"
        )
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def versions() -> dict[str, str]:
    """Versions of what compiles; "none" for what is not installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def cache_folder() -> Path:
    """Where answers of the compiler are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sycophancy" / "plan"
