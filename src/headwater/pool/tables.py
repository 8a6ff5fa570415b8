"""Tables: the rows of a shard under Headwater's names, whatever the pool calls its columns.

Captions are streamed, the rest is read for wanted rows only: a shard may have 18 million rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import PoolError
from headwater.pool.layouts import PoolShard
from headwater.pool.sources import Source, blocks, open_source

ALIASES = {
    "key": ("key", "SAMPLE_ID", "uid", "id"),
    "caption": ("caption", "TEXT", "text"),
    "url": ("url", "URL"),
    "nsfw": ("NSFW", "nsfw"),
    "punsafe": ("punsafe",),
    "sha256": ("sha256",),
    "image": ("jpg", "image", "png", "webp"),
}
"""Columns as Headwater calls them, and the names people's pools have for them."""

TEXTS = ("key", "caption", "url", "sha256")

BATCH_ROWS = 250_000
"""Rows read at once: some 50 MB of LAION's columns."""

IMAGE_ROWS = 500
"""The same where image bytes are read with them."""


def iter_captions(
    shard: PoolShard, *, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[int, pl.Series]]:
    """The captions of a shard, in order, some at a time; no other column is read.

    Args:
        shard: one part of a pool.
        batch_rows: captions held at once.

    Yields:
        The number of the first row, counted from 0, and captions as strings; null where the pool
        has none, or one that is not UTF-8.

    Raises:
        PoolError: unreadable, without captions, or with captions that are not text.
    """
    source = open_source(shard)
    column = caption_column(shard, source)
    for first, block in blocks(source, [column], batch_rows):
        yield first, _as_text(block[column], "caption", shard)


def read_table(
    shard: PoolShard, *, rows: NDArray[np.int64] | None = None, images: bool = False
) -> pl.DataFrame:
    """Rows of a shard under Headwater's names.

    Args:
        shard: one part of a pool.
        rows: numbers of the wanted rows, counted from 0, in any order; all rows if not given,
            which holds the whole table in memory.
        images: whether to read image bytes that stand in the table itself.

    Returns:
        Columns key (str), caption (str or null), url, nsfw (as the pool has it), sha256, and
        `image` (bytes) if asked for and there; a column the pool lacks is null. With `rows`, each
        wanted row once, by rising number, which stands in a column `row` (int64), and the column
        `punsafe` (as the pool has it).

    Raises:
        PoolError: unreadable, without captions, with captions that are not text, a key twice among
            the rows read, or a row that is not there.
    """
    source = open_source(shard)
    caption_column(shard, source)
    found = find_columns(source, images=images)
    wanted = np.arange(len(source), dtype=np.int64) if rows is None else _checked(rows, source)
    size = IMAGE_ROWS if "image" in found else BATCH_ROWS
    table = _take(source, list(found.values()), wanted, size)
    named = _named(table.rename({v: k for k, v in found.items()}), shard)
    if rows is not None:
        return named.insert_column(0, pl.Series("row", wanted))
    if named["nsfw"].dtype == pl.Null:
        named = named.with_columns(nsfw=pl.col("punsafe"))
    return named.drop("punsafe")


def count_rows(shard: PoolShard) -> int:
    """The number of pairs in a shard."""
    return len(open_source(shard))


def find_columns(source: Source, *, images: bool = False) -> dict[str, str]:
    """Headwater's name -> the pool's name, for the columns that are there."""
    known = source.columns
    there = {
        name: next((alias for alias in aliases if alias in known), None)
        for name, aliases in ALIASES.items()
        if name != "image" or images
    }
    return {name: alias for name, alias in there.items() if alias is not None}


def caption_column(shard: PoolShard, source: Source) -> str:
    """What the pool calls its captions.

    Raises:
        PoolError: there are none, or they are not text.
    """
    column = find_columns(source).get("caption")
    if column is None:
        raise PoolError(
            f"{shard.name} has no captions", expected="a column " + " or ".join(ALIASES["caption"]),
            seen=", ".join(list(source.columns)[:8]) or "no column",
        )  # fmt: skip
    kind = source.columns[column]
    if kind not in (pl.String, pl.Binary, pl.Categorical, pl.Enum, pl.Null):
        raise PoolError(
            f"{shard.name}: the caption column {column} is not text",
            expected="strings", seen=str(kind),
        )  # fmt: skip
    return column


def _checked(rows: NDArray[np.int64], source: Source) -> NDArray[np.int64]:
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(source):
        raise PoolError(
            "a row that is not there", expected=f"rows below {len(source):,}",
            seen=f"{wanted[0]:,} to {wanted[-1]:,}",
        )  # fmt: skip
    return wanted


def _take(source: Source, columns: list[str], rows: NDArray[np.int64], size: int) -> pl.DataFrame:
    """The wanted rows (rising), read in one sweep that skips what holds none of them."""
    parts = [source.read(columns, 0, 0)]
    for first in range(0, len(source), size):
        low, high = np.searchsorted(rows, [first, first + size])
        if high > low:
            block = source.read(columns, first, size)
            whole = high - low == len(block)
            parts.append(block if whole else block[rows[low:high] - first])
    return pl.concat(parts)


def _named(table: pl.DataFrame, shard: PoolShard) -> pl.DataFrame:
    """Every column but the image, in the order of ALIASES; missing ones null; unique keys."""
    known = {
        name: _as_text(table[name], name, shard)
        if name in TEXTS and name in table.columns
        else table[name]
        if name in table.columns
        else pl.Series(name, [None] * len(table), dtype=pl.String if name in TEXTS else pl.Null)
        for name in ALIASES
        if name in table.columns or name != "image"
    }
    whole = pl.DataFrame(known)
    return _with_keys(whole, shard)


def _as_text(values: pl.Series, name: str, shard: PoolShard) -> pl.Series:
    """A column as strings: what is not UTF-8 becomes null, whole numbers are written out."""
    if values.dtype == pl.Binary:
        return _decoded(values).alias(name)
    if values.dtype.is_float():
        values = values.cast(pl.Int64, strict=False)  # a SAMPLE_ID that was once null somewhere
    try:
        return values.cast(pl.String).alias(name)
    except pl.exceptions.PolarsError:
        raise PoolError(
            f"{shard.name}: the {name} column is not text", expected="strings",
            seen=str(values.dtype),
        ) from None  # fmt: skip


def _decoded(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:  # one bad caption: look at each
        return pl.Series([_decode(value) for value in values], dtype=pl.String)


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _with_keys(table: pl.DataFrame, shard: PoolShard) -> pl.DataFrame:
    if table["key"].null_count():
        table = table.with_columns(key=pl.col("key").fill_null(_made_keys(table)))
    twice = table.filter(pl.col("key").is_duplicated())
    if len(twice):
        raise PoolError(
            f"{shard.name} has a key twice", expected="one row a key", seen=str(twice["key"][0])
        )
    return table


def _made_keys(table: pl.DataFrame) -> pl.Series:
    pairs = table.select("url", "caption").iter_rows()
    made = [sha256("\x1f".join(x or "" for x in row).encode()).hexdigest() for row in pairs]
    return pl.Series(made, dtype=pl.String)
