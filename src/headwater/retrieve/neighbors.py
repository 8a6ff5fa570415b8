"""Class prompts against a pool's embeddings: the pairs that lie closest, by image and by caption.

The search itself is `headwater.topk`; here each class takes the union over its queries, every pair
once. Nothing here knows a model: queries and pool come encoded, by the same one. Other queries than
prompts are made in `vector_queries.py`, results that look alike are found in `lookalikes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import InputError, PoolError
from headwater.retrieve.lookalikes import find_lookalikes
from headwater.retrieve.vector_queries import Queries
from headwater.rows import Ints, Rows, Shard
from headwater.topk import search

NEIGHBORS = pl.Schema(
    {
        "row": pl.Int64,
        "label": pl.String,
        "query": pl.String,
        "found_by": pl.String,
        "image_score": pl.Float32,
        "text_score": pl.Float32,
    }
)

LOOKALIKES = pl.Schema({"row": pl.Int64, "label": pl.String, "copy_of": pl.Int64})


class Neighbors(NamedTuple):
    """What a search found.

    hits: one row a (row, label) that stays, as `search_neighbors` returns it.
    lookalikes: row, label and copy_of, the row that stays instead: pairs that every query of
        the class which found them dropped; by row, then by class.
    blank: how many rows of the pool have no finite embedding, by kind ("image", "text").
    """

    hits: pl.DataFrame
    lookalikes: pl.DataFrame
    blank: dict[str, int]


def search_neighbors(
    queries: Queries,
    *,
    image_shards: Sequence[Shard],
    text_shards: Sequence[Shard],
    k: int,
    duplicates: float | None = None,
) -> Neighbors:
    """Find for each class the pairs closest to any of its queries.

    Each query takes its k nearest pairs by image embedding and its k nearest by caption embedding;
    a class takes all pairs of all its queries, each once.

    Args:
        queries: prompts, class means or example images (`vector_queries.py`), each of a class.
        image_shards: the pool's image embeddings, in order, as for `top_k`; empty if there are
            none, then only captions are searched.
        text_shards: the same for caption embeddings.
        k: neighbors per query and kind of embedding, before look-alikes are dropped; 2000 in the
            paper, 500 for ImageNet.
        duplicates: of results of one query by one kind of embedding whose images have a cosine
            above this, only the best-scored stays (the captions', in a pool without image
            embeddings); 0.94 is the default of the client that the paper used. None keeps all.

    Returns:
        What was found, and what was left out. `hits` by row and then in the order in which labels
        first appear:
        row: int64, counted from 0 over all shards.
        label: the class.
        query: the query with the best image score for this pair, or, if none found it by image,
            with the best text score; the earlier query of equals.
        found_by: "image", "text" or "image+text", by any query of the class.
        image_score, text_score: float32, the best over the class's queries; null where that
            embedding did not find the pair.

    Raises:
        InputError: queries, names and labels of different lengths, or no shards at all.
        PoolError: image and text embeddings of different numbers of rows; see also `top_k`.

    Example:
        >>> pool = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> asked = Queries(np.array([[1.0, 0.0]]), ["a rose"], ["rose"])
        >>> found = search_neighbors(asked, image_shards=[pool], text_shards=[pool[::-1]], k=2)
        >>> found.hits.select("row", "found_by").rows()
        [(0, 'image'), (1, 'image+text'), (2, 'text')]
    """
    _check(queries, image_shards, text_shards)
    rows = Rows(image_shards or text_shards)
    image = _search(queries.features, image_shards, k, rows, duplicates)
    text = _search(queries.features, text_shards, k, rows, duplicates)
    own = queries.by_label()
    hits, lookalikes = [], []
    for numbers in own.values():
        table = _of_class(_best(image, numbers, "image"), _best(text, numbers, "text"), queries)
        hits.append(table)
        lookalikes.append(_dropped([image, text], numbers).join(table, on="row", how="anti"))
    return Neighbors(
        _by_row(hits, own, NEIGHBORS),
        _by_row(lookalikes, own, LOOKALIKES),
        {"image": image.blank, "text": text.blank},
    )


class _Found(NamedTuple):
    """What one kind of embedding found: (q, k) each, and in `instead` the row that stays, or -1."""

    scores: NDArray[np.float32]
    ids: Ints
    instead: Ints
    blank: int


def _search(
    queries: NDArray[Any], shards: Sequence[Shard], k: int, rows: Rows, duplicates: float | None
) -> _Found:
    if not shards:
        none = np.empty((len(queries), 0), np.int64)
        return _Found(none.astype(np.float32), none, none, 0)
    scores, ids, blank = search(queries, shards, k)
    if duplicates is None:
        return _Found(scores, ids, np.full_like(ids, -1), blank)
    return _Found(scores, ids, find_lookalikes(ids, rows, threshold=duplicates), blank)


def _best(found: _Found, own: list[int], kind: str) -> pl.DataFrame:
    """The pairs that the queries `own` found, each once, with its best score and that query."""
    stay = (found.ids[own] >= 0) & (found.instead[own] < 0)
    table = pl.DataFrame(
        {
            "row": found.ids[own][stay],
            f"{kind}_score": found.scores[own][stay],
            f"{kind}_query": np.array(own, dtype=np.int64)[np.nonzero(stay)[0]],
        }
    )
    return table.sort(f"{kind}_score", f"{kind}_query", descending=[True, False]).unique(
        "row", keep="first", maintain_order=True
    )


def _dropped(kinds: list[_Found], own: list[int]) -> pl.DataFrame:
    """The pairs that the queries `own` dropped, each once, with what stays instead."""
    out = [found.instead[own] >= 0 for found in kinds]
    rows = [found.ids[own][which] for found, which in zip(kinds, out, strict=True)]
    instead = [found.instead[own][which] for found, which in zip(kinds, out, strict=True)]
    table = pl.DataFrame({"row": np.concatenate(rows), "copy_of": np.concatenate(instead)})
    return table.unique("row", keep="first", maintain_order=True)


def _of_class(image: pl.DataFrame, text: pl.DataFrame, queries: Queries) -> pl.DataFrame:
    table = image.join(text, on="row", how="full", coalesce=True)
    number = table["image_query"].fill_null(table["text_query"])
    found_by = (
        pl.when(pl.col("text_query").is_null())
        .then(pl.lit("image"))
        .when(pl.col("image_query").is_null())
        .then(pl.lit("text"))
        .otherwise(pl.lit("image+text"))
    )
    names = pl.Series([queries.names[i] for i in number], dtype=pl.String)
    return table.with_columns(found_by=found_by, query=names)


def _by_row(
    tables: list[pl.DataFrame], own: dict[str, list[int]], schema: pl.Schema
) -> pl.DataFrame:
    """The tables of all classes as one, by row and then in the order of the classes."""
    if not tables:
        return schema.to_frame()
    told = [
        table.with_columns(label=pl.lit(label), order=pl.lit(order, dtype=pl.Int64))
        for order, (label, table) in enumerate(zip(own, tables, strict=True))
    ]
    return pl.concat(told).sort("row", "order").select(schema.names())


def _check(queries: Queries, image_shards: Sequence[Shard], text_shards: Sequence[Shard]) -> None:
    if not len(queries.features) == len(queries.names) == len(queries.labels):
        counts = len(queries.features), len(queries.names), len(queries.labels)
        seen = "{} queries, {} prompts, {} labels".format(*counts)
        raise InputError("queries out of step", expected="a prompt and a label each", seen=seen)
    if not image_shards and not text_shards:
        raise InputError(
            "no embeddings to search", expected="image or text shards", seen="neither",
            do="Run `headwater pool embed` first, or name the folder it made.",
        )  # fmt: skip
    images, texts = len(Rows(image_shards)), len(Rows(text_shards))
    if image_shards and text_shards and images != texts:
        raise PoolError(
            "image and text embeddings are out of step", expected=f"{images} rows each",
            seen=f"{texts} text rows", do="Embed the pool again.",
        )  # fmt: skip
