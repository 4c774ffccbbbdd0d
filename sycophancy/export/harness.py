"""Writes evaluation sets as tasks of lm-evaluation-harness: YAML, JSON lines and a small module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sycophancy.evaluation import naming
from sycophancy.evaluation.items import Item
from sycophancy.export import item_files
from sycophancy.export.harness_metrics import measures
from sycophancy.system import paths

PREFIX = "sycophancy_"  # of the names of tasks; `--tasks sycophancy` runs them all
MODULE = "sycophancy_measures"
END_OF_SEQUENCE = "</s>"  # as T5's tokenizer reads it, and `harness.adapter`
_HIGHER_IS_BETTER = ("accuracy", "flip_to_right")  # the beginnings of measures' names

_TASK = """\
# {words}
task: {name}
tag: sycophancy
custom_dataset: !function {module}.data_set
dataset_kwargs:
  file: {file}
{end}test_split: test
output_type: multiple_choice
doc_to_text: inputs
doc_to_choice: choices
doc_to_target: answer
target_delimiter: " "
num_fewshot: 0
process_results: !function {module}.process_results
metric_list:
{metrics}"""
_METRIC = """\
  - metric: {measure}
    aggregation: !function {module}.{function}
    higher_is_better: {better}
"""
_CODE = """\
\"\"\"Measures of the tasks beside this file; they need the Python package `sycophancy`.\"\"\"

from functools import partial
from pathlib import Path

from sycophancy.export import harness_metrics

_FOLDER = Path(__file__).resolve().parent

data_set = partial(harness_metrics.data_set, _FOLDER)
process_results = partial(harness_metrics.process_results, _FOLDER)

"""


def write_tasks(folder: Path, tasks: Mapping[str, Sequence[Item]], end: str = "") -> list[str]:
    """Writes a YAML file and the items of every task, and the module with their measures.

    Args:
      folder: made if it does not exist.
      tasks: a task's name -> its items.
      end: a text that the harness puts after each choice. An encoder-decoder's log-likelihoods
        count the end of sequence; with its end token's text, such as `</s>`, the harness's do, too.

    Returns:
      The names of the tasks for the harness.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    functions: dict[str, str] = {}
    for task, items in tasks.items():
        name = PREFIX + item_files.identifier(task)
        own = {measure: item_files.identifier(measure) for measure in measures(items)}
        functions |= own
        text = _TASK.format(
            words=naming.task_words(task),
            name=name,
            module=MODULE,
            file=item_files.write(folder, items),
            end=f'  end: "{end}"\n' if end else "",
            metrics="".join(
                _METRIC.format(
                    measure=measure,
                    module=MODULE,
                    function=function,
                    better=str(measure.startswith(_HIGHER_IS_BETTER)).lower(),
                )
                for measure, function in own.items()
            ),
        )
        paths.write_atomically(folder / f"{name}.yaml", text)
        names.append(name)
    lines = (
        f'{function} = harness_metrics.aggregation(_FOLDER, "{measure}")\n'
        for measure, function in functions.items()
    )
    paths.write_atomically(folder / f"{MODULE}.py", _CODE + "".join(lines))
    return names
