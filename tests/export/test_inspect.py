"""The exported tasks in the real Inspect give this project's numbers, item by item."""

import itertools

import pytest

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")

from sycophancy.config.load import load_config  # noqa: E402
from sycophancy.data import addition  # noqa: E402
from sycophancy.evaluation.metrics import compute_metrics  # noqa: E402
from sycophancy.export import inspect_files, inspect_tasks, item_files  # noqa: E402
from sycophancy.stages.scores import load_language_model  # noqa: E402


@pytest.mark.filterwarnings("ignore")  # of Inspect
def test_likelihoods_and_measures_are_ours(tmp_path):
    items = list(itertools.islice(addition.build_items(0), 30))
    inspect_files.write_tasks(tmp_path, item_files.by_task(items))
    (log,) = inspect_ai.eval(
        inspect_tasks.task(tmp_path / "addition.jsonl"),
        model="sycophancy/mini_small",
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert log.status == "success"
    config = load_config("mini_small", "paper")
    predictions = load_language_model(config, config.model).score(items)
    expected = {prediction.item_id: prediction for prediction in predictions}
    for sample in log.samples:
        found = sample.scores["choice"].metadata["prediction"]
        ours = expected[sample.id].log_likelihoods
        assert found["log_likelihoods"] == pytest.approx(ours, abs=1e-4)
    values = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    for name, metric in compute_metrics(items, predictions).items():
        measure = name.removeprefix("addition/")
        assert values[measure] == pytest.approx(metric.value, abs=1e-4), name


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_writes_is_measured_by_the_first_choice_it_names(tmp_path):
    items = list(itertools.islice(addition.build_items(0), 6))
    inspect_files.write_tasks(tmp_path, item_files.by_task(items))
    output = inspect_ai.model.ModelOutput.from_content("mock", "Surely (B), never (A).")
    output.usage = inspect_ai.model.ModelUsage()  # else it is counted with a downloaded vocabulary
    model = inspect_ai.model.get_model("mockllm/model", custom_outputs=[output] * len(items))
    (log,) = inspect_ai.eval(
        inspect_tasks.task(tmp_path / "addition.jsonl"),
        model=model,
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    metrics = log.results.scores[0].metrics
    assert metrics["first_choice_share"].value == 0.0
