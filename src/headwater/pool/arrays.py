"""Arrays in files: `.npy` and members of `.npz`, read by position, never whole, never unpickled.

A file that lies open on disk is mapped at an offset. What is deflated or far away is read as a
stream, in order: slices that go forward are cheap, going back begins anew.
"""

from __future__ import annotations

import math
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, cast

import fsspec
import numpy as np
from numpy.typing import NDArray

from headwater.errors import PoolError

Bytes = NDArray[np.uint8]

OPEN_STREAMS = 4
WINDOW_BYTES = 64 * 2**20  # of a file, looked into for scattered rows
MAX_HEADER = 10_000  # characters; numpy's own bound for a header that is not trusted
ZIP_HEADER = 30  # bytes before the name in a zip member's own header, which ends in two lengths


class Header(NamedTuple):
    """What the head of a .npy says, and how many bytes it takes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int


class FileArray:
    """A matrix of floats in a file: `a[i:j]` and `a[numbers]` read those rows and no others.

    Args:
        path: the file, any fsspec path.
        member: the array's name in an .npz; None for a .npy.

    Raises:
        PoolError: not such a file, cut short, not (rows, d) of floats, or a header that promises
            other than the file holds.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez_compressed(f"{folder}/a.npz", b32_img=np.eye(3, dtype=np.float16))
        ...     array = FileArray(f"{folder}/a.npz", member="b32_img")
        ...     array.shape, array[1:3].tolist(), array[np.array([2, 0])].tolist()
        ((3, 3), [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    """

    def __init__(self, path: str, *, member: str | None = None) -> None:
        self._path, self._member = path, member
        self.name = PurePosixPath(path).name + (f"[{member}]" if member else "")
        with _reading(self.name):
            start, size = _place(path, member)
            with _open(path, member) as stream:
                head = _header(stream)
        self.shape, self.dtype = head.shape, head.dtype
        self._check(head, size)
        self._offset = None if start is None else start + head.size
        self._head = head.size
        self._width = self.shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    def __getitem__(self, which: slice | NDArray[np.int64]) -> NDArray[Any]:
        if isinstance(which, slice):
            first, stop, step = which.indices(len(self))
            if step != 1:
                return self[np.arange(first, stop, step)]
            return self._rows(first, max(stop - first, 0))
        distinct, back = np.unique(np.asarray(which, dtype=np.int64), return_inverse=True)
        if len(distinct) and not -1 < distinct[0] <= distinct[-1] < len(self):
            raise IndexError(f"row {distinct[-1]} of {len(self)}")
        return self._scattered(distinct)[back]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype)

    def _rows(self, first: int, count: int) -> NDArray[Any]:
        shape = (count, self.shape[1])
        if not count * self._width:
            return np.empty(shape, self.dtype)
        with _reading(self.name):
            if self._offset is None:
                return self._streamed(first, count).view(self.dtype).reshape(shape)
            offset = self._offset + first * self._width
            return np.memmap(self._path, self.dtype, mode="r", offset=offset, shape=shape)

    def _scattered(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Distinct rows, rising: a window of the file at a time, from the first to the last."""
        taken = np.empty((len(rows), self.shape[1]), self.dtype)
        step = max(1, WINDOW_BYTES // max(1, self._width))
        for at in range(0, len(self), step):
            part = slice(*np.searchsorted(rows, [at, at + step]))
            inside = rows[part]
            if len(inside):
                taken[part] = self._rows(inside[0], inside[-1] + 1 - inside[0])[inside - inside[0]]
        return taken

    def _streamed(self, first: int, count: int) -> Bytes:
        with _LOCK:
            stream = _stream(self)
            stream.seek(self._head + first * self._width)
            return _exactly(stream, count * self._width)

    def open(self) -> IO[bytes]:
        """The array's bytes from its header on."""
        return _open(self._path, self._member)

    def _check(self, head: Header, size: int) -> None:
        if len(head.shape) != 2 or head.dtype.kind != "f":
            seen = f"shape {head.shape} of {head.dtype}"
            raise PoolError(f"cannot read {self.name}", expected="(rows, d) of floats", seen=seen)
        promised = head.size + math.prod(head.shape) * head.dtype.itemsize
        if promised > size or min(head.shape) < 0 or (self._member and promised != size):
            raise PoolError(
                f"cannot read {self.name}", expected=f"{promised:,} bytes, as its header says",
                seen=f"{size:,}", do="Fetch the file again.",
            )  # fmt: skip


def member_names(path: str) -> list[str]:
    """The names of the arrays in an .npz, sorted.

    Raises:
        PoolError: not an .npz.
    """
    with _reading(PurePosixPath(path).name), fsspec.open(path, "rb") as file:
        names = zipfile.ZipFile(file).namelist()
    return sorted(name.removesuffix(".npy") for name in names if name.endswith(".npy"))


_LOCK = threading.Lock()
"""A stream has one position, and rows may be read ahead in a thread."""


@lru_cache(maxsize=OPEN_STREAMS)
def _stream(array: FileArray) -> IO[bytes]:
    """Stays open between reads, so that going on is cheap; the least recently used is closed."""
    return array.open()


def _open(path: str, member: str | None) -> IO[bytes]:
    file: IO[bytes] = fsspec.open(path, "rb").open()
    return file if member is None else zipfile.ZipFile(file).open(member + ".npy")


def _place(path: str, member: str | None) -> tuple[int | None, int]:
    """Where an array's bytes begin in a file on this disk (else None), and how many they are."""
    local = "://" not in path
    with fsspec.open(path, "rb") as file:
        if member is None:
            return (0 if local else None), file.seek(0, 2)
        info = zipfile.ZipFile(file).getinfo(member + ".npy")
        if not local or info.compress_type != zipfile.ZIP_STORED:
            return None, info.file_size
        file.seek(info.header_offset + ZIP_HEADER - 4)
        lengths = _exactly(file, 4).view("<u2").tolist()
        start = info.header_offset + ZIP_HEADER + sum(lengths)
        if start + info.file_size > file.seek(0, 2):
            raise EOFError("the member ends after the file")
        return start, info.file_size


def _header(stream: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f".npy of version {version}")
    shape, fortran, dtype = readers[version](stream, max_header_size=MAX_HEADER)
    if fortran and len(shape) > 1:
        raise ValueError("the array lies column by column")
    return Header(shape, dtype, stream.tell())


def _exactly(stream: IO[bytes], size: int) -> Bytes:
    data = np.empty(size, np.uint8)
    done = 0
    while done < size:
        got = cast(Any, stream).readinto(data[done:])
        if not got:
            raise EOFError(f"the file ends {size - done:,} bytes too early")
        done += got
    return data


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Whatever numpy or zipfile say of a broken file becomes one line."""
    try:
        yield
    except PoolError:
        raise
    except (
        OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
        SyntaxError, tokenize.TokenError,
    ) as error:  # fmt: skip
        expected = "a whole .npz" if ".npz" in name else "a whole .npy"
        raise PoolError(f"cannot read {name}", expected=expected, seen=str(error)) from None
