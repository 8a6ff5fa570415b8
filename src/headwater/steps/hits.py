"""Hits: the rows of a pool that each way of retrieval finds, before any pair is fetched.

Captions are matched shard by shard, wherever the shard is worked on; `neighbors` and `random` look
at the whole pool at once. `retrieve.py` makes a set of hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from headwater.errors import PoolError
from headwater.pool import (
    FileArray,
    Pool,
    PoolShard,
    count_rows,
    find_rows,
    iter_captions,
    read_table,
    read_vectors,
    vector_models,
)
from headwater.progress import say
from headwater.prompts import fill
from headwater.retrieve.neighbors import search_neighbors
from headwater.retrieve.sample import random_rows
from headwater.retrieve.vector_queries import Queries, average_queries, example_queries
from headwater.retrieve.words import CaptionMatcher
from headwater.splits import load_split
from headwater.steps.settings import Retrieval
from headwater.store import DONE, read_json
from headwater.task import Task

if TYPE_CHECKING:
    from headwater.clip import Clip  # only neighbors need torch

HITS = pl.Schema(
    {
        "row": pl.Int64,
        "label": pl.String,
        "query": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "found_by": pl.String,
        "image_score": pl.Float32,
        "text_score": pl.Float32,
        "lookalike": pl.Boolean,
    }
)
"""A hit: the row, the class it is of, and how it was found; what a way does not tell is null.
A `lookalike` was found and is to be dropped: it resembles a better result of the same query."""

KEY = ("row", "label")
NONE = HITS.to_frame()

EXAMPLES = "examples"
UNTARGETED = ""  # the label of a pair that was drawn, not searched for


def caption_hits(shard: PoolShard, matcher: CaptionMatcher) -> pl.DataFrame:
    """The rows of one shard whose caption names a class."""
    batches, numbers = tee(iter_captions(shard))
    tables = matcher.match_many(captions for _, captions in batches)
    found = [
        table.with_columns(pl.col("row") + first)
        for table, (first, _) in zip(tables, numbers, strict=True)
    ]
    return _as_hits(pl.concat(found)).with_columns(found_by=pl.lit("captions")) if found else NONE


def random_hits(pool: Pool, n: int, *, seed: int) -> pl.DataFrame:
    """Rows of the whole pool, drawn without looking at them."""
    rows = random_rows(sum(count_rows(shard) for shard in pool.shards), n, seed=seed)
    drawn = pl.DataFrame({"row": rows}, schema={"row": pl.Int64})
    return _as_hits(drawn.with_columns(label=pl.lit(UNTARGETED), found_by=pl.lit("random")))


def neighbor_hits(
    pool: Pool, task: Task, clip: Clip, how: Retrieval, *, embedded: Pool | None = None
) -> pl.DataFrame:
    """Rows of the whole pool that lie closest to what a class is asked with.

    Args:
        pool: whose rows are told.
        task: its retrieval prompts are asked with.
        clip: the model of the vectors.
        how: k, and what else neighbors may be told.
        embedded: the pool that carries the vectors, if another one; it may hold fewer rows.

    Raises:
        PoolError: no vectors, of another model, or with keys that the pool does not have.
    """
    carrier = embedded or pool
    found = search_neighbors(
        vector_queries(task, clip, how),
        image_shards=_vectors(carrier, "image", how.features),
        text_shards=_vectors(carrier, "text", how.features),
        k=how.k,
        duplicates=how.duplicates,
    )
    for kind, blank in found.blank.items():
        if blank:
            say(f"{blank:,} rows have no finite {kind} embedding: they cannot be found by it")
    dropped = found.lookalikes.with_columns(lookalike=pl.lit(True))
    hits = pl.concat([_as_hits(found.hits), _as_hits(dropped)])
    return hits if embedded is None else _follow_keys(hits, embedded, pool)


def vector_queries(task: Task, clip: Clip, how: Retrieval) -> Queries:
    """What neighbors are asked with: the task's prompts, or example images of its classes."""
    if how.examples is None:
        asked = [(c.label, fill(t, c.name)) for c in task.classes for t in task.prompts.retrieval]
        texts = [text for _, text in asked]
        features = clip.encode_texts(texts, normalize=True)
        queries = Queries(features, texts, [label for label, _ in asked])
    else:
        images = load_split(with_examples(task, how.examples), EXAMPLES)
        labels = [task.labels[target] for target in images.targets]
        queries = example_queries(clip.encode_images(images.images), labels, names=images.ids)
    return average_queries(queries) if how.average else queries


def with_examples(task: Task, folder: str) -> Task:
    """The task with a folder of example images as a split of its own."""
    return task.model_copy(update={"images": {EXAMPLES: Path(folder)}})


def merge_hits(
    captions: pl.DataFrame, neighbors: pl.DataFrame, labels: Sequence[str]
) -> pl.DataFrame:
    """The union of two ways, each (row, label) once; `found_by` names all that found it.

    Example:
        >>> one = pl.DataFrame({"row": [3], "label": ["rose"], "found_by": ["captions"]})
        >>> other = one.with_columns(found_by=pl.lit("image"), image_score=pl.lit(0.3))
        >>> merge_hits(one, other, ["rose"]).select("row", "found_by", "image_score").rows()
        [(3, 'captions+image', 0.30000001192092896)]
    """
    joined = _as_hits(captions).join(
        _as_hits(neighbors), on=KEY, how="full", coalesce=True, suffix="_near"
    )
    told = [name for name in HITS if name not in (*KEY, "found_by", "lookalike")]
    order = pl.col("label").replace_strict(list(labels), range(len(labels)))
    return (
        joined.with_columns(
            *(pl.coalesce(name, f"{name}_near").alias(name) for name in told),
            found_by=pl.concat_str("found_by", "found_by_near", separator="+", ignore_nulls=True),
            lookalike=pl.col("lookalike_near") & pl.col("found_by").is_null(),
        )
        .sort("row", order)
        .select(HITS.names())
    )


def split_hits(hits: pl.DataFrame, pool: Pool) -> list[pl.DataFrame]:
    """Hits by row of the whole pool, as one table a shard by row of that shard."""
    parts, start = [], 0
    for shard in pool.shards:
        stop = start + count_rows(shard)
        inside = hits.filter(pl.col("row").is_between(start, stop, closed="left"))
        parts.append(inside.with_columns(pl.col("row") - start))
        start = stop
    return parts


def check_model(vectors: Path, clip: Clip) -> None:
    """Raise `PoolError` if a folder made by `pool embed` holds the vectors of another model."""
    if (vectors / DONE).exists():
        made_by = read_json(vectors / DONE)["inputs"].get("model")
        if made_by != clip.digest:
            raise PoolError(
                f"the vectors in {vectors} are of another model", expected=f"model {clip.digest}",
                seen=str(made_by), do="Give the model that embedded the pool.",
            )  # fmt: skip


def _vectors(pool: Pool, kind: str, features: str | None) -> list[FileArray]:
    """All vectors of a kind; none where no shard has any."""
    if not any(vector_models(shard, kind) for shard in pool.shards):
        return []
    return [read_vectors(shard, kind, model=features) for shard in pool.shards]


def _follow_keys(hits: pl.DataFrame, embedded: Pool, pool: Pool) -> pl.DataFrame:
    """Hits by row of the pool, not of the vectors: their keys tell which pair each is of."""
    if len(embedded.shards) != len(pool.shards):
        raise _out_of_step(pool, f"{len(pool.shards)} shards", str(len(embedded.shards)))
    start, moved = 0, [NONE]
    parts = zip(split_hits(hits, embedded), embedded.shards, pool.shards, strict=True)
    for part, carrier, shard in parts:
        if len(part):
            rows = part["row"].unique().sort()
            place = _rows_of(rows, carrier, shard, pool)
            own = part.with_columns(pl.col("row").replace_strict(rows, place) + start)
            # Vectors of another tool may stand there twice for one pair.
            moved.append(own.unique(KEY, keep="first", maintain_order=True))
        start += count_rows(shard)
    return pl.concat(moved)


def _rows_of(rows: pl.Series, carrier: PoolShard, shard: PoolShard, pool: Pool) -> pl.Series:
    """For rows of the vectors, the rows of the pool with the same keys."""
    wanted = read_table(carrier, rows=rows.to_numpy()).select("key")
    found = wanted.join(
        find_rows(shard, wanted["key"]), on="key", how="left", maintain_order="left"
    )
    lost = found.filter(pl.col("row").is_null())
    if len(lost):
        raise _out_of_step(pool, f"keys of {shard.name}", lost["key"][0])
    return found["row"]


def _out_of_step(pool: Pool, expected: str, seen: str) -> PoolError:
    return PoolError(
        f"the vectors are out of step with pool {pool.name}", expected=expected, seen=seen,
        do="Run `headwater pool embed` on this pool again.",
    )  # fmt: skip


def _as_hits(table: pl.DataFrame) -> pl.DataFrame:
    """A table with every column of a hit; missing ones null."""
    return table.select(
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in HITS.items()
    )
