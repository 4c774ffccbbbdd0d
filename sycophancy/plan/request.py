"""Asks the TPU compiler, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, Literal

from sycophancy.config.schema import Config
from sycophancy.errors import UserError
from sycophancy.model.mesh import Shape
from sycophancy.plan.chips import Slice
from sycophancy.plan.prompts import CLAIM_SHAPE

ProgramName = Literal["train", "score"]
Answer = Mapping[str, Any]  # as `plan.compile.compiled` returns it


def answer_of(config: Config, place: Slice, mesh: Shape, name: ProgramName) -> Answer:
    """What the compiler says of one program of a run, see `plan.compile.compiled`.

    Raises:
        UserError: libtpu is missing, or the compiler failed for another reason than memory.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "plan compiles for TPUs with libtpu, which is not installed: run "
            "pip install -e '.[plan]' in the folder of the checkout"
        )
    request = {
        "operative": config.operative,
        "topology": place.topology,
        "mesh": mesh,
        "program": name,
        "shape": CLAIM_SHAPE,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as dump:
        return _ask_compiler({**request, "dump": dump}, place)


def _ask_compiler(request: Mapping[str, Any], place: Slice) -> Answer:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # for a cached program, no files are written
        "TPU_ACCELERATOR_TYPE": place.name.replace("v5e", "v5litepod"),
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU is used, so none needs to be locked
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
