"""Commands that only tell: one pair's story, and the tasks there are."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import app, task_app
from headwater.cli.options import AsJson, SetFolder, TaskArgument


@app.command()
def why(
    folder: SetFolder,
    pair_id: Annotated[
        str, typer.Argument(metavar="ID", help="As in decisions.parquet; or a key or URL.")
    ],
    as_json: AsJson = False,
) -> None:
    """Where a pair went: found by what, kept or dropped, by which step, and why.

    Example: headwater why sets/kept pool:000012345
    """
    from headwater.steps.looking.why import why as step

    terminal.show(step(folder, pair_id), as_json, terminal.story)


@task_app.command("list")
def task_list(as_json: AsJson = False) -> None:
    """The tasks that come with Headwater.

    Example: headwater task list
    """
    from headwater.task import builtin_tasks

    terminal.show(builtin_tasks(), as_json, lambda names: print("\n".join(names)))


@task_app.command("show")
def task_show(
    task: TaskArgument,
    as_json: AsJson = False,
) -> None:
    """A task's classes, queries, prompts and splits.

    Example: headwater task show miniature
    """
    from headwater.task import load_task

    terminal.show(load_task(task).model_dump(mode="json"), as_json, terminal.task)
