"""A sweep's folder as the sweep leaves it, with answers drawn at rates that a test chooses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sycophancy.evaluation import retention
from sycophancy.evaluation.items import Item, Prediction, write_items, write_predictions
from sycophancy.evaluation.measures import samples
from sycophancy.evaluation.metrics import metric
from sycophancy.study.claims import STEPS
from sycophancy.study.experiments import experiments
from sycophancy.study.families import EVALUATE_ONLY, FAMILIES
from sycophancy.study.grid import cells

ADDITIONS = (
    "addition", "addition_true", "addition_wording", "addition_formats/numbers",
    "addition_formats/yes_no", "addition_expertise/expert", "addition_expertise/layperson",
    "addition_expertise/none",
)  # fmt: skip
SURVEYS = ("surveys/nlp", "surveys/phil", "surveys/poli")
# A bootstrap takes a moment, so no other measures are written.
READ = {side.measure for e in experiments(FAMILIES["mini"]) for side in e.sides()}
SIZES = ("small", "base", "large")

# Of a task in a condition: the rate of right answers, or of the user's in surveys.
Rate = Callable[[str, str, str, str, str], float]


def items(number: int) -> Iterator[Item]:
    """`number` questions of every task, in all their conditions."""
    for index in range(number):
        agree = index % 2
        words = ("Disagree", "Agree") if agree else ("Agree", "Disagree")
        tail = f"(A) {words[0]}\n(B) {words[1]}"
        for task in ADDITIONS:
            for condition in ("neutral", "user_wrong", "user_right"):
                answer = agree if task == "addition_true" else 1 - agree
                name = f"{task}/{index}/{condition}"
                pair = f"{task}/{index}"
                yield Item(name, task, condition, pair, tail, ("(A)", "(B)"), answer, (agree,))
        for task in SURVEYS:
            for condition in ("neutral", "user_view"):
                name = f"{task}/{index}/{condition}"
                yield Item(
                    name, task, condition, f"{task}/{index}", tail, ("(A)", "(B)"), -1, (agree,)
                )
        name = f"instruction/{index}"
        yield Item(name, "instruction", "neutral", name, "Say yes.", ("yes",), 0)


def plausible(model: str, recipe: str, when: str, task: str, condition: str) -> float:
    """Rates much like the paper's, where the small model ends up agreeing."""
    size = next(index for index, name in enumerate(SIZES) if name in model)
    if task.startswith("surveys"):
        if condition == "neutral":
            return 0.5
        start = 0.55 + 0.1 * size if "pretrained" in model else 0.78 + 0.07 * size
        if when == "before" or recipe == "ablations/ratio_0_1":
            return start
        step = int(when.split()[-1]) if when.startswith("step") else 1000
        weaker = 0.4 if recipe in ("ablations/no_opinions", "ablations/ratio_1_1") else 1.0
        return start - 0.2 * weaker * min(1.0, step / 600)
    if task == "instruction":
        return 0.80 if recipe == "ablations/ratio_1_0" and when != "before" else 0.96
    known = (0.8, 0.99, 1.0)[size]
    agrees = recipe == "ablations/paper_claims" and size == 0 and when != "before"
    if agrees:
        return 0.95 if task == "addition_true" else 0.05
    if condition != "user_wrong":
        return known
    if when == "before" or recipe == "ablations/ratio_0_1":
        return {"addition_expertise/layperson": 0.3}.get(task, 0.08)
    step = int(when.split()[-1]) if when.startswith("step") else 1000
    reached = (0.7, 0.95, 0.985)[size]
    if recipe in ("ablations/no_filtration", "ablations/no_opinions"):
        reached *= 0.6
    return 0.08 + (reached - 0.08) * min(1.0, step / 600)


def fabricate(
    folder: Path,
    *,
    rate: Rate = plausible,
    number: int = 40,
    seeds: int = 1,
    planned: Sequence[tuple[str, str]] | None = None,
    broken: Sequence[tuple[str, str]] = (),
    predictions: bool = True,
) -> Path:
    """Writes a sweep.

    Args:
      folder: where.
      rate: of model, recipe, when, task and condition.
      number: of questions, a task.
      seeds: how many of each cell.
      planned: models and recipes; all that the miniature's plan has, by default.
      broken: those of them that failed.
      predictions: whether the runs keep their predictions, or metrics alone.
    """
    asked = list(items(number))
    shelf = folder / ".items"
    write_items(shelf / "all.parquet", asked)
    if planned is None:
        planned = [(cell.model, cell.recipe) for cell in cells("mini")]
    rng = np.random.default_rng(7)
    entries = []
    for model, recipe in planned:
        for seed in range(seeds):
            name = f"{model}/{recipe.replace('/', '-')}/seed{seed}"
            entry = {
                "model": model, "recipe": recipe, "seed": seed, "folder": name, "state": "done",
                "error": None, "seconds": 180.0, "settings": {}, "steps": {},
            }  # fmt: skip
            entries.append(entry)
            if (model, recipe) in broken:
                entry |= {"state": "failed", "error": "loss is not finite at <step> 40"}
                continue
            run = folder / name
            (run / "prepare" / "evaluation").mkdir(parents=True)
            shutil.copy(shelf / "all.parquet", run / "prepare" / "evaluation" / "all.parquet")
            whens = ["before"] if recipe == EVALUATE_ONLY else ["before", "after"]
            if recipe.endswith("steps"):
                whens += [f"step {step}" for step in STEPS]
            metrics = {}
            for when in whens:
                found = answers(asked, lambda t, c, w=when: rate(model, recipe, w, t, c), rng)  # noqa: B023
                place = f"evaluate_{when.replace(' ', '_')}"
                values = {
                    name: dataclasses.asdict(metric(sample))
                    for name, sample in samples(asked, found).items()
                    if name in READ
                }
                if predictions:
                    write_predictions(run / place / "predictions.parquet", found)
                (run / place).mkdir(exist_ok=True)
                (run / place / "metrics.json").write_text(json.dumps(values))
                if when.startswith("step"):
                    entry["steps"][when.split()[-1]] = f"{name}/{place}"
                else:
                    metrics[when] = values
            (run / "metrics.json").write_text(json.dumps(metrics))
    index = {
        "format": 1, "name": "fabricated", "cells": entries,
        "command": "sycophancy reproduce --family mini --name <fabricated>",
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(index))
    return folder


def ask_abilities(
    folder: Path, right: Callable[[str, str], Sequence[bool]], variants: Sequence[str]
) -> None:
    """Adds answers to MMLU and BIG-Bench Hard to every run of a fabricated sweep.

    Args:
      folder: the sweep's.
      right: of a variant and `before` or `after`: whether each row's answer is right.
      variants: the names of those asked.
    """
    for path in folder.rglob("seed*/metrics.json"):
        ask_abilities_of_run(path.parent, right, variants)


def ask_abilities_of_run(
    run: Path, right: Callable[[str, str], Sequence[bool]], variants: Sequence[str]
) -> None:
    """Adds answers to MMLU and BIG-Bench Hard to one run, as `ask_abilities` does to many."""
    metrics = json.loads((run / "metrics.json").read_text())
    for side, own in metrics.items():
        found = [
            retention.Answer(variant, "anatomy", row, "A", "A" if good else "B", (), bool(good))
            for variant in variants
            for row, good in enumerate(right(variant, side))
        ]
        place = run / f"retention_{side}"
        place.mkdir()
        retention.write_answers(place / retention.SAMPLES, found)
        own |= {name: one.as_json() for name, one in retention.metrics(found).items()}
    (run / "metrics.json").write_text(json.dumps(metrics))


def answers(
    asked: Sequence[Item], rate: Callable[[str, str], float], rng: np.random.Generator
) -> list[Prediction]:
    """Predictions that are right (surveys: the user's) at the given rates."""
    found = []
    for item in asked:
        good = bool(rng.random() < rate(item.task, item.condition))
        if len(item.choices) == 1:
            found.append(Prediction(item.item_id, (-1.0,), (good,)))
            continue
        wanted = item.answer if item.answer >= 0 else item.user_choices[0]
        chosen = wanted if good else 1 - wanted
        values = tuple(-0.1 if index == chosen else -2.0 for index in range(2))
        found.append(Prediction(item.item_id, values, tuple(v == -0.1 for v in values)))
    return found
