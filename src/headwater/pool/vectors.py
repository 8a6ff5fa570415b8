"""Vectors: the embeddings a pool comes with, one row a pair, read from disk as they are needed.

clip-retrieval has a .npy a shard and kind; DataComp an .npz a shard, with those of two models.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from headwater.errors import InputError, PoolError
from headwater.pool.arrays import FileArray, member_names
from headwater.pool.layouts import PoolShard
from headwater.pool.tables import count_rows

MEMBERS = {"image": "_img", "text": "_txt"}
"""How DataComp's arrays end: `l14_img`, `l14_txt`, `b32_img`, `b32_txt`."""


def read_vectors(shard: PoolShard, kind: str, *, model: str | None = None) -> FileArray:
    """The embeddings of a shard, one row a pair; rows are read when they are asked for.

    Args:
        shard: one part of a pool that comes with vectors.
        kind: "image" or "text".
        model: whose, where a pool has those of several: "b32" or "l14" in DataComp's.

    Returns:
        (rows, d) floats: `.shape`, `.dtype`, `len(a)`, `a[i:j]` and `a[numbers]`.

    Raises:
        PoolError: no such vectors, several and none chosen, or not as many as the table has rows.
    """
    if kind not in MEMBERS:
        raise InputError("unknown kind of embedding", expected=" or ".join(MEMBERS), seen=kind)
    path = _path(shard, kind)
    if path is None:
        raise PoolError(
            f"{shard.name} has no {kind} embeddings", expected="a pool that was embedded",
            seen=f"no {kind} vectors beside the table", do="Run `headwater pool embed` first.",
        )  # fmt: skip
    member = _member(path, kind, model) if path.endswith(".npz") else None
    vectors = FileArray(path, member=member)
    rows = count_rows(shard)
    if len(vectors) != rows:
        raise PoolError(
            f"{PurePosixPath(path).name} is out of step with {PurePosixPath(shard.table).name}",
            expected=f"{rows:,} rows", seen=f"shape {vectors.shape}",
            do="Embed the pool again, or get both files from one source.",
        )  # fmt: skip
    return vectors


def vector_models(shard: PoolShard, kind: str = "image") -> list[str | None]:
    """Whose embeddings a shard has, as `read_vectors` calls them; [None] if nobody says whose."""
    path = _path(shard, kind)
    if path is None:
        return []
    return [*_models(path, kind)] if path.endswith(".npz") else [None]


def _path(shard: PoolShard, kind: str) -> str | None:
    return shard.image_vectors if kind == "image" else shard.text_vectors


def _models(path: str, kind: str) -> list[str]:
    ending = MEMBERS[kind]
    return [name.removesuffix(ending) for name in member_names(path) if name.endswith(ending)]


def _member(path: str, kind: str, model: str | None) -> str:
    known = _models(path, kind)
    chosen = known[0] if model is None and len(known) == 1 else model
    if chosen not in known:
        raise PoolError(
            f"{PurePosixPath(path).name}: whose {kind} embeddings?",
            expected="a model, one of " + (", ".join(known) or "none"),
            seen=chosen or "none chosen", do="Name the one that fits your model.",
        )  # fmt: skip
    return f"{chosen}{MEMBERS[kind]}"


def metadata_path(folder: Path, number: int) -> Path:
    """Where the metadata of embedded shard `number` lies; it is there when the shard is done."""
    return folder / "metadata" / f"metadata_{number:04d}.parquet"
