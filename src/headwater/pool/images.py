"""Images: the encoded bytes of the wanted keys of a shard, never all of them at once."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import fsspec
import polars as pl

from headwater.decode import MAX_BYTES
from headwater.errors import PoolError
from headwater.pool.layouts import PoolShard
from headwater.pool.sources import open_source
from headwater.pool.tables import find_columns, read_table

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")


def read_images(shard: PoolShard, keys: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Image bytes of the wanted keys, in the order they lie: (key, name of the file, bytes).

    Keys without an image are not yielded.

    Raises:
        PoolError: a truncated or broken tar.
    """
    wanted = set(keys)
    if shard.tar is not None:
        yield from _tar_images(shard, wanted)
        return
    table = read_table(shard, images=True)
    if "image" not in table.columns:
        return
    rows = table.filter(pl.col("key").is_in(list(wanted)), pl.col("image").is_not_null())
    for key, value in rows.select("key", "image").iter_rows():
        data = value["bytes"] if isinstance(value, dict) else value
        yield key, f"{key}.jpg", data


def has_images(shard: PoolShard) -> bool:
    """Whether the images of a shard are here (or only their URLs)."""
    return shard.tar is not None or "image" in find_columns(open_source(shard), images=True)


def _tar_images(shard: PoolShard, wanted: set[str]) -> Iterator[tuple[str, str, bytes]]:
    assert shard.tar is not None
    try:
        with fsspec.open(shard.tar, "rb") as file:
            _check_end(file)
            with tarfile.open(fileobj=file, mode="r|") as tar:
                for member in tar:
                    name = Path(member.name).name
                    key, _, suffix = name.partition(".")
                    if key in wanted and member.isfile() and suffix.lower() in IMAGE_SUFFIXES:
                        data = tar.extractfile(member)
                        yield key, name, data.read(MAX_BYTES + 1) if data else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise PoolError(
            f"{Path(shard.tar).name} is broken", expected="a whole tar file", seen=str(error),
            do="Fetch this shard again; the finished shards are kept.",
        ) from None  # fmt: skip


def _check_end(file: IO[bytes]) -> None:
    # A tar ends with two empty blocks; a reader takes one that is cut between files for whole.
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 2 * tarfile.BLOCKSIZE, 0))
    if file.read().strip(b"\0") or size < 2 * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short")
    file.seek(0)
