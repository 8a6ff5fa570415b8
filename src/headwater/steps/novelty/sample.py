"""Where near begins: how close a pool's own images are to their nearest fellows in the pool.

Some images of the pool are drawn and asked for their nearest other, by the same CLIP and in the
same pool as the set's images. An image of the set is near one of the pool if it is closer to it
than `PERCENTILE` % of those are to theirs. Images that have a twin in the pool tell nothing of how
close different photographs come, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.pool import (
    Pool,
    PoolShard,
    count_rows,
    find_rows,
    has_images,
    read_images,
    read_table,
    read_vectors,
)
from headwater.retrieve.sample import random_rows
from headwater.steps.novelty.looks import Floats, Ints, Look, unit_rows
from headwater.store import Json

SAMPLE = 1000
PERCENTILE = 95
QUANTILES = (5, 25, 50, 75, 90, 95, 99)  # recorded
LEAST = 20  # images without a twin; of fewer, nothing can be said

EXACT = 0.999
"""Without images a twin is told by its vector: CLIP gives the same one for the same image, but for
rounding to float16 (1e-3 at most)."""


@dataclass(frozen=True)
class Sample:
    """Pairs of a pool.

    Attributes:
        own: (s, 2) int64, shard and row in it.
        keys: of each.
    """

    own: Ints
    keys: list[str]

    def of_shard(self, number: int) -> Ints:
        """Which of the pairs lie in a shard."""
        return np.flatnonzero(self.own[:, 0] == number)


def draw_sample(pool: Pool, *, size: int, seed: int) -> Sample:
    """Pairs of a pool, drawn without looking, by row; of those that share a key only the first."""
    counts = [count_rows(shard) for shard in pool.shards]
    drawn = random_rows(sum(counts), size, seed=seed)
    own: list[tuple[int, int]] = []
    keys: list[str] = []
    start = 0
    for shard, count in zip(pool.shards, counts, strict=True):
        rows = drawn[(drawn >= start) & (drawn < start + count)] - start
        start += count
        if len(rows):
            table = read_table(shard, rows=rows).select("row", "key")
            table = table.join(find_rows(shard, table["key"]), on=["row", "key"], how="semi")
            own += [(shard.number, row) for row in table["row"]]
            keys += table["key"].to_list()
    return Sample(np.array(own, np.int64).reshape(-1, 2), keys)


def place_in(pool: Pool, sample: Sample) -> Sample:
    """The same pairs in another pool of the same shards; -1 for those it does not have."""
    own = np.full_like(sample.own, -1)
    for shard in pool.shards:
        at = sample.of_shard(shard.number)
        if not len(at):
            continue
        found = find_rows(shard, [sample.keys[i] for i in at])
        row_of = dict(zip(found["key"], found["row"], strict=True))
        for i in at:
            if sample.keys[i] in row_of:
                own[i] = shard.number, row_of[sample.keys[i]]
    return Sample(own, sample.keys)


def encode_sample(pool: Pool, sample: Sample, look: Look) -> Floats:
    """The sampled images as they are seen, (s, d); zeros where there is none that decodes."""
    parts = [
        (at, look.encode([found.get(sample.keys[i], b"") for i in at]))
        for shard in pool.shards
        if len(at := sample.of_shard(shard.number))
        for found in [_images(shard, [sample.keys[i] for i in at])]
    ]
    return _join(parts, len(sample.keys), look.encode([]).shape[1])


def vectors_of_sample(pool: Pool, sample: Sample, whose: str | None) -> Floats:
    """The vectors of the sampled pairs as unit rows, (s, d); zeros where one is not finite."""
    parts = [
        (at, unit_rows(vectors[sample.own[at, 1]]))
        for shard in pool.shards
        if len(at := sample.of_shard(shard.number))
        for vectors in [read_vectors(shard, "image", model=whose)]
    ]
    width = read_vectors(pool.shards[0], "image", model=whose).shape[1]
    return _join(parts, len(sample.keys), width)


def _images(shard: PoolShard, keys: list[str]) -> dict[str, bytes]:
    if not has_images(shard):
        return {}
    return {key: data for key, _, data in read_images(shard, keys)}


def _join(parts: Iterable[tuple[Ints, Floats]], size: int, width: int) -> Floats:
    joined = np.zeros((size, width), np.float32)
    for at, features in parts:
        joined[at] = features
    return joined


def near_level(closest: Floats, twins: NDArray[np.bool_]) -> tuple[float | None, Json]:
    """The level above which an image is near one of the pool, and what it was told from.

    Args:
        closest: (s,) CLIP similarity of sampled images to their nearest other.
        twins: (s,) which of them have a copy in the pool.

    Returns:
        The level, None where too few images are left; and a record: sampled, twins, percentile,
        quantiles {percent: similarity}.

    Example:
        >>> level, told = near_level(np.linspace(0, 1, 101, dtype=np.float32), np.zeros(101, bool))
        >>> round(level, 2), told["twins"], round(told["quantiles"]["50"], 2)
        (0.95, 0, 0.5)
    """
    left = closest[~twins].astype(np.float64)
    told: Json = {"sampled": len(closest), "twins": int(twins.sum()), "percentile": PERCENTILE}
    if len(left) < LEAST:
        return None, {**told, "quantiles": {}}
    values = np.percentile(left, QUANTILES).astype(np.float32).tolist()
    told["quantiles"] = {str(q): value for q, value in zip(QUANTILES, values, strict=True)}
    return told["quantiles"][str(PERCENTILE)], told
