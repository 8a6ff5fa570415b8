"""Vectors of a pool, end to end over its shards: read in order, a block at a time.

Whatever a shard is (an array, a memmap, a .npy file, or any `Vectors`), the rest of Headwater sees
rows with one running number. The search over them is `topk.py`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headwater.errors import PoolError

T = TypeVar("T")
Ints = NDArray[np.int64]

TAKE_BYTES = 64 * 2**20  # asked of a shard at once, when scattered rows are read


class Vectors(Protocol):
    """What a shard must be able to do: a matrix of floats that gives rows when asked.

    Slices are asked for in order, each once; scattered rows as few, sorted, distinct arrays of
    int64. So a shard that can only be read from its beginning needs one sweep a call.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, d)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values: a kind of float."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice | Ints, /) -> NDArray[Any]: ...


Shard = NDArray[Any] | str | Path | Vectors


class Rows:
    """Shards of vectors end to end, read by global row number.

    Args:
        shards: arrays, memmaps, paths of .npy files or other `Vectors`, each (rows, d), in order.
        dimensions: what every shard must have; None takes it from the first shard.

    Raises:
        PoolError: a shard that cannot be read, is not a matrix of floats, or is of another width.

    Example:
        >>> rows = Rows([np.eye(2), np.ones((3, 2))])
        >>> len(rows), rows.take(np.array([4, 1])).tolist()
        (5, [[1.0, 1.0], [0.0, 1.0]])
    """

    def __init__(self, shards: Sequence[Shard], *, dimensions: int | None = None) -> None:
        self._shards: list[NDArray[Any] | Vectors] = []
        for number, shard in enumerate(shards):
            self._shards.append(_open(shard, number, dimensions))
            dimensions = self._shards[0].shape[1]
        self.dimensions = dimensions or 0
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def blocks(self, size: int, *, least: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Consecutive rows as stored, with the number of the first; not to be written to.

        Args:
            size: rows in a block, at most; a block never spans two shards.
            least: if given, blocks begin at this size and grow with the rows already seen.
        """
        for start, shard in zip(self._starts.tolist(), self._shards, strict=False):
            at = 0
            while at < len(shard):
                length = min(size, max(least or size, start + at))
                yield start + at, _read(shard, slice(at, at + length))
                at += length

    def forget(self) -> None:
        """Let go of what was read of memory-mapped shards; blocks at hand stay good."""
        for shard in self._shards:
            if isinstance(shard, np.memmap) and shard.mode == "r":
                _forget(shard)

    def take(self, ids: Ints) -> NDArray[np.float32]:
        """The rows with these numbers, (len(ids), d) as float32; each shard is swept once."""
        distinct, back = np.unique(ids, return_inverse=True)
        taken = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        bounds = np.searchsorted(distinct, self._starts)
        for number, shard in enumerate(self._shards):
            step = max(1, TAKE_BYTES // max(1, self.dimensions * shard.dtype.itemsize))
            for at in range(bounds[number], bounds[number + 1], step):
                part = slice(at, min(at + step, bounds[number + 1]))
                taken[part] = _read(shard, distinct[part] - self._starts[number])
        self.forget()
        return taken[back]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield `items` unchanged, making each in a thread while the one before it is used.

    Example:
        >>> list(ahead(iter([1, 2, 3])))
        [1, 2, 3]
    """
    done = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, done)
        while (item := coming.result()) is not done:
            coming = thread.submit(next, items, done)
            yield item  # type: ignore[misc]


def _open(shard: Shard, number: int, dimensions: int | None) -> NDArray[Any] | Vectors:
    named = Path(shard) if isinstance(shard, str | Path) else shard
    name = getattr(named, "name", f"number {number}")
    try:
        array = _load(shard) if isinstance(shard, str | Path) else shard
    except (OSError, ValueError, EOFError) as error:
        raise PoolError(
            f"the vectors {name} cannot be read", expected="a whole .npy file", seen=str(error)
        ) from None
    if len(array.shape) != 2 or array.dtype.kind != "f":
        seen = f"shape {array.shape} of {array.dtype}"
        raise PoolError(f"vectors of the wrong kind in {name}", expected="(rows, d)", seen=seen)
    if dimensions is not None and array.shape[1] != dimensions:
        raise PoolError(
            f"the vectors {name} do not fit", expected=f"{dimensions} dimensions",
            seen=str(array.shape[1]), do="Use the model that embedded the pool.",
        )  # fmt: skip
    return array


def _load(path: str | Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _read(shard: NDArray[Any] | Vectors, which: slice | Ints) -> NDArray[Any]:
    """Rows of a shard in this machine's byte order, one after the other in memory."""
    rows = shard[which]
    if isinstance(rows, np.memmap) and rows.size:
        np.ravel(rows).view(np.uint8)[:: mmap.PAGESIZE].max()  # from disk, in this thread
    dtype = rows.dtype.newbyteorder("=") if rows.dtype.itemsize <= 8 else np.dtype(np.float64)
    return np.ascontiguousarray(rows, dtype=dtype)


def _forget(array: NDArray[Any] | Vectors) -> None:
    """Let go of the pages of a file that were read: they count as memory of this process."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
