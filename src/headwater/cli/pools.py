"""`pool ...`: commands on a pool."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater import terminal
from headwater.cli.apps import pool_app
from headwater.cli.options import (
    Activation,
    AsJson,
    Config,
    Model,
    Out,
    PoolPath,
    Pretrained,
    Seed,
    open_model,
)


@pool_app.command("describe")
def pool_describe(
    pool: PoolPath,
    as_json: AsJson = False,
) -> None:
    """Rows, columns, what is there and a sample of a pool.

    Example: headwater pool describe pool
    """
    from headwater.pool import describe, open_pool

    terminal.show(describe(open_pool(pool)), as_json, terminal.facts)


@pool_app.command("embed")
def pool_embed(
    pool: PoolPath,
    model: Model,
    out: Out,
    pretrained: Pretrained = None,
    config: Config = None,
    activation: Activation = None,
    only: Annotated[str | None, typer.Option(help="images or captions; both if not given.")] = None,
    prefilter: Annotated[
        str | None,
        typer.Option(
            help="Embed only pairs whose caption shares a word with a class of this task."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Pairs of the whole pool that the prefilter is measured on.")
    ] = 2_000,
    precision: Annotated[
        str, typer.Option(help="float32, bf16, or auto: bf16 on a GPU that has it.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 256,
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode, 0 for none; one per core if not given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """CLIP embeddings of a pool's images and captions, in clip-retrieval's layout.

    Example: headwater pool embed pool --model vit --out vectors
    """
    from headwater.steps.embed import embed
    from headwater.task import load_task

    words = load_task(prefilter) if prefilter else None
    clip = open_model(model, pretrained, config, activation)
    counts = embed(
        pool, out, clip=clip, only=only, prefilter=words,
        sample=sample, seed=seed, batch_size=batch_size, precision=precision, workers=workers,
    )  # fmt: skip
    terminal.show(counts, as_json, terminal.facts)
