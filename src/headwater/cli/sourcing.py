"""Commands that make sets of images, and look at where these come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    Activation,
    AsJson,
    Config,
    Engine,
    Mode,
    Out,
    PoolName,
    PoolOption,
    PoolPath,
    Pretrained,
    Seed,
    TaskName,
    Workers,
    open_model,
    settings,
)


@app.command()
def doctor(
    task: TaskName,
    pool: PoolOption,
    mode: Mode = "phrase",
    synonyms: Annotated[
        Path | None, typer.Option(help="JSON with further names to try: {label: [names]}.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """What a task's class names would find in a pool's captions, before anything is spent.

    Example: headwater doctor --task roses.yaml --pool pool --html doctor.html
    """
    from headwater.steps.doctor import doctor as step
    from headwater.steps.doctor import read_synonyms, write_page
    from headwater.store import check_page
    from headwater.task import load_task

    if html:
        check_page(html)
    names = read_synonyms(synonyms) if synonyms else None
    told = step(
        pool, load_task(task), mode=mode, synonyms=names, seed=seed, engine=engine, workers=workers
    )
    if html:
        write_page(told, html)
    terminal.show(told, as_json, terminal.doctor)


@app.command()
def retrieve(
    pool: PoolPath,
    task: TaskName,
    out: Out,
    by: Annotated[str, typer.Option(help="captions, neighbors, both or random.")] = "captions",
    mode: Mode = "phrase",
    k: Annotated[int, typer.Option(help="Neighbors per prompt and kind of embedding.")] = 2000,
    average: Annotated[
        bool, typer.Option("--average", help="One query a class: the mean of its prompts.")
    ] = False,
    examples: Annotated[
        str | None, typer.Option(help="Images as queries: one folder a class.")
    ] = None,
    duplicates: Annotated[
        float | None, typer.Option(help="Cosine above which the worse of two neighbors is dropped.")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="The embedded pool, if it lies elsewhere.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Which of the pool's vectors: b32 or l14 of DataComp's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that embedded the pool.")] = None,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    n: Annotated[int, typer.Option("-n", help="How many pairs random draws.")] = 10_000,
    unsafe_above: Annotated[
        float, typer.Option(help="The punsafe above which a pair is unsafe.")
    ] = 0.5,
    pool_name: PoolName = "pool",
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Real pairs of a pool for every class of a task, as a set.

    Example: headwater retrieve pool --task roses.yaml --by captions --out sets/captions
    """
    from headwater.steps.retrieve import retrieve as step
    from headwater.steps.settings import Retrieval
    from headwater.task import load_task

    how = settings(
        Retrieval, by=by, mode=mode, k=k, average=average, examples=examples, n=n,
        duplicates=duplicates, features=features, unsafe_above=unsafe_above,
    )  # fmt: skip
    asked = model if how.asks_a_model else None
    counts = step(
        pool, load_task(task), out, how=how, seed=seed, pool_name=pool_name,
        clip=open_model(asked, pretrained, config, activation) if asked else None, vectors=vectors,
        engine=engine, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.pairs)


@app.command("import")
def import_(
    folder: Annotated[
        Path,
        typer.Argument(help="Class folders, tars or tables; or one .tar, .parquet or .arrow."),
    ],
    task: TaskName,
    out: Out,
    name: Annotated[str, typer.Option(help="The namespace of the ids.")] = "imported",
    classes: Annotated[
        str | None,
        typer.Option(
            help='JSON of what classes mean: {their name: label or null}; or "task", if their '
            "numbers count the task's."
        ),
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out images of other classes.")
    ] = False,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Images made elsewhere, as a set like any other.

    Example: headwater import my-images --task roses.yaml --name mine --out sets/mine
    """
    from headwater.steps.importing import import_images
    from headwater.task import load_task

    counts = import_images(
        folder, load_task(task), out, name=name, classes=classes, skip_unknown=skip_unknown,
        engine=engine, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.pairs)
