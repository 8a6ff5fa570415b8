"""Images: the encoded bytes of the wanted keys of a shard, a few at a time.

They lie in a tar, in files of a folder, or in the table itself. Keys and names in them are not to
be trusted: no key leads out of the shard's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import fsspec
import polars as pl

from headwater.decode import MAX_BYTES
from headwater.errors import PoolError
from headwater.pool.layouts import IMAGE_SUFFIXES, PoolShard, list_files
from headwater.pool.sources import open_source
from headwater.pool.tables import find_columns, find_rows, named_blocks
from headwater.pool.tars import iter_files

Found = Iterator[tuple[str, str, bytes]]


def read_images(shard: PoolShard, keys: Sequence[str]) -> Found:
    """Image bytes of the wanted keys, in the order they lie: (key, name of the file, bytes).

    Keys without an image are not yielded; of several images with one key, the first is.

    Raises:
        PoolError: a truncated or broken tar or table.
    """
    wanted = set(keys)
    if shard.tar is not None:
        yield from _in_tar(shard.tar, wanted)
    elif shard.images is not None:
        yield from _in_files(shard, {key: key for key in shard.images if key in wanted})
    elif shard.folder is not None:
        yield from _in_files(shard, _by_key(shard, wanted))
    elif has_images(shard):
        yield from _in_table(shard, wanted)


def has_images(shard: PoolShard) -> bool:
    """Whether the images of a shard are here (or only their URLs)."""
    beside = shard.tar is not None or shard.folder is not None
    return beside or "image" in find_columns(open_source(shard))


def come_first(shard: PoolShard, table: pl.DataFrame) -> pl.Series:
    """Whether each row of a table (`row`, `key`) is the first with its key.

    Images are found by key, so where there are any, all rows of the shard are looked at: a later
    row would be given the image of an earlier one. Else only the table's own.
    """
    if shard.images is not None or not has_images(shard):
        return table.select(pl.col("row") == pl.col("row").min().over("key")).to_series()
    return table["row"].is_in(find_rows(shard, table["key"].unique())["row"].implode())


def _in_tar(path: str, wanted: set[str]) -> Found:
    left = set(wanted)
    for file in iter_files(path):
        key, suffix = _member_key(file.name, left)
        if key in left and suffix in IMAGE_SUFFIXES:
            left.remove(key)
            yield key, PurePosixPath(file.name).name, file.read(MAX_BYTES + 1)
        if not left:
            return


def _member_key(name: str, wanted: set[str]) -> tuple[str, str]:
    """A member's key and suffix: its path up to the first dot of the file name, or that name.

    Example:
        >>> _member_key("a/b.c.jpg", {"a/b"}), _member_key("a/b.jpg", {"b"})
        (('a/b', 'c.jpg'), ('b', 'jpg'))
    """
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    if ".." in path.parts:
        return "", ""
    whole = str(path.with_name(stem)) if stem else ""
    return (whole if whole in wanted else stem), suffix.lower()


def _by_key(shard: PoolShard, wanted: set[str]) -> dict[str, str]:
    """Wanted key -> file in the shard's folder, looked up in its listing: no key is a path."""
    assert shard.folder is not None
    files = list_files(shard.folder, depth=1)
    found: dict[str, str] = {}
    for name in files.ending(*IMAGE_SUFFIXES):
        key, _, suffix = name.partition(".")
        if key in wanted and suffix.lower() in IMAGE_SUFFIXES and name not in files.links_out:
            found.setdefault(key, name)
    return found


def _in_files(shard: PoolShard, names: dict[str, str]) -> Found:
    for key, name in names.items():
        try:
            with fsspec.open(f"{shard.folder}/{name}", "rb") as file:
                yield key, PurePosixPath(name).name, file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PoolError(f"cannot read {name} in {shard.name}", seen=str(error)) from None


def _in_table(shard: PoolShard, wanted: set[str]) -> Found:
    rows = find_rows(shard, wanted)["row"].to_numpy()
    column = find_columns(open_source(shard))["image"]
    suffix = column if column in IMAGE_SUFFIXES else "jpg"
    for block in named_blocks(shard, ["key", "image"], rows=rows):
        for key, data in (
            block.filter(pl.col("image").is_not_null()).select("key", "image").iter_rows()
        ):
            yield key, f"{PurePosixPath(key).name}.{suffix}", data
