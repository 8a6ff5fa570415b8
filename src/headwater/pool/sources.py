"""Sources: what the rows of a shard are read from, block by block, so that memory is bounded.

A source knows its columns, its length, and gives chosen columns of consecutive rows; which column
means what is for tables.py to say.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import Any, Protocol

import fsspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import PoolError
from headwater.pool.layouts import PoolShard, leads_out

NATIVE = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl", "http", "https", "hf")
"""File systems polars reads by itself, a part of a file at a time."""

MAX_TEXT = 64 * 2**20  # bytes of a NAME.txt


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
    if shard.images is not None:
        return FolderSource(shard)
    return (
        ArrowSource(shard.table) if shard.table.endswith(".arrow") else ParquetSource(shard.table)
    )


def sweep(
    source: Source, columns: Sequence[str], *, size: int, rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], pl.DataFrame]]:
    """Blocks of at most `size` rows with their numbers: of all rows, or of wanted ones (rising).

    Blocks that hold none of the wanted rows are not read.
    """
    for first in range(0, len(source), size):
        if rows is None:
            block = source.read(columns, first, size)
            yield np.arange(first, first + len(block)), block
            continue
        wanted = rows[slice(*np.searchsorted(rows, [first, first + size]))]
        if len(wanted):
            yield wanted, source.read(columns, first, size)[wanted - first]


class ParquetSource:
    """A Parquet file; a slice of it decodes only its own pages of its own columns."""

    def __init__(self, path: str) -> None:
        self._path = path

    @cached_property
    def _rows(self) -> pl.LazyFrame:
        scheme, _, rest = self._path.partition("://")
        if not rest or scheme in NATIVE:
            return pl.scan_parquet(self._path, glob=False, hive_partitioning=False)
        with fsspec.open(self._path, "rb") as file:  # whole: nobody else reads parts of it
            return pl.scan_parquet(io.BytesIO(file.read()))

    @cached_property
    def columns(self) -> dict[str, Any]:
        """From the file's footer."""
        with _reading(self._path, "a whole Parquet file"):
            return dict(self._rows.collect_schema())

    @cached_property
    def _length(self) -> int:
        with _reading(self._path, "a whole Parquet file"):
            return int(self._rows.select(pl.len()).collect().item())

    def __len__(self) -> int:
        return self._length

    def read(self, columns: Sequence[str], first: int, size: int) -> pl.DataFrame:
        """Some columns of `size` rows from row `first` on."""
        with _reading(self._path, "a whole Parquet file, texts in UTF-8"):
            return self._rows.select(columns).slice(first, size).collect()


class ArrowSource:
    """A file of a `datasets` folder: an Arrow stream, mapped into memory where it is local."""

    def __init__(self, path: str) -> None:
        self._path = path

    @cached_property
    def _table(self) -> Any:
        try:
            pa = importlib.import_module("pyarrow")
        except ImportError:
            raise PoolError(
                f"{PurePosixPath(self._path).name} is of a `datasets` folder",
                expected="the package pyarrow", seen="none",
                do="Install it: pip install 'headwater[datasets]', or save the dataset as Parquet.",
            ) from None  # fmt: skip
        with _reading(self._path, "a whole Arrow stream"):
            remote = "://" in self._path
            file = fsspec.open(self._path, "rb").open() if remote else pa.memory_map(self._path)
            return pa.ipc.open_stream(file).read_all()

    @cached_property
    def columns(self) -> dict[str, Any]:
        """From the head of the stream."""
        return dict(self.read(self._table.column_names, 0, 0).schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def read(self, columns: Sequence[str], first: int, size: int) -> pl.DataFrame:
        """Some columns of `size` rows from row `first` on."""
        table = self._table
        with _reading(self._path, "a whole Arrow stream, texts in UTF-8"):
            part = table.slice(first, size).select(list(columns))
            part.validate(full=True)  # offsets and texts are as untrusted as the rest
            found = pl.from_arrow(part)
        assert isinstance(found, pl.DataFrame)
        return found


class FolderSource:
    """Images of an ImageFolder: the path is the key, the caption stands beside or in one file."""

    def __init__(self, shard: PoolShard) -> None:
        self._images = shard.images or ()
        self._folder = shard.folder or ""
        self._captions = shard.table

    @property
    def columns(self) -> dict[str, Any]:
        """Always the same two."""
        return {"key": pl.String, "caption": pl.String}

    def __len__(self) -> int:
        return len(self._images)

    def read(self, columns: Sequence[str], first: int, size: int) -> pl.DataFrame:
        """Some columns of `size` rows from row `first` on."""
        keys = list(self._images[first : first + size])
        known = _captions(self._captions)
        texts = [known[key] if key in known else self._beside(key) for key in keys]
        return pl.DataFrame({"key": keys, "caption": texts}, schema=self.columns).select(columns)

    def _beside(self, key: str) -> str | None:
        name = str(PurePosixPath(key).with_suffix(".txt"))
        if leads_out(self._folder, name):
            return None
        with _reading(name, "a caption in UTF-8"):
            try:
                with fsspec.open(f"{self._folder}/{name}", "rb") as file:
                    return str(file.read(MAX_TEXT).decode().strip())
            except (FileNotFoundError, UnicodeDecodeError):
                return None


@lru_cache(maxsize=1)
def _captions(path: str) -> dict[str, str]:
    """A captions.json, {"rose/1.png": "a red rose"}; empty where there is none."""
    expected = 'JSON like {"rose/1.png": "a red rose"}'
    try:
        with fsspec.open(path, "rb") as file:
            value = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise PoolError("cannot read captions.json", expected=expected, seen=str(error)) from None
    if not isinstance(value, dict):
        raise PoolError("captions.json is not a mapping", expected=expected, seen=repr(value)[:60])
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


@contextmanager
def _reading(path: str, expected: str) -> Iterator[None]:
    """Whatever a reader says of a broken file becomes one line."""
    try:
        yield
    except PoolError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        seen = str(error).split("\n")[0]
        raise PoolError(f"cannot read {path}", expected=expected, seen=seen) from None
