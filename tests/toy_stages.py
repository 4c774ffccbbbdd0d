"""The stages of a run with work that writes a few bytes, for tests of sweeps."""

import json

from sycophancy.engine.stage import Stage
from sycophancy.stages.order import all_stages
from sycophancy.study import sweep


class Toys:
    """The stages of a run with work that writes a few bytes, and a log of who worked."""

    def __init__(self) -> None:
        self.worked: list[tuple[str, str, int, str]] = []
        self.broken: dict[tuple[str, str], BaseException] = {}

    def all(self) -> tuple[Stage, ...]:
        return tuple(self.toy(stage) for stage in all_stages())

    def toy(self, stage: Stage) -> Stage:
        """A stage that declares what the real one does, and does less."""
        inputs = {
            "prepare": lambda *_: {},
            "filter": lambda _, run: {"rows": run.path / "prepare" / "text"},
            "finetune": lambda c, run: {"rows": run.path / "filter/text", "model": c.model.name},
            "evaluate_before": lambda c, run: {
                "rows": run.path / "prepare/text",
                "model": c.model.name,
            },
            "evaluate_after": lambda _, run: {"params": run.path / "finetune" / "checkpoints"},
            "report": stage.inputs,
        }
        stage.checks = ()
        stage.on_devices = False  # nothing to collect afterwards, which takes as long as many toys
        stage.modules = lambda config: ()
        stage.inputs = inputs.get(stage.name, lambda _, run: {"rows": run.path / "prepare/text"})
        stage.work = self.work(stage.name)
        return stage

    def work(self, name: str):
        def do(loaded, run, out, meter):
            model, recipe, seed = loaded.model.name, loaded.recipe, loaded.training.seed
            if name != "report":
                self.worked.append((model, recipe, seed, name))
            if error := self.broken.get((recipe, name)):
                raise error
            if name == "report":
                (out / "report.html").write_text("<html>")
                return {}
            text = f"{name} {seed} {loaded.filtration if name == 'filter' else ''}"
            (out / "text").write_text(text)
            asked = {"asked": name} if name.startswith("evaluate_100") else {"m": {"value": 0.5}}
            (out / "metrics.json").write_text(json.dumps(asked))
            if name == "prepare":
                (out / "evaluation" / "surveys").mkdir(parents=True)
                (out / "evaluation" / "surveys" / "rows").write_text(text)
            if name == "finetune":
                steps, period = loaded.training.finetune_steps, loaded.training.keep_period
                for step in range(period or steps, steps + 1, period or steps):
                    for part in ("params", "metadata"):
                        folder = out / "checkpoints" / str(step) / part
                        folder.mkdir(parents=True, exist_ok=True)
                        (folder / "data").write_text(f"{model} {recipe} {seed} {step}")
                return {"checkpoint": f"checkpoints/{steps}"}
            return {}

        return do

    def did(self, name: str) -> list[tuple[str, str, int]]:
        return [tuple(who) for *who, stage in self.worked if stage == name]


def install(monkeypatch) -> Toys:
    """Makes the sweeps of this process run toys."""
    made = Toys()
    real = sweep.EvaluateCheckpoint
    monkeypatch.setattr(sweep, "all_stages", made.all)
    monkeypatch.setattr(sweep, "EvaluateCheckpoint", lambda *given: made.toy(real(*given)))
    return made
