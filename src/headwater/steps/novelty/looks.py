"""Looks: the images of a pool as a copy descriptor or CLIP sees them, a block of a shard at a time.

Features of images are kept in the cache (../../features.py), so a pool is decoded once however many
sets are held against it. Where the pool's own vectors are of the same CLIP, nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headwater.clip import Clip
from headwater.clip.feed import Feed, in_batches
from headwater.decode import Image8, decode_rgb
from headwater.descriptors import Descriptor
from headwater.errors import DecodeError
from headwater.features import KeptFeatures
from headwater.pairs import sha256_of
from headwater.pool import PoolShard, has_images, read_images, read_vectors
from headwater.pool.tables import named_blocks

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

IMAGES = 512  # of a block
VECTORS = 8192  # of a block


class Block(NamedTuple):
    """Rows of a shard, rising, and their unit features (n, d)."""

    rows: Ints
    features: Floats


class Look(Protocol):
    """One way to see images."""

    @property
    def name(self) -> str:
        """Where what it found is kept."""

    def encode(self, images: Sequence[bytes]) -> Floats:
        """Features (n, d) of encoded images; a row of zeros for one that does not decode."""

    def blocks(self, shard: PoolShard) -> Iterator[Block]:
        """The images of a shard that decode; of several with one key, the first."""


@dataclass(frozen=True)
class DescriptorLook:
    """As a copy descriptor sees them; with the built-in one it can be sent to other processes."""

    descriptor: Descriptor
    name: str = "descriptor"

    def encode(self, images: Sequence[bytes]) -> Floats:
        """See `Look`."""
        return encode_kept(self.descriptor.digest, images, self._encode)

    def blocks(self, shard: PoolShard) -> Iterator[Block]:
        """See `Look`."""
        return image_blocks(shard, self.encode)

    def _encode(self, images: Sequence[bytes]) -> Floats:
        decoded: list[int] = []
        described = self.descriptor.describe(_decode(images, decoded))
        features = np.zeros((len(images), described.shape[1]), np.float32)
        features[decoded] = described
        return features


class ClipLook:
    """As CLIP sees them; workers decode for it where it is on a GPU."""

    name = "clip"

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    @cached_property
    def feed(self) -> Feed:
        """What makes images ready; a processor is as fast without workers."""
        return Feed(self.clip, workers=0 if self.clip.device.type == "cpu" else None, whole=True)

    def encode(self, images: Sequence[bytes]) -> Floats:
        """See `Look`."""
        return encode_kept(self.clip.features_digest, images, self._encode)

    def blocks(self, shard: PoolShard) -> Iterator[Block]:
        """See `Look`."""
        return image_blocks(shard, self.encode)

    def _encode(self, images: Sequence[bytes]) -> Floats:
        features = np.zeros((len(images), self.clip.dim), np.float32)
        ready = self.feed.prepare(enumerate(images))
        for rows, batch in in_batches(ready, self.clip.batch_size):
            features[rows] = self.clip.encode_images(batch.numpy())
        return features


class VectorLook(ClipLook):
    """The pool's vectors of the same CLIP; images of the set are encoded as by `ClipLook`.

    Args:
        clip: the model of the vectors.
        whose: what the pool calls it, where it has those of several.
    """

    name = "vectors"  # apart from what images gave, should a killed run go on with vectors

    def __init__(self, clip: Clip, whose: str | None) -> None:
        super().__init__(clip)
        self.whose = whose

    def blocks(self, shard: PoolShard) -> Iterator[Block]:
        """The vectors of a shard that are finite, scaled to length one."""
        vectors = read_vectors(shard, "image", model=self.whose)
        for start in range(0, len(vectors), VECTORS):
            features = unit_rows(vectors[start : start + VECTORS])
            there = features.any(axis=1)
            yield Block(start + np.flatnonzero(there), features[there])


def image_blocks(shard: PoolShard, encode: Callable[[Sequence[bytes]], Floats]) -> Iterator[Block]:
    """The images of a shard that decode, encoded; nothing where the shard has none."""
    if not has_images(shard):
        return
    row_of = first_rows(shard)
    rows: list[int] = []
    images: list[bytes] = []
    for key, _, data in read_images(shard, list(row_of)):
        rows.append(row_of[key])
        images.append(data)
        if len(images) == IMAGES:
            yield _block(rows, encode(images))
            rows, images = [], []
    if images:
        yield _block(rows, encode(images))


def first_rows(shard: PoolShard) -> dict[str, int]:
    """Each key of a shard, and the first row that has it: a key tells one image."""
    row_of: dict[str, int] = {}
    for block in named_blocks(shard, ["key"]):
        for row, key in block.select("row", "key").iter_rows():
            row_of.setdefault(key, row)
    return row_of


def unit_rows(vectors: NDArray[np.floating]) -> Floats:
    """Rows scaled to length one, float32; zeros for a row that is not finite.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [np.nan, 1.0]])).round(1).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    rows = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    good = np.isfinite(lengths) & (lengths > 0)
    return np.where(good, rows / np.where(good, lengths, 1), 0).astype(np.float32)


def encode_kept(
    model: str | None, images: Sequence[bytes], encode: Callable[[Sequence[bytes]], Floats]
) -> Floats:
    """Features of encoded images, each computed once and kept under its sha256.

    A broken image is kept as zeros too, so that it is not tried again with every set.
    """
    digests = [sha256_of(data) for data in images]
    return KeptFeatures(model).of(
        digests, lambda rows: encode([images[row] for row in rows.tolist()])
    )


def _block(rows: Sequence[int], features: Floats) -> Block:
    numbers = np.array(rows, np.int64)
    order = np.argsort(numbers)
    order = order[features[order].any(axis=1)]
    return Block(numbers[order], features[order])


def _decode(images: Sequence[bytes], decoded: list[int]) -> Iterator[Image8]:
    """The images that decode; `decoded` is filled with their places."""
    for place, data in enumerate(images):
        try:
            picture = decode_rgb(data)
        except DecodeError:
            continue
        decoded.append(place)
        yield picture
