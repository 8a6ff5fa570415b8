"""Sources: what the rows of a shard are read from, block by block, so that memory is bounded.

A source knows its columns, its length, and gives consecutive blocks of chosen columns; which
column means what is for tables.py to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import polars as pl

from headwater.errors import PoolError
from headwater.pool.layouts import PoolShard

Block = tuple[int, pl.DataFrame]
"""The number of its first row, and the rows."""


class Source(Protocol):
    """Rows of a shard, in their own order."""

    @property
    def columns(self) -> dict[str, Any]:
        """Names of the columns and their polars types."""

    def __len__(self) -> int: ...

    def read(self, columns: Sequence[str], first: int, size: int) -> pl.DataFrame:
        """Some columns of `size` rows from row `first` on."""


def open_source(shard: PoolShard) -> Source:
    """The rows of a shard; nothing is read yet."""
    return ParquetSource(shard.table)


class ParquetSource:
    """A Parquet file; a slice of it decodes only its own pages of its own columns."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows = pl.scan_parquet(path)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """From the file's footer."""
        with _reading(self._path):
            return dict(self._rows.collect_schema())

    @cached_property
    def _length(self) -> int:
        with _reading(self._path):
            return int(self._rows.select(pl.len()).collect().item())

    def __len__(self) -> int:
        return self._length

    def read(self, columns: Sequence[str], first: int, size: int) -> pl.DataFrame:
        """Some columns of `size` rows from row `first` on."""
        with _reading(self._path):
            return self._rows.select(columns).slice(first, size).collect()


def blocks(source: Source, columns: Sequence[str], size: int) -> Iterator[Block]:
    """All rows of a source, `size` at a time."""
    for first in range(0, len(source), size):
        yield first, source.read(columns, first, size)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Whatever a reader says of a broken file becomes one line."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        seen = str(error).split("\n")[0]
        raise PoolError(f"cannot read {path}", expected="whole Parquet", seen=seen) from None
