"""Class prompts against a pool's embeddings: the pairs that lie closest, by image and by caption.

The search itself is `headwater.topk`; here each class takes the union over its prompts, every pair
once. Nothing here knows a model: prompts and pool come encoded, by the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import InputError, PoolError
from headwater.rows import Rows, Shard
from headwater.topk import top_k

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


def search_neighbors(
    queries: NDArray[Any],
    prompts: Sequence[str],
    labels: Sequence[str],
    *,
    image_shards: Sequence[Shard],
    text_shards: Sequence[Shard],
    k: int,
) -> pl.DataFrame:
    """Find for each class the pairs closest to any of its prompts.

    Each prompt takes its k nearest pairs by image embedding and its k nearest by caption
    embedding; a class takes all pairs of all its prompts, each once.

    Args:
        queries: (q, d) floats, the encoded prompts, L2-normalized if scores are to be cosines.
        prompts: (q,) their texts.
        labels: (q,) the class of each; a class may have any number of prompts.
        image_shards: the pool's image embeddings, in order, as for `top_k`; empty if there are
            none, then only captions are searched.
        text_shards: the same for caption embeddings.
        k: neighbors per prompt and kind of embedding; 2000 in the paper, 500 for ImageNet.

    Returns:
        One row a (row, label), by row and then in the order in which labels first appear:
        row: int64, counted from 0 over all shards.
        label: the class.
        query: the prompt with the best image score for this pair, or, if none found it by image,
            with the best text score; the earlier prompt of equals.
        found_by: "image", "text" or "both", by any prompt of the class.
        image_score, text_score: float32, the best over the class's prompts; null where that
            embedding did not find the pair.

    Raises:
        InputError: queries, prompts and labels of different lengths, or no shards at all.
        PoolError: image and text embeddings of different numbers of rows; see also `top_k`.

    Example:
        >>> pool = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> found = search_neighbors(np.array([[1.0, 0.0]]), ["a rose"], ["rose"],
        ...     image_shards=[pool], text_shards=[pool[::-1]], k=2)
        >>> found.select("row", "found_by").rows()
        [(0, 'image'), (1, 'both'), (2, 'text')]
    """
    _check(queries, prompts, labels, image_shards, text_shards)
    image = _search(queries, image_shards, k)
    text = _search(queries, text_shards, k)
    numbers: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        numbers.setdefault(label, []).append(number)
    tables = [
        _of_class(_best(image, own, "image"), _best(text, own, "text"), prompts).with_columns(
            label=pl.lit(label), order=pl.lit(order, dtype=pl.Int64)
        )
        for order, (label, own) in enumerate(numbers.items())
    ]
    if not tables:
        return NEIGHBORS.to_frame()
    return pl.concat(tables).sort("row", "order").select(NEIGHBORS.names())


def _search(
    queries: NDArray[Any], shards: Sequence[Shard], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if shards:
        return top_k(queries, shards, k)
    return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)


def _best(
    found: tuple[NDArray[np.float32], NDArray[np.int64]], own: list[int], kind: str
) -> pl.DataFrame:
    """The pairs that the prompts `own` found, each once, with its best score and that prompt."""
    scores, ids = found[0][own], found[1][own]
    prompt = np.repeat(np.array(own, dtype=np.int64), ids.shape[1])
    table = pl.DataFrame(
        {"row": ids.ravel(), f"{kind}_score": scores.ravel(), f"{kind}_prompt": prompt}
    )
    return (
        table.filter(pl.col("row") >= 0)
        .sort(f"{kind}_score", f"{kind}_prompt", descending=[True, False])
        .unique("row", keep="first", maintain_order=True)
    )


def _of_class(image: pl.DataFrame, text: pl.DataFrame, prompts: Sequence[str]) -> pl.DataFrame:
    table = image.join(text, on="row", how="full", coalesce=True)
    number = table["image_prompt"].fill_null(table["text_prompt"])
    found_by = (
        pl.when(pl.col("text_prompt").is_null())
        .then(pl.lit("image"))
        .when(pl.col("image_prompt").is_null())
        .then(pl.lit("text"))
        .otherwise(pl.lit("both"))
    )
    return table.with_columns(
        found_by=found_by, query=pl.Series([prompts[i] for i in number], dtype=pl.String)
    )


def _check(
    queries: NDArray[Any],
    prompts: Sequence[str],
    labels: Sequence[str],
    image_shards: Sequence[Shard],
    text_shards: Sequence[Shard],
) -> None:
    if not len(queries) == len(prompts) == len(labels):
        seen = f"{len(queries)} queries, {len(prompts)} prompts, {len(labels)} labels"
        raise InputError("queries out of step", expected="a prompt and a label each", seen=seen)
    if not image_shards and not text_shards:
        raise InputError("no embeddings to search", expected="image or text shards", seen="neither")
    images, texts = len(Rows(image_shards)), len(Rows(text_shards))
    if image_shards and text_shards and images != texts:
        raise PoolError(
            "image and text embeddings are out of step", expected=f"{images} rows each",
            seen=f"{texts} text rows", do="Embed the pool again.",
        )  # fmt: skip
