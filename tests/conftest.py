"""Every test runs on 8 simulated CPU devices with JAX's implicit promotions switched off."""

import dataclasses
import gc
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import compiled_programs

gc.set_threshold(50_000)  # as the command does

DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = " ".join(
    [DEVICES, compiled_programs.WITHOUT_OPTIMISATION, os.environ.get("XLA_FLAGS", "")]
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] != "cpu":  # accelerators multiply float32 matrices less precisely
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis  # noqa: E402  # after the environment
import pytest  # noqa: E402

if "PYTEST_XDIST_WORKER" not in os.environ:
    compiled_programs.share()

# A busy machine makes an example slow now and then, which is no fault of what is tested.
hypothesis.settings.register_profile("tests", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("tests")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"

# The files that take longest start first, so that no worker is left with one at the end.
LONGEST = (
    "tests/test_end_to_end.py",
    "tests/multihost/",
    "tests/training/test_trainer.py",
    "tests/faults/test_damaged_runs.py",
    "tests/training/",
    "tests/tasks/",
    "tests/evaluation/test_own_sets_in_runs.py",
    "tests/test_library.py",
    "tests/study/",
    "tests/data/test_prepare.py",
    "tests/model/",
    "tests/test_packaging.py",
    "tests/launch/",
    "tests/stages/",
    "tests/scoring/",
    "tests/system/",
    "tests/report/",
    "tests/engine/test_supervision.py",
)
SECONDS = ROOT / ".cache" / "test_seconds.json"  # what each test took last, for `make check`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        starts = (n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(starts, len(LONGEST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    gc.freeze()  # JAX, TensorFlow and torch live on; each collection would look at all they made


class SecondsOfTests:
    """Notes how long each test took; runs in the first process, which hears of every test."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.seconds.get(report.nodeid, 0.0)
        self.seconds[report.nodeid] = round(before + report.duration, 3)

    def pytest_sessionfinish(self) -> None:
        known = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
        SECONDS.parent.mkdir(exist_ok=True)
        written = SECONDS.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(known | self.seconds))
        written.replace(SECONDS)


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(SecondsOfTests())


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rows that lies beside the repository; skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real rows are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def real_models() -> Callable[[str], Path]:
    """From a real model's name to its Hugging Face folder; skips where it is absent."""

    def folder(name: str) -> Path:
        root = os.environ.get("SYCOPHANCY_REAL_MODELS", REAL_DATA.parent / "real_models/folders")
        if not (found := Path(root) / name).is_dir():
            pytest.skip(f"no real model in {found}; SYCOPHANCY_REAL_MODELS names their folder")
        return found

    return folder


@pytest.fixture
def server(monkeypatch) -> Iterator[Any]:
    """A `storage_server.StorageServer`, to which this process and those it starts are pointed."""
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
    pytest.importorskip("gcsfs", reason="gcsfs is not installed (extra `gcs`)")
    from storage_server import StorageServer

    with StorageServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one call of the command line left: exit code and the lines of both streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def sycophancy(monkeypatch, capsys) -> Callable[..., Outcome]:
    """The command line, called in this process with the given words."""
    from sycophancy.cli import main

    def call(*words: object) -> Outcome:
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        monkeypatch.setattr(sys, "argv", ["sycophancy", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        out, err = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), out, err)

    return call


MICRO = """
VOCAB_SIZE = 320
EMBED_DIM = {width}
NUM_HEADS = 2
HEAD_DIM = 8
MLP_DIM = 32
NUM_ENCODER_LAYERS = 1
NUM_DECODER_LAYERS = 1
MLP_ACTIVATIONS = ('relu', 'linear')
INITIAL_CHECKPOINT_PATH = '{folder}'
VOCABULARY = '{folder}/spiece.model'
BATCH_SIZE = 8
LEARNING_RATE = 1e-3
TASK_FEATURE_LENGTHS = {{'inputs': 512, 'targets': 32}}
DATA_ORIGIN = 'miniature'
NUM_EXAMPLES = 300
NUM_INSTRUCTIONS = 100
NUM_VALIDATION = 50
NUM_SURVEY_ITEMS = 20
HELD_OUT_SETS = ()
SAMPLING = 'balanced'
FINETUNE_STEPS = 6
SAVE_PERIOD = 2
LOG_PERIOD = 1
"""
MICRO_RECIPE = "FILTRATION = True\n"


@pytest.fixture(scope="session")
def micro(tmp_path_factory) -> Callable[[int], Path]:
    """Model files of tiny T5s with random weights, by width; they know nothing."""
    made: dict[int, Path] = {}

    def make(width: int = 16) -> Path:
        if width not in made:
            made[width] = _make_micro(tmp_path_factory.mktemp(f"micro_{width}"), width)
        return made[width]

    return make


def _make_micro(folder: Path, width: int) -> Path:
    import jax
    import numpy as np
    import sentencepiece
    from flax import linen as nn

    from sycophancy.config.load import load_config
    from sycophancy.data.miniature.curriculum import Curriculum
    from sycophancy.model.checkpoints import huggingface
    from sycophancy.model.sharding import abstract_params

    curriculum = Curriculum("train", seed=0)
    texts = [
        text
        for family in curriculum.families
        for _ in range(20)
        for text in curriculum.draw(family)
    ]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=trained,
        vocab_size=300,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=["(A)", "(B)"],
    )
    vocabulary = folder / "drawn.model"
    vocabulary.write_bytes(trained.getvalue())
    model, recipe = folder / "micro.gin", folder / "micro_recipe.gin"
    model.write_text(MICRO.format(width=width, folder=folder))
    recipe.write_text(MICRO_RECIPE)
    network = load_config(str(model), str(recipe)).model.network
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: draw.normal(0, 0.1, leaf.shape).astype(np.float32),
        nn.unbox(abstract_params(network)),
    )
    huggingface.save(folder, params, network, str(vocabulary))
    return model
