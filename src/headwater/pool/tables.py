"""Tables: the rows of a shard under Headwater's names, whatever the pool calls its columns.

Captions are streamed, the rest is read for wanted rows only: a shard may have 18 million rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import PoolError
from headwater.pool.layouts import PoolShard
from headwater.pool.sources import Source, open_source, sweep

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

PAIR = {"url", "caption"}
"""What a key is made of where the pool has none, if there is a URL."""

BATCH_ROWS = 250_000
"""Rows read at once: some 50 MB of LAION's columns."""

IMAGE_ROWS = 250
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
    for rows, block in sweep(source, [column], size=batch_rows):
        yield int(rows[0]), as_text(block[column], "caption", shard)


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
        Columns key (str), caption (str or null), url, nsfw and punsafe (as the pool has them),
        sha256, and `image` (bytes) if asked for and there; a column the pool lacks is null. With
        `rows`, each wanted row once, by rising number, in a further column `row` (int64). A key
        may stand there twice.

    Raises:
        PoolError: unreadable, without captions, with captions that are not text, or a row that is
            not there.
    """
    source = open_source(shard)
    caption_column(shard, source)
    names = [name for name in ALIASES if images or name != "image"]
    wanted = None if rows is None else _checked(rows, source)
    table = pl.concat(named_blocks(shard, names, rows=wanted), how="vertical_relaxed")
    return table.drop("row") if rows is None else table


def find_rows(shard: PoolShard, keys: Collection[str]) -> pl.DataFrame:
    """Where keys stand first in a shard: columns row (int64) and key, by row.

    Raises:
        PoolError: unreadable.
    """
    wanted = pl.DataFrame({"key": sorted(set(keys))}, schema={"key": pl.String})
    blocks = named_blocks(shard, ["key"])
    found = pl.concat([block.join(wanted, on="key", how="semi").sort("row") for block in blocks])
    return found.unique("key", keep="first", maintain_order=True)


def named_blocks(
    shard: PoolShard, names: Sequence[str], *, rows: NDArray[np.int64] | None = None
) -> Iterator[pl.DataFrame]:
    """Rows of a shard under Headwater's names, a block at a time, the first one empty.

    Args:
        shard: one part of a pool.
        names: which columns; an image is there only where the pool has one.
        rows: numbers of the wanted rows, rising; all if not given.

    Yields:
        `row` (int64) and the columns asked for, in memory of their own.
    """
    source = open_source(shard)
    known = find_columns(source)
    needed = set(names)
    if "key" in needed and not needed >= PAIR and not _all_have_keys(source, known.get("key")):
        needed |= PAIR
    columns = {name: alias for name, alias in known.items() if name in needed}
    size = IMAGE_ROWS if "image" in columns else BATCH_ROWS
    aliases = list(columns.values())
    empty = (np.empty(0, np.int64), source.read(aliases, 0, 0))
    for numbers, block in chain([empty], sweep(source, aliases, size=size, rows=rows)):
        values = {name: _own(block[alias], name, shard) for name, alias in columns.items()}
        yield _complete(numbers, values, names, shard)


def count_rows(shard: PoolShard) -> int:
    """The number of pairs in a shard."""
    return len(open_source(shard))


def find_columns(source: Source) -> dict[str, str]:
    """Headwater's name -> the pool's name, for the columns that are there."""
    there = {
        alias: kind
        for alias, kind in source.columns.items()
        if alias not in ALIASES["image"] or holds_bytes(kind)
    }
    found = {
        name: next((alias for alias in aliases if alias in there), None)
        for name, aliases in ALIASES.items()
    }
    return {name: alias for name, alias in found.items() if alias is not None}


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


def as_text(values: pl.Series, name: str, shard: PoolShard) -> pl.Series:
    """A column as strings: what is not UTF-8 becomes null, numbers are written out.

    Raises:
        PoolError: a column of anything else.
    """
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


def holds_bytes(kind: Any) -> bool:
    """Whether a column of images has them, not only their names or URLs."""
    fields = (
        {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
    )
    return kind == pl.Binary or fields.get("bytes") == pl.Binary


def _decoded(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:  # one of them is bad: look at each
        return pl.Series([_decode(value) for value in values], dtype=pl.String)


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _all_have_keys(source: Source, column: str | None) -> bool:
    if column is None:
        return False
    blocks = sweep(source, [column], size=BATCH_ROWS)
    return not any(block[column].null_count() for _, block in blocks)


def _checked(rows: NDArray[np.int64], source: Source) -> NDArray[np.int64]:
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(source):
        raise PoolError(
            "a row that is not there", expected=f"rows below {len(source):,}",
            seen=f"{wanted[0]:,} to {wanted[-1]:,}",
        )  # fmt: skip
    return wanted


def _own(values: pl.Series, name: str, shard: PoolShard) -> pl.Series:
    """A column, copied: polars' strings else keep alive all that was read beside them."""
    if name == "image":
        return pl.Series(name, [_bytes(value) for value in values], dtype=pl.Binary)
    if name in TEXTS or values.dtype in (pl.Binary, pl.Categorical, pl.Enum):
        values = as_text(values, name, shard)
    if values.dtype == pl.String:
        return pl.select(pl.concat_str(values, pl.lit(""))).to_series().alias(name)
    return values.alias(name)


def _bytes(value: Any) -> bytes | None:
    """An image as a table has it: bytes, or a struct with `bytes`."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) else None


def _complete(
    numbers: NDArray[np.int64],
    values: dict[str, pl.Series],
    names: Sequence[str],
    shard: PoolShard,
) -> pl.DataFrame:
    """The columns asked for, missing ones null, keys made where the pool has none."""
    size = len(numbers)
    blank = {
        name: pl.Series(name, [None] * size, dtype=pl.String if name in TEXTS else pl.Null)
        for name in ALIASES
        if name != "image"
    }
    table = pl.DataFrame({"row": numbers.astype(np.int64), **blank, **values})
    if "key" in names and table["key"].null_count():
        table = table.with_columns(key=pl.col("key").fill_null(_made_keys(table, shard)))
    return table.select("row", *(name for name in names if name in table.columns))


def _made_keys(table: pl.DataFrame, shard: PoolShard) -> pl.Series:
    """The sha256 of URL and caption, which is the same in every pool; else shard and row."""
    made = [
        f"{shard.name}/{row}" if url is None else _digest(url, caption)
        for row, url, caption in table.select("row", "url", "caption").iter_rows()
    ]
    return pl.Series(made, dtype=pl.String)


def _digest(url: str, caption: str | None) -> str:
    return sha256(f"{url}\x1f{caption or ''}".encode()).hexdigest()
