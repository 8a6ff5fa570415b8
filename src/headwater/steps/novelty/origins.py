"""Origins: pairs of a set that a pool has itself, told by URL, or by sha256 of the image's bytes.

Needs no image, and finds a picture that no descriptor would know again after it was cut.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from headwater.engine import run_shards
from headwater.pool import Pool, PoolShard, read_table
from headwater.pool.sources import open_source
from headwater.pool.tables import find_columns, named_blocks
from headwater.steps.novelty.nearest import worth_starting

BY = ("url", "sha256")


def find_origins(
    pairs: pl.DataFrame, pool: Pool, *, engine: str = "local", workers: int | None = None
) -> pl.Series:
    """The id of the first pair of a pool with the URL or the bytes of each pair of a set, or null.

    Args:
        pairs: url and sha256 of the set's pairs.
        pool: where they may come from.
        engine, workers: as `run_shards` takes them.
    """
    known = {name: pairs[name].drop_nulls().unique() for name in BY}
    work = partial(_origins_in, {name: values for name, values in known.items() if len(values)})
    parts = run_shards(
        work, pool.shards, engine=engine, workers=worth_starting(pool.shards, engine, workers),
        label="origins", unit="shards",
    )  # fmt: skip
    found = pl.concat(parts).unique(["by", "value"], keep="first", maintain_order=True)
    ids = pl.Series("same_as", [None] * len(pairs), dtype=pl.String)
    for name in BY:
        own = found.filter(by=name).select(pl.col("value").alias(name), "key")
        keys = pairs.select(name).join(own, on=name, how="left", maintain_order="left")["key"]
        ids = ids.fill_null(f"{pool.name}:" + keys)
    return ids.alias("same_as")


def _origins_in(known: dict[str, pl.Series], shard: PoolShard) -> pl.DataFrame:
    """Columns by, value and key: the rows of a shard with a known URL or sha256, in order."""
    there = find_columns(open_source(shard))
    names = [name for name in known if name in there]
    parts = [pl.DataFrame(schema={"row": pl.Int64, "by": pl.String, "value": pl.String})]
    for block in named_blocks(shard, names) if names else ():
        for name in names:
            met = block.filter(pl.col(name).is_in(known[name].implode()))
            parts.append(met.select("row", by=pl.lit(name), value=name))
    met = pl.concat(parts)
    if not len(met):
        return met.select("by", "value", key=pl.lit("", pl.String))
    keys = read_table(shard, rows=met["row"].to_numpy()).select("row", "key")
    return met.join(keys, on="row", how="left", maintain_order="left").select("by", "value", "key")
