"""Vectors: the embeddings a pool comes with, one row a pair, read from disk as they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import PoolError
from headwater.pool.layouts import PoolShard
from headwater.pool.tables import count_rows
from headwater.store import replacing, write_table


def read_vectors(shard: PoolShard, kind: str) -> NDArray[Any]:
    """The memory-mapped embeddings of a shard, one row a pair: (rows, d).

    Args:
        shard: one part of a pool that comes with vectors.
        kind: "image" or "text".

    Raises:
        PoolError: no vectors, or not as many as the table has rows.
    """
    path = shard.image_vectors if kind == "image" else shard.text_vectors
    if path is None:
        raise PoolError(
            f"{shard.name} has no {kind} embeddings", expected="a pool that was embedded",
            seen=f"no {kind} vectors beside the table", do="Run `headwater pool embed` first.",
        )  # fmt: skip
    try:
        vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PoolError(f"cannot read {Path(path).name}", seen=str(error)) from None
    rows = count_rows(shard)
    if vectors.ndim != 2 or len(vectors) != rows:
        raise PoolError(
            f"{Path(path).name} is out of step with {Path(shard.table).name}",
            expected=f"{rows:,} rows", seen=f"shape {vectors.shape}",
            do="Embed the pool again, or get both files from one source.",
        )  # fmt: skip
    return vectors


def write_vectors(
    folder: Path, number: int, *, table: pl.DataFrame, image: NDArray[Any], text: NDArray[Any]
) -> None:
    """One embedded shard in clip-retrieval's layout, float16; the metadata is written last."""
    for kind, vectors in (("img_emb", image), ("text_emb", text)):
        with (
            replacing(folder / kind / f"{kind}_{number:04d}.npy") as beside,
            beside.open("wb") as f,
        ):
            np.save(f, vectors.astype(np.float16), allow_pickle=False)
    write_table(metadata_path(folder, number), table)


def metadata_path(folder: Path, number: int) -> Path:
    """Where the metadata of embedded shard `number` lies; it is there when the shard is done."""
    return folder / "metadata" / f"metadata_{number:04d}.parquet"
