"""Writes evaluation sets as tasks of Inspect: a Python file, and JSON lines beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sycophancy.evaluation import naming
from sycophancy.evaluation.items import Item
from sycophancy.export import item_files
from sycophancy.system import paths

FILE = "sycophancy_tasks.py"

_CODE = '''\
"""The tasks of the files beside this one; they need the Python package `sycophancy`.

    inspect eval {file} --model sycophancy/mini_base
    inspect eval {file}@{first} --model hf/HuggingFaceTB/SmolLM2-135M-Instruct
"""

from pathlib import Path

from inspect_ai import Task, task

from sycophancy.export import inspect_tasks

_FOLDER = Path(__file__).resolve().parent
'''
_TASK = '''

@task
def {name}() -> Task:
    """{words}"""
    return inspect_tasks.task(_FOLDER / "{file}")
'''


def write_tasks(folder: Path, tasks: Mapping[str, Sequence[Item]]) -> list[str]:
    """Writes the items of every task and a module with a function for each.

    Args:
      folder: made if it does not exist.
      tasks: a task's name -> its items.

    Returns:
      The names of the functions, which are Inspect's names of the tasks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    functions = {}
    for task, items in tasks.items():
        name = item_files.identifier(task)
        file = item_files.write(folder, items)
        functions[name] = _TASK.format(name=name, words=naming.task_words(task), file=file)
    code = _CODE.format(file=FILE, first=next(iter(functions)))
    paths.write_atomically(folder / FILE, code + "".join(functions.values()))
    return list(functions)
