"""The command `doctor`: checks whether this machine has all that a run needs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from sycophancy.cli import completion
from sycophancy.config.schema import ModelConfig
from sycophancy.engine import distributed
from sycophancy.errors import UserError

State = Literal["ok", "note", "bad"]
PATIENCE = 30.0  # seconds to wait for an answer of a server or a file system

_VERSIONS = ("jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow")
# Device files of accelerators: what they stand for, JAX's backend, and how to install it.
_ACCELERATORS = {
    "/dev/nvidia0": ("a GPU", "gpu", "in the checkout: pip install -e '.[gpu]'"),
    "/dev/accel0": ("a TPU", "tpu", "in the checkout: pip install -e '.[tpu]'"),
    "/dev/vfio/0": ("a TPU", "tpu", "in the checkout: pip install -e '.[tpu]'"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
      name: what was checked.
      state: "ok"; "note" if only some runs need it and it is missing; "bad" if no run can do
        without it.
      result: what the check found.
      remedy: what to do about it, unless the state is "ok".
    """

    name: str
    state: State
    result: str
    remedy: str = ""


def doctor(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Model whose vocabulary and checkpoint to look for.",
            autocompletion=completion.models,
        ),
    ] = "mini_base",
) -> None:
    """Check whether this machine has all that a run needs."""
    from sycophancy.config.load import load_config

    any_bad = False
    for finding in examine(load_config(model, "paper").model):
        print(f"{finding.state:<5} {finding.name:<11} {finding.result}", flush=True)
        if finding.remedy:
            print(f"{'':18}-> {finding.remedy}", flush=True)
        any_bad |= finding.state == "bad"
    if any_bad:
        raise typer.Exit(1)


def examine(model: ModelConfig) -> Iterator[Finding]:
    """Makes every check in turn. Starting JAX and importing T5X take most of the time.

    Args:
      model: the model whose vocabulary and checkpoint are looked for.
    """
    yield _versions()
    yield _devices()
    yield _vocabulary(model)
    yield _checkpoint(model)
    yield _t5x()
    yield _hub()
    yield _buckets()


def _versions() -> Finding:
    result = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS)
    return Finding("packages", "ok", f"Python {sys.version.split()[0]}, {result}")


def _devices(root: Path = Path("/")) -> Finding:
    try:
        distributed.check_platform()
    except UserError as error:
        reason, _, remedy = str(error).rpartition("; ")
        return Finding("devices", "bad", reason, remedy)
    import jax

    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    result = f"JAX sees {len(devices)} x {', '.join(kinds)} ({jax.default_backend()})"
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    if memory:
        result += f", {memory / 2**30:.0f} GiB each"
    for file, (name, backend, remedy) in _ACCELERATORS.items():
        if (root / file.lstrip("/")).exists() and jax.default_backend() != backend:
            return Finding("devices", "bad", f"{result}, but {file} says there is {name}", remedy)
    return Finding("devices", "ok", result)


def _vocabulary(model: ModelConfig) -> Finding:
    from sycophancy.model.decoder_text import load_text
    from sycophancy.model.vocabulary import Vocabulary

    def check() -> Finding:
        if model.is_decoder:
            text = load_text(model.vocabulary, model.chat)
            asked = "in its chat template" if text.template else "as they are, without a template"
            result = f"{model.vocabulary}: {text.tokenizer.size:,} pieces; reads prompts {asked}"
            return Finding("vocabulary", "ok", result)
        pieces = Vocabulary(model.vocabulary).size
        result = f"{model.vocabulary}: {pieces:,} pieces"
        if pieces > model.network.vocab_size:
            return Finding(
                "vocabulary",
                "bad",
                f"{result}, the network has {model.network.vocab_size:,}",
                "set VOCABULARY to the one the checkpoint was trained with",
            )
        return Finding("vocabulary", "ok", result)

    remedy = "set VOCABULARY to a SentencePiece file that can be reached"
    if model.is_decoder:
        remedy = "set VOCABULARY to the folder or hf:owner/name of the model's tokenizer"
    return _result_of("vocabulary", "bad", check, remedy)


def _checkpoint(model: ModelConfig) -> Finding:
    from sycophancy.model import decoders, locations
    from sycophancy.model.checkpoints.formats import open_checkpoint

    try:
        distributed.check_platform()
    except UserError:
        return Finding("checkpoint", "note", "not opened: JAX does not start", "see devices")

    def check() -> Finding:
        if model.is_decoder:
            decoders.check(model.checkpoint)
            if not decoders.is_computed_here(model.checkpoint):
                words = "transformers computes it; it can be evaluated, not finetuned"
                return Finding("checkpoint", "ok", f"{model.checkpoint}: decoder-only; {words}")
        if locations.is_hub(model.checkpoint) and not locations.is_fetched(model.checkpoint):
            return Finding(
                "checkpoint", "note", f"{model.checkpoint} is not on this machine yet",
                "the first run fetches it",
            )  # fmt: skip
        contents = open_checkpoint(model.checkpoint)
        contents.check(model.network)
        size = sum(leaf.nbytes for leaf in contents.params.values())
        result = f"{model.checkpoint}: {contents.format}, {size // 4:,} parameters"
        return Finding("checkpoint", "ok", result)

    remedy = f"see --model {model.name}, or set INITIAL_CHECKPOINT_PATH"
    return _result_of("checkpoint", "bad", check, remedy)


def _t5x() -> Finding:
    """Imports T5X in a subprocess, because its import is slow and changes global state."""
    from sycophancy.training.t5x import requirements

    remedy = "docs/t5x.md says how to install it; --trainer jax does without"
    if absent := requirements.missing():
        return Finding("T5X", "note", f"Python finds no {', no '.join(absent)}", remedy)

    def check() -> Finding:
        done = subprocess.run(
            [sys.executable, "-c", "import t5x.train, airio.core, jestimator.amos"],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return Finding("T5X", "note", f"does not import: {last}", remedy)
        return Finding("T5X", "ok", "t5x, airio and jestimator import")

    return _result_of("T5X", "note", check, remedy)


def _hub() -> Finding:
    from sycophancy.data import hub

    remedy = "without it, name local folders: --data-mirror, --surveys, --instructions, --model DIR"
    if hub.is_offline():
        return Finding("hub", "note", "not asked: HF_HUB_OFFLINE is set", remedy)

    def check() -> Finding:
        import huggingface_hub

        info = huggingface_hub.HfApi().model_info("google/flan-t5-small", timeout=PATIENCE)
        return Finding("hub", "ok", f"answers (google/flan-t5-small is at {str(info.sha)[:7]})")

    return _result_of("hub", "note", check, remedy)


def _buckets() -> Finding:
    from etils import epath

    from sycophancy.model import locations
    from sycophancy.model.references import T5_VOCABULARY

    def check() -> Finding:
        if locations.exists(epath.Path(T5_VOCABULARY)):
            return Finding("buckets", "ok", "gs://t5-data can be read")
        return Finding("buckets", "note", f"{T5_VOCABULARY} is not there", remedy)

    remedy = (
        "only gs:// names need it: check the network, and the credentials with "
        "gcloud auth application-default login"
    )
    return _result_of("buckets", "note", check, remedy)


def _result_of(name: str, state: State, check: Callable[[], Finding], remedy: str) -> Finding:
    """Runs a check in a thread; an error or no answer in time becomes a finding."""
    patience = 10 * PATIENCE if name == "T5X" else PATIENCE
    answers: queue.Queue[Finding | Exception] = queue.Queue()

    def run_check() -> None:
        try:
            answers.put(check())
        except Exception as error:
            answers.put(error)

    threading.Thread(
        target=run_check, daemon=True
    ).start()  # a daemon: the process can end while it hangs
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        return Finding(name, state, f"no answer within {patience:g} s", remedy)
    if isinstance(answer, Finding):
        return answer
    return Finding(name, state, distributed.first_line(answer), remedy)
