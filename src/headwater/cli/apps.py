"""The command and its groups, to which each file of commands adds its own."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="headwater",
    help="Where should the training images come from? Retrieve, synthesize, compare.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
task_app = typer.Typer(
    no_args_is_help=True, help="Look at tasks, and label images for one.", rich_markup_mode=None
)
pool_app = typer.Typer(no_args_is_help=True, help="Look at and embed pools.", rich_markup_mode=None)
app.add_typer(task_app, name="task")
app.add_typer(pool_app, name="pool")
