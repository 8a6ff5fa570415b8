"""Kept features: what a model said of an image, computed once and used by every later step and run.

A feature is known by the sha256 of the image's bytes and by the model. Each model has a folder in
the cache; in it lie files of whole blocks, written beside and renamed, so that a killed pass leaves
no row that looks done. A file is three arrays in the `.npy` format, one behind the other, which are
memory-mapped: a question after a thousand images does not read the vectors of ten million.

    sha256    uint8   (n, 32)    sorted
    crc32     uint32  (n,)       of model, sha256 and vector
    features  float32 (n, d)
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError, RunError, first_line
from headwater.progress import say, track
from headwater.store import replacing

SUFFIX = ".features"
NOT_WHOLE = "its rows are not what was written"

FAN = 16
"""So many files of one order of size become one: 10 million images in blocks of 512 end in about
200 files, and each row is copied three times on the way."""

WHOLE = 65_536  # rows of a file that is left as it is

DAY = 86_400.0  # seconds after which a file that is half written belongs to a dead process

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Keys = NDArray[np.bytes_]


def cache_folder() -> Path:
    """Where Headwater keeps what it can make or fetch again: $HEADWATER_CACHE, or the user's.

    Example:
        >>> cache_folder().is_absolute()
        True
    """
    own = os.environ.get("HEADWATER_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    users = os.environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "headwater"


class KeptFeatures:
    """The features one model gives for images, kept from run to run.

    Any number of processes may read and write at once. A file that is broken or not ours is said
    and left alone, its rows are made again; where nothing can be written, nothing is kept.

    Args:
        model: a digest of all that decides a feature (`Clip.features_digest`,
            `Descriptor.digest`); None, for a model that is not on disk, keeps nothing.
        folder: of the cache; `cache_folder()` by default.

    Raises:
        InputError: a digest that is no plain word.

    Example:
        >>> import tempfile
        >>> digests = [hashlib.sha256(image).hexdigest() for image in (b"a rose", b"a daisy")]
        >>> def encode(rows):
        ...     print("encoding", rows)
        ...     return np.eye(2, dtype=np.float32)[rows]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = KeptFeatures("model-1", folder=Path(folder))
        ...     first = kept.of(digests[:1], encode)
        ...     both = kept.of(digests, encode)
        encoding [0]
        encoding [1]
        >>> both.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, model: str | None, *, folder: Path | None = None) -> None:
        if model is not None and not re.fullmatch(r"\w[\w.-]{0,199}", model, re.ASCII):
            raise InputError("model digest", expected="letters and digits", seen=repr(model)[:60])
        self.folder = (folder or cache_folder()) / "features" / (model or "")
        self._seed = zlib.crc32((model or "").encode())
        self._keeping = model is not None
        self._told: set[str] = set()

    def of(
        self, digests: Sequence[str], encode: Callable[[Rows], Floats], *, block: int = 512
    ) -> Floats:
        """The features (n, d), float32, of images named by their digests.

        Args:
            digests: sha256 of each image's encoded bytes, in hex; each is encoded once.
            encode: features (len(rows), d) of some rows of `digests`; asked for what is missing,
                in rising order, `block` rows at a time, each block kept before the next begins.
            block: rows at a time.

        Raises:
            InputError: a digest that is no sha256, or features of another length than those kept.
            Whatever `encode` raises.
        """
        keys, first, inverse = np.unique(_keys(digests), return_index=True, return_inverse=True)
        if not len(keys):
            return np.asarray(encode(first.astype(np.int64)), np.float32)
        features, have = self._read(keys)
        place = np.argsort(first, kind="stable")  # the unique keys, as they come in `digests`
        missing = place[~have[place]]
        blocks = [missing[start : start + block] for start in range(0, len(missing), block)]
        for rows in track(
            blocks, label="features", total=len(missing), unit="images", size=lambda rows: len(rows)
        ):
            made = np.asarray(encode(first[rows].astype(np.int64)), np.float32)
            features = _fitting(features, made, len(keys), len(rows), self.folder)
            features[rows] = made
            self._keep(keys[rows], made)
        assert features is not None
        return features[inverse]

    def _read(self, keys: Keys) -> tuple[Floats | None, NDArray[np.bool_]]:
        """What is kept of sorted unique keys: features (None: of none) and which are there."""
        features: Floats | None = None
        have = np.zeros(len(keys), bool)
        for kept in self._files():
            wanted = np.flatnonzero(~have)
            rows = np.searchsorted(kept.keys, keys[wanted])
            rows[rows == len(kept.keys)] = 0
            there = kept.keys[rows] == keys[wanted]
            wanted, rows = wanted[there], rows[there]
            if not len(rows):
                continue
            vectors = self._sound(kept, rows)
            if vectors is None or (features is not None and features.shape[1] != vectors.shape[1]):
                self._tell(kept.path, NOT_WHOLE)
                continue
            if features is None:
                features = np.zeros((len(keys), vectors.shape[1]), np.float32)
            features[wanted], have[wanted] = vectors, True
        return features, have

    def _files(self) -> Iterator[_File]:
        """The kept files. Others may join files meanwhile: what has gone is in a newer one."""
        if not self._keeping:
            return
        seen: set[Path] = set()
        for _ in range(FAN):
            fresh = [path for path in _listed(self.folder) if path not in seen]
            if not fresh:
                return
            for path in fresh:
                seen.add(path)
                kept = self._open(path)
                if kept is not None:
                    yield kept

    def _open(self, path: Path) -> _File | None:
        try:
            return _open_file(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # a reader meeting foreign bytes may raise anything
            self._tell(path, first_line(error))
            return None

    def _sound(self, kept: _File, rows: Rows) -> Floats | None:
        """Rows of a file; None if one of them is not what was written."""
        vectors = np.array(kept.vectors[rows])
        sums = checksums(kept.keys[rows], vectors, self._seed)
        return vectors if (sums == kept.sums[rows]).all() and np.isfinite(vectors).all() else None

    def _keep(self, keys: Keys, vectors: Floats) -> None:
        if not self._keeping or not np.isfinite(vectors).all():
            return
        order = np.argsort(keys)
        try:
            self._write(keys[order], [vectors[order]])
            self._join_files(vectors.shape[1])
        except (OSError, RunError) as error:
            self._keeping = False
            say(f"features are not kept: {first_line(error)}")

    def _write(self, keys: Keys, parts: Iterable[Floats]) -> Path:
        """One file of sorted keys and their vectors, given in parts in the same order."""
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:32]
        path = self.folder / f"{len(keys)}-{name}{SUFFIX}"
        with replacing(path) as beside, beside.open("wb") as file:
            np.save(file, _bytes(keys))
            sums = np.zeros(len(keys), np.uint32)
            at = file.tell()
            np.save(file, sums)
            start = 0
            for part in parts:
                if start == 0:
                    shape = (len(keys), part.shape[1])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                stop = start + len(part)
                sums[start:stop] = checksums(keys[start:stop], part, self._seed)
                file.write(part.astype("<f4", copy=False).tobytes())
                start = stop
            file.seek(at)
            np.save(file, sums)
        return path

    def _join_files(self, dims: int) -> None:
        """Make one file of many of the same order of size, again and again; each row once."""
        while group := _to_join([p for p in _listed(self.folder) if p.name not in self._told]):
            files = [self._open(path) for path in group]
            whole = [kept for kept in files if kept is not None and self._is_whole(kept, dims)]
            if len(whole) < len(group):  # one is broken, or another process has joined them
                continue
            keys, at = np.unique(np.concatenate([kept.keys for kept in whole]), return_index=True)
            joined = self._write(keys, _gather(whole, at))
            for path in group:
                if path != joined:
                    self._told.add(path.name)  # so that one that cannot be deleted is left
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
            _remove_abandoned(self.folder)

    def _is_whole(self, kept: _File, dims: int) -> bool:
        sound = kept.vectors.shape[1] == dims and all(
            self._sound(kept, rows) is not None for rows in _parts(len(kept.keys))
        )
        if not sound:
            self._tell(kept.path, NOT_WHOLE)
        return sound

    def _tell(self, path: Path, why: str) -> None:
        if path.name not in self._told:
            self._told.add(path.name)
            say(f"{path} is not used: {why}")


class _File(NamedTuple):
    """One file, memory-mapped: sorted keys, their checksums, their vectors."""

    path: Path
    keys: Keys
    sums: NDArray[np.uint32]
    vectors: Floats


def checksums(keys: Keys, vectors: Floats, seed: int) -> NDArray[np.uint32]:
    """The crc32 of each key with its vector, begun with that of the model."""
    pairs = zip(_bytes(keys), np.ascontiguousarray(vectors, "<f4"), strict=True)
    sums = (zlib.crc32(vector, zlib.crc32(key, seed)) for key, vector in pairs)
    return np.fromiter(sums, np.uint32, len(keys))


def _keys(digests: Sequence[str]) -> Keys:
    try:
        data = b"".join(bytes.fromhex(digest) for digest in digests)
    except (TypeError, ValueError):
        data = b""
    if len(data) != 32 * len(digests):
        seen = next((repr(d)[:40] for d in digests if len(str(d)) != 64), "other characters")
        raise InputError("image digests", expected="sha256 in hex", seen=seen)
    return np.frombuffer(data, "S32")


def _bytes(keys: Keys) -> NDArray[np.uint8]:
    return np.ascontiguousarray(keys).view(np.uint8).reshape(-1, 32)


def _fitting(features: Floats | None, made: Floats, images: int, rows: int, folder: Path) -> Floats:
    """Room for all features, once it is known how long one is."""
    if made.ndim != 2 or len(made) != rows:
        raise InputError("features", expected=f"{rows} rows", seen=f"shape {made.shape}")
    if features is None:
        return np.zeros((images, made.shape[1]), np.float32)
    if features.shape[1] != made.shape[1]:
        raise InputError(
            "features of another length than those kept", expected=f"{features.shape[1]} numbers",
            seen=f"{made.shape[1]}", do=f"Delete {folder} if the model has changed.",
        )  # fmt: skip
    return features


def _listed(folder: Path) -> list[Path]:
    """The files of a folder, the largest first; a folder that cannot be read has none."""
    try:
        paths = [path for path in folder.iterdir() if path.suffix == SUFFIX]
    except OSError:
        return []
    return sorted(paths, key=lambda path: (-_rows_of(path), path.name))


def _rows_of(path: Path) -> int:
    rows = path.name.split("-")[0]
    return int(rows) if rows.isascii() and rows.isdigit() and len(rows) < 12 else 0


def _to_join(paths: list[Path]) -> list[Path]:
    """`FAN` files of one order of size, if there are so many; none of those large enough."""
    orders: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if 0 < _rows_of(path) < WHOLE:
            orders[(_rows_of(path).bit_length() - 1) // (FAN.bit_length() - 1)].append(path)
    return next((group[:FAN] for group in orders.values() if len(group) >= FAN), [])


def _open_file(path: Path) -> _File:
    """Map a file.

    Raises:
        ValueError: it is not one of ours, or not all of it is there.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise ValueError("not a file")
    with path.open("rb") as file:
        keys = _map_array(file, np.dtype("u1"), 2)
        sums = _map_array(file, np.dtype("<u4"), 1)
        vectors = _map_array(file, np.dtype("<f4"), 2)
        if file.read(1) or keys.shape[1] != 32 or not len(keys) == len(sums) == len(vectors) > 0:
            raise ValueError("its arrays do not belong together")
    return _File(path, keys.view("S32")[:, 0], sums, vectors)


def _map_array(file: BinaryIO, dtype: np.dtype[Any], dims: int) -> NDArray[Any]:
    """The next array of a file, memory-mapped; the file then stands behind it."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another version")
    shape, fortran, found = np.lib.format.read_array_header_1_0(file)
    if fortran or found != dtype or len(shape) != dims:
        raise ValueError(f"an array of another kind: {found} {shape}")
    start, whole = file.tell(), os.fstat(file.fileno()).st_size
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize > whole - start:
        raise ValueError(f"not all of an array {shape} is there")
    mapped = np.memmap(file, dtype, "r", start, shape)
    file.seek(start + mapped.nbytes)
    return np.asarray(mapped)


def _gather(files: Sequence[_File], at: Rows) -> Iterator[Floats]:
    """The vectors at some rows of several files laid one behind the other, in parts."""
    ends = np.cumsum([len(kept.keys) for kept in files])
    owners = np.searchsorted(ends, at, side="right")
    starts = ends - [len(kept.keys) for kept in files]
    for rows in _parts(len(at)):
        part = np.empty((len(rows), files[0].vectors.shape[1]), np.float32)
        for owner in np.unique(owners[rows]):
            own = rows[owners[rows] == owner]
            part[own - rows[0]] = files[owner].vectors[at[own] - starts[owner]]
        yield part


def _parts(rows: int, size: int = 4096) -> Iterator[Rows]:
    return (np.arange(start, min(start + size, rows)) for start in range(0, rows, size))


def _remove_abandoned(folder: Path) -> None:
    """Delete what processes that were killed long ago had half written."""
    for path in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                path.unlink()
