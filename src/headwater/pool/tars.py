"""Tars: their files in the order they lie, a broken tar told from a whole one.

A tar is read as a stream, so that it may lie anywhere and nothing is unpacked. What is not a plain
file is not given; names are as they stand there, `..` and all, and not to be trusted.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fsspec

from headwater.errors import PoolError

BEHIND = 2**20  # bytes looked at behind the end of a tar


@dataclass(frozen=True)
class TarFile:
    """A file in a tar, which can be read until the next one is asked for."""

    name: str
    size: int
    offset: int  # of its head in the tar
    tar: tarfile.TarFile
    member: tarfile.TarInfo

    def read(self, limit: int) -> bytes:
        """Its first bytes, at most `limit`.

        Raises:
            PoolError: the tar is broken here.
        """
        with _reading(str(self.tar.name)):
            data = self.tar.extractfile(self.member)
            return data.read(limit) if data else b""


def iter_files(path: str, *, first: int = 0) -> Iterator[TarFile]:
    """The plain files of a tar, in the order they lie.

    Args:
        path: any fsspec path.
        first: the offset of the file to begin with.

    Raises:
        PoolError: a truncated or broken tar.
    """
    with _reading(path), fsspec.open(path, "rb") as file:
        _check_end(file)
        file.seek(first)
        with tarfile.open(name=path, fileobj=file, mode="r|") as tar:
            for member in tar:
                if member.isfile():
                    yield TarFile(member.name, member.size, first + member.offset, tar, member)
            _check_empty(file, first + tar.offset)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Whatever tarfile says of a broken tar becomes one line."""
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise PoolError(
            f"{Path(path).name} is broken", expected="a whole tar file", seen=str(error),
            do="Fetch this shard again; the finished shards are kept.",
        ) from None  # fmt: skip


def _check_end(file: IO[bytes]) -> None:
    # A tar ends with two empty blocks; a reader takes one that is cut between files for whole.
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 2 * tarfile.BLOCKSIZE, 0))
    if file.read().strip(b"\0") or size < 2 * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short")
    file.seek(0)


def _check_empty(file: IO[bytes], offset: int) -> None:
    # A reader takes a broken header for the end, and stops where one tar was put behind another:
    # all behind that would be missing silently.
    file.seek(offset)
    if file.read(BEHIND).strip(b"\0"):
        raise tarfile.ReadError("a broken header, or more behind the end")
