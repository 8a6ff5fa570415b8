"""`task label`: a person labels a sample of a pool, and gets a test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headwater import terminal
from headwater.cli.apps import task_app
from headwater.cli.options import (
    AsJson,
    Engine,
    PoolName,
    PoolOption,
    Seed,
    TaskArgument,
    Workers,
    settings,
)
from headwater.errors import InputError


@task_app.command("label")
def task_label(
    task: TaskArgument,
    pool: PoolOption,
    out: Annotated[Path, typer.Option("--out", help="The page, or with --answers the folder.")],
    answers: Annotated[
        Path | None, typer.Option(help="The CSV that the page gave: make the split.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="Pictures on the page; 200.")] = None,
    matched: Annotated[
        float | None, typer.Option(help="The share of them whose captions name a class; 0.5.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="How captions match, as for retrieve; phrase.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --answers: what the split is called; test.")
    ] = None,
    val: Annotated[
        float | None, typer.Option(help="With --answers: the share that becomes a split val; 0.")
    ] = None,
    pool_name: PoolName = "pool",
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """A page on which a person labels a sample of a pool; its answers become a test split.

    First without --answers: open the page, answer, save. Then with --answers: the images lie in
    OUT/test, and OUT/task.yaml is the task that has them.

    Example: headwater task label garden.yaml --pool pool -n 200 --out label.html
    """
    from headwater.steps.labelling.page import make_page
    from headwater.steps.labelling.sample import Sampling
    from headwater.steps.labelling.split import make_split
    from headwater.task import load_task

    of_page = _given({"n": n, "matched": matched, "mode": mode}, unless=answers is not None)
    of_split = _given({"split": split, "val": val}, unless=answers is None)
    if answers is None:
        counts = make_page(
            pool, load_task(task), out, how=settings(Sampling, **of_page), seed=seed,
            pool_name=pool_name, engine=engine, workers=workers,
        )  # fmt: skip
    else:
        counts = make_split(
            pool, load_task(task), answers, out, seed=seed, pool_name=pool_name, **of_split
        )
    terminal.show(counts, as_json, terminal.facts)


def _given(options: dict[str, Any], *, unless: bool) -> dict[str, Any]:
    """The options that were given; none may be where they say nothing."""
    given = {name: value for name, value in options.items() if value is not None}
    if given and unless:
        name = next(iter(given))
        flag = "-n" if name == "n" else f"--{name}"
        half = "the page" if name in ("n", "matched", "mode") else "the split, made of --answers"
        raise InputError(f"{flag} is of {half}", do="Leave it out here.")
    return given
