"""The commands that run stages: one for each stage, and `run` for all of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import shlex
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sycophancy.cli.export import export
from sycophancy.cli.options import RunOptions
from sycophancy.config.bounds import Place, check
from sycophancy.engine import distributed
from sycophancy.errors import UserError
from sycophancy.library.request import of_evaluation
from sycophancy.stages.order import by_command

if typing.TYPE_CHECKING:
    from sycophancy.engine.pipeline import Pipeline
    from sycophancy.engine.stage import Stage

Afterwards = Callable[[], None]  # what is left to do once the run folder is no longer locked
Work = Callable[..., Afterwards | None]  # of a pipeline and a command's own options


def command(name: str) -> Callable[..., None]:
    """The function of a stage's command, of `run` or of `export`; its signature has the options."""
    own: dict[str, Work] = {
        "prepare": _prepare,
        "evaluate": _evaluate,
        "run": _run,
        "export": export,
    }
    if name in own:
        return _with_run_options(own[name])
    return _with_run_options(functools.partial(_bring_up_to_date, by_command()[name]))


def _bring_up_to_date(members: list[Stage], pipeline: Pipeline) -> None:
    present = [stage for stage in members if stage.name in pipeline.stages]
    if not present:
        raise UserError(members[-1].when_absent)
    *_, last = present
    if last.top_level:  # it summarises what the run has
        pipeline.summarise(last.name)
    else:
        pipeline.until(*(stage.name for stage in present))
        _print(last.summary(pipeline.run))
    _print_place(pipeline, last)


def _prepare(
    pipeline: Pipeline,
    show: Annotated[
        int,
        typer.Option(
            min=0,
            max=100_000,
            metavar="N",
            help="Print this many rows of each kind, and their tokens.",
        ),
    ] = 0,
) -> None:
    pipeline.until("prepare")
    if show:
        from sycophancy.stages.prepare import examples

        print(*examples(pipeline.config, pipeline.run, show), sep="\n\n")
    _print_place(pipeline, pipeline.stages["prepare"])


def _evaluate(
    pipeline: Pipeline,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Ask this checkpoint, of the model's shape, instead."),
    ] = None,
) -> None:
    if checkpoint is not None:
        from sycophancy.stages.evaluate import EvaluateCheckpoint

        stage: Stage = EvaluateCheckpoint(check("--checkpoint", checkpoint, Place()), pipeline.run)
        pipeline.until_extra(stage)
        _print(stage.summary(pipeline.run))
    else:
        from sycophancy.stages.evaluate import evaluations

        names = evaluations(pipeline.run)
        if len(names) == 1 and pipeline.run.stage("finetune").exists():
            pipeline.screen.note("evaluate: finetuning is not complete, so only the model is asked")
        pipeline.until(*names, only_if_current=("filter", "finetune"))
        pipeline.summarise("report")
        stage = pipeline.stages[names[-1]]
        _print(stage.summary(pipeline.run))
        _print(pipeline.stages["report"].summary(pipeline.run))
        _print_place(pipeline, pipeline.stages["report"])
    _print_place(pipeline, stage)


def _run(
    pipeline: Pipeline,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Then upload the model to the Hugging Face hub."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: privately.")] = False,
) -> Afterwards | None:
    if push is not None:
        from sycophancy.library import hub_push

        pipeline.processes.broadcast(lambda: hub_push.check_access(push))
    elif private:
        raise UserError("--private needs --push beside it")
    pipeline.until(*pipeline.stages)
    commands = by_command().values()
    for *_, last in commands:
        if last.name in pipeline.stages:
            _print(last.summary(pipeline.run))
    _print_place(pipeline, last)
    return None if push is None else functools.partial(_push, pipeline, push, private)


def _push(pipeline: Pipeline, repository: str, private: bool) -> None:
    """Uploads a complete run from the first process; the run stays complete if that fails."""
    from sycophancy.library import hub_push

    run = Path(pipeline.run.path)

    def upload() -> str:
        try:
            return hub_push.push(run, repository, private=private, note=pipeline.screen.note)
        except UserError as error:
            words = shlex.join(["push", str(run), repository, *["--private"] * private])
            raise UserError(f"{error}; the run is complete: try `sycophancy {words}`") from error

    print(pipeline.processes.broadcast(upload))


def _print_place(pipeline: Pipeline, stage: Stage) -> None:
    print(pipeline.run.shown(stage.result(pipeline.run)))


def _print(lines: list[str]) -> None:
    for line in lines:
        print(line)


def _with_run_options(function: Work) -> Callable[..., None]:
    """A command that takes the run options and its own, and works on a locked run folder."""
    hints = typing.get_type_hints(RunOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(RunOptions)
    ]
    own: list[inspect.Parameter] = []
    if not isinstance(function, functools.partial):
        own_hints = typing.get_type_hints(
            function, localns={"Pipeline": object}, include_extras=True
        )
        own = [
            parameter.replace(annotation=own_hints[each], kind=inspect.Parameter.KEYWORD_ONLY)
            for each, parameter in list(inspect.signature(function).parameters.items())[1:]
        ]

    def command(**given: Any) -> None:
        options = RunOptions(**{field.name: given.pop(field.name) for field in shared})
        if function is _evaluate:
            options = of_evaluation(options)
        _with_pipeline(options, functools.partial(function, **given))

    command.__signature__ = inspect.Signature(shared + own)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in shared + own}
    return command


def _with_pipeline(options: RunOptions, work: Callable[[Pipeline], Afterwards | None]) -> None:
    from sycophancy.engine.progress import Screen, Silence
    from sycophancy.library.run import opened

    processes = distributed.assemble()  # first, so that every process reports bad input of one
    screen = Screen() if processes.leader else Silence()
    with processes.printing():
        with opened(options, screen, processes) as pipeline:
            afterwards = work(pipeline)
        if afterwards is not None:
            afterwards()
