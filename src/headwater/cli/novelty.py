"""Commands on how new a set is to a pool: compare the two, and take the part that is as new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headwater import terminal
from headwater.cli.apps import app
from headwater.cli.options import (
    Activation,
    AsJson,
    Config,
    Engine,
    Model,
    Out,
    PoolName,
    PoolOption,
    Pretrained,
    Seed,
    SetFolder,
    Workers,
    open_model,
)


@app.command()
def novelty(
    source: SetFolder,
    pool: PoolOption,
    model: Model,
    out: Out,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    vectors: Annotated[
        Path | None, typer.Option(help="The pool as `pool embed` embedded it with this model.")
    ] = None,
    descriptor: Annotated[
        str, typer.Option(help="What tells copies: auto, builtin, isc or sscd.")
    ] = "auto",
    descriptor_weights: Annotated[Path | None, typer.Option(help="Its file.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Similarity that makes a copy; the descriptor's own.")
    ] = None,
    near: Annotated[
        float | None, typer.Option(help="CLIP similarity that is near; measured on the pool.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the pairs to look at to this file.")
    ] = None,
    pool_name: PoolName = "pool",
    seed: Seed = 0,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """How new the images of a set are to a pool: memorized, near, or new.

    Example: headwater novelty sets/synthetic --pool pool --model vit --out novelty --html new.html
    """
    from headwater.descriptors import open_descriptor
    from headwater.steps.novelty.novelty import find_novelty
    from headwater.steps.novelty.page import write_page
    from headwater.store import check_page

    if html:
        check_page(html)
    counts = find_novelty(
        source, pool, out, descriptor=open_descriptor(descriptor, weights=descriptor_weights),
        clip=open_model(model, pretrained, config, activation), vectors=vectors,
        threshold=threshold, near=near, pool_name=pool_name, seed=seed, engine=engine,
        workers=workers,
    )  # fmt: skip
    if html:
        write_page(out, source, pool, html)
    terminal.show(counts, as_json, _print)


@app.command()
def subset(
    source: SetFolder,
    novelty: Annotated[Path, typer.Option(help="What `headwater novelty` made of the set.")],
    keep: Annotated[list[str], typer.Option(help="What stays: memorized, near, new; repeatable.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """The images of a set that are as new as is said, as a set.

    Example: headwater subset sets/synthetic --novelty novelty --keep near --keep new --out sets/new
    """
    from headwater.steps.novelty.subset import subset as step

    counts = step(source, novelty, out, keep=keep)
    terminal.show(counts, as_json, terminal.pairs)


def _print(counts: dict[str, Any]) -> None:
    bands = ", ".join(f"{n:,} {band}" for band, n in counts.items() if band != "images")
    print(f"{counts['images']:,} images: {bands}")
