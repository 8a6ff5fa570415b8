"""`task label`: a person labels a sample of a pool, and gets a test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import task_app
from headwater.cli.options import AsJson, Engine, Mode, PoolName, Seed, Workers, settings


@task_app.command("label")
def task_label(
    task: Annotated[str, typer.Argument(help="A task file, or a built-in task's name.")],
    pool: Annotated[str, typer.Option("--pool", help="The pool's folder, any fsspec path.")],
    out: Annotated[Path, typer.Option("--out", help="The page, or with --answers the folder.")],
    answers: Annotated[
        Path | None, typer.Option(help="The CSV that the page gave: make the split.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Pictures on the page.")] = 200,
    matched: Annotated[
        float, typer.Option(help="The share of them whose captions name a class.")
    ] = 0.5,
    mode: Mode = "phrase",
    split: Annotated[str, typer.Option(help="What the split is called.")] = "test",
    val: Annotated[
        float, typer.Option(help="The share of the labelled images that becomes a split val.")
    ] = 0.0,
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
    from headwater.steps.label import make_page
    from headwater.steps.labelled import make_split
    from headwater.steps.sample import Sampling
    from headwater.task import load_task

    if answers is None:
        how = settings(Sampling, n=n, matched=matched, mode=mode)
        counts = make_page(
            pool, load_task(task), out, how=how, seed=seed, pool_name=pool_name,
            engine=engine, workers=workers,
        )  # fmt: skip
    else:
        counts = make_split(
            pool, load_task(task), answers, out, split=split, val=val, seed=seed,
            pool_name=pool_name,
        )  # fmt: skip
    terminal.show(counts, as_json, terminal.facts)
