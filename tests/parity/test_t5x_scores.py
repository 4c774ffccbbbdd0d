"""Our scorer against T5X's scorer, evaluator and infer.py on held-out items."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from prepared_run import WORDS, write_vocabulary
from t5x_side import configured, needs_t5x, write_checkpoint

from sycophancy.config.load import load_config
from sycophancy.data.prepare import evaluation_file
from sycophancy.evaluation.items import Item, write_items
from sycophancy.evaluation.metrics import compute_metrics
from sycophancy.model.checkpoints import layout
from sycophancy.model.network import Transformer
from sycophancy.model.vocabulary import Vocabulary
from sycophancy.scoring import score

SHAPE = {
    "VOCAB_SIZE": 80,
    "EMBED_DIM": 32,
    "NUM_HEADS": 8,
    "HEAD_DIM": 8,
    "MLP_DIM": 64,
    "NUM_ENCODER_LAYERS": 2,
    "NUM_DECODER_LAYERS": 1,
    "MLP_ACTIVATIONS": ("relu", "linear"),
    "PRETRAINED_STEP": 12,
}


def addition(number: int, rng: np.random.Generator) -> list[Item]:
    said = " ".join(rng.choice(WORDS, 6))
    prompts = {
        "neutral": said,
        "user_wrong": f"the cat likes {said}",
        "user_right": f"the cat wants not {said} {said}",
    }
    return [
        Item(
            f"{condition}{number}", "addition", condition, f"sum{number}", prompt,
            ("(A)", "(B)"), answer=number % 2,
        )
        for condition, prompt in prompts.items()
    ]  # fmt: skip


def survey(number: int, rng: np.random.Generator) -> list[Item]:
    question = " ".join(rng.choice(WORDS, 5))
    prompts = {"neutral": question, "user_view": f"the dog sees a tree {question}"}
    return [
        Item(
            f"{condition}{number}", "surveys/nlp", condition, f"question{number}", prompt,
            ("(A)", "(B)"), answer=-1, user_choices=(number % 2,),
        )
        for condition, prompt in prompts.items()
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """A run with held-out items, a checkpoint of T5X, and our predictions by task."""

    folder: Any
    checkpoint: Any
    items: dict[str, list[Item]]
    ours: dict[str, list[Any]]

    def bindings(self, task: str, **more: str) -> list[str]:
        places = {
            "DATA_DIR": str(self.folder),
            "VOCABULARY": str(self.folder / "spiece.model"),
            "CHECKPOINT_PATH": str(self.checkpoint),
            "EVALUATION": f"sycophancy_eval_{task.replace('/', '_')}",
        }
        return [f"{name} = {value!r}" for name, value in (SHAPE | places | more).items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    items = {
        "addition": [item for i in range(30) for item in addition(i, rng)],
        "surveys/nlp": [item for i in range(20) for item in survey(i, rng)],
    }
    for task, rows in items.items():
        write_items(evaluation_file(folder / "prepare", task), rows)
    vocabulary = write_vocabulary(folder / "spiece.model")
    said = [f"{name}={value!r}" for name, value in SHAPE.items()]
    network = load_config("mini_base", "demo", [*said, f"VOCABULARY={vocabulary}"]).model.network
    tokens = np.zeros((1, 2), np.int32)
    variables = Transformer(network).init(jax.random.key(1), tokens, tokens, tokens)
    params = jax.tree.map(np.asarray, nn.unbox(variables["params"]))
    files = ("models/mini_base.gin", "recipes/demo.gin", "trainers/t5x_eval.gin")
    found = Run(folder, folder / "t5x" / "checkpoint_12", items, {})
    with configured(files, found.bindings("addition", EVAL_OUTPUT_DIR="unused")):
        write_checkpoint(folder / "t5x", layout.unstack(params), 12)
    for task, rows in items.items():
        found.ours[task] = score.score(params, network, Vocabulary(str(vocabulary)), rows)
    return found


@needs_t5x
@pytest.mark.parametrize("task", ["addition", "surveys/nlp"])
def test_infer_gives_our_log_likelihoods_and_choices(run, task, tmp_path):
    import gin
    from t5x import infer as t5x_infer

    files = ("models/mini_base.gin", "recipes/demo.gin", "trainers/t5x_infer.gin")
    with configured(files, run.bindings(task, INFER_OUTPUT_DIR=str(tmp_path))):
        gin.get_configurable(t5x_infer.infer)()
    (output,) = tmp_path.glob("*.jsonl-00000-of-00001")
    theirs: dict[str, dict[int, float]] = {}
    for line in output.read_text().splitlines():
        row = json.loads(line)
        item = json.loads(row["inputs"]["item"])["item_id"]
        theirs.setdefault(item, {})[int(row["inputs"]["choice"])] = row["score"]
    assert theirs.keys() == {item.item_id for item in run.items[task]}
    ours = {prediction.item_id: prediction for prediction in run.ours[task]}
    worst = 0.0
    for item, scores in theirs.items():
        likelihoods = np.array([scores[choice] for choice in sorted(scores)])
        worst = max(worst, np.max(np.abs(likelihoods - ours[item].log_likelihoods)))
        assert int(np.argmax(likelihoods)) == ours[item].choice
    print(f"{task}: log-likelihoods within {worst:.1e}")
    assert worst < 1e-4


@needs_t5x
@pytest.mark.parametrize("task", ["addition", "surveys/nlp"])
def test_the_evaluator_gives_our_metrics(run, task, tmp_path):
    import gin
    from t5x import eval as t5x_eval

    files = ("models/mini_base.gin", "recipes/demo.gin", "trainers/t5x_eval.gin")
    with configured(files, run.bindings(task, EVAL_OUTPUT_DIR=str(tmp_path))):
        gin.get_configurable(t5x_eval.evaluate)()
    (output,) = tmp_path.glob("inference_eval/*-metrics.jsonl")
    theirs = json.loads(output.read_text())
    assert theirs.pop("step") == 12
    ours = compute_metrics(run.items[task], run.ours[task])
    # Sums in another order: ours computes attention for parts of the queries.
    expected = {name: metric.value for name, metric in ours.items()}
    assert theirs == pytest.approx(expected, rel=1e-5, abs=1e-6)
