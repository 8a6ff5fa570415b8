"""Commands for what cannot be retrieved: where a pool has holes, and sets topped up there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    AsJson,
    Engine,
    Mode,
    Out,
    PoolOption,
    Seed,
    TaskName,
    Workers,
    settings,
)

Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", help="A phrase such as 'in snow'; may be given several times."),
]


@app.command()
def composition(
    task: TaskName,
    pool: PoolOption,
    out: Out,
    attribute: Attributes = None,
    target: Annotated[int, typer.Option(min=1, help="Captions below which there is a hole.")] = 50,
    mode: Mode = "phrase",
    html: Annotated[Path | None, typer.Option(help="Write a map to this file.")] = None,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """How many captions of a pool name each class, and each class with an attribute.

    Example: headwater composition --pool pool --task roses.yaml --attribute 'in snow' --out counts
    """
    from headwater.steps.hybrid.composition import chart, composition_facts, write_map
    from headwater.store import check_page
    from headwater.task import load_task

    if html:
        check_page(html)
    opened = load_task(task)
    chart(pool, opened, out, attributes=attribute or [], mode=mode, engine=engine, workers=workers)
    told = composition_facts(out, opened, target=target)
    if html:
        write_map(told, html)
    terminal.show(told, as_json, terminal.composition)


@app.command("top-up")
def top_up(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="A finished set of real images.")],
    fill: Annotated[Path, typer.Option(help="A finished set of synthetic images.")],
    task: TaskName,
    target: Annotated[
        int, typer.Option(help="Images a class, or captions of a class with an attribute.")
    ],
    out: Out,
    attribute: Attributes = None,
    counts: Annotated[
        Path | None,
        typer.Option(help="For attributes: the folder that `headwater composition` made."),
    ] = None,
    how: Annotated[
        str, typer.Option(help="top_up, or one of its controls: spread, repeat.")
    ] = "top_up",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """A set of real images, with synthetic ones only where there are too few.

    Example: headwater top-up kept --fill made --task roses.yaml --target 100 --out hybrid
    """
    from headwater.steps.hybrid.settings import TopUp
    from headwater.steps.hybrid.top_up import top_up as step
    from headwater.task import load_task

    asked = settings(
        TopUp, source=str(base), fill=str(fill), target=target, attributes=tuple(attribute or ()),
        how=how,
    )  # fmt: skip
    told = step(base, fill, load_task(task), out, how=asked, seed=seed, composition=counts)
    terminal.show(told, as_json, terminal.facts)
