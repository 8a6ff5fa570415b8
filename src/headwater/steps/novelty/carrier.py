"""Where a pool's vectors of one CLIP lie: in a folder of `pool embed`, in the pool itself, or not.

Vectors of another model look like any others, so they are used only where it is known whose they
are: `pool embed` wrote it down, or they are what the model gives for some of the pool's images.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headwater.clip import Clip
from headwater.errors import PoolError
from headwater.pool import (
    Pool,
    PoolShard,
    has_images,
    open_pool,
    read_images,
    read_vectors,
    vector_models,
)
from headwater.progress import say
from headwater.steps.hits import check_model
from headwater.steps.novelty.looks import ClipLook, first_rows, unit_rows
from headwater.store import DONE, Json, read_json, read_step

TRIED = 8  # images that are encoded to know a model again
AGREE = 0.95
"""Cosine above which a vector is what the model gives for the image; bfloat16 vectors of
`pool embed` have at least 0.99, those of another model about 0."""


class Carrier(NamedTuple):
    """The pool that carries the vectors, whose they are in it, and whether it holds only some."""

    pool: Pool
    whose: str | None
    partial: bool = False


def find_vectors(
    pool: Pool, pool_path: str | Path, clip: Clip, vectors: str | Path | None
) -> Carrier | None:
    """The image vectors of a pool that are of this CLIP; None where images are to be encoded.

    Args:
        pool: whose images are looked at.
        pool_path: where it lies.
        clip: the model.
        vectors: a folder that `pool embed` made of this pool with this model; else the pool's own
            are looked at.

    Raises:
        PoolError: vectors of another model or another pool, or neither vectors nor images.
    """
    if vectors is not None:
        check_model(Path(vectors), clip)
        return _embedded(pool, Path(vectors))
    whose = _whose(pool, clip)
    if whose and _is_of(pool, Path(pool_path), clip, whose[0]):
        return Carrier(pool, whose[0])
    if not any(map(has_images, pool.shards)):
        raise PoolError(
            f"nothing to compare with in pool {pool.name}",
            expected=f"images, or image vectors of this model ({clip.dim} wide)",
            seen="vectors of another model" if _has_vectors(pool) else "captions and URLs only",
            do="Download its images, or give --vectors made by `headwater pool embed`.",
        )  # fmt: skip
    return None


def can_compare(pool: Pool, clip: Clip, vectors: str | Path | None) -> bool:
    """Whether there is anything in a pool to hold images against."""
    has_something = vectors is not None or any(map(has_images, pool.shards))
    return has_something or bool(_whose(pool, clip))


def _embedded(pool: Pool, vectors: Path) -> Carrier:
    """A folder of `pool embed`, if it is of this pool."""
    carrier = open_pool(vectors, name=pool.name)
    inputs: Json = read_step(vectors)["inputs"] if (vectors / DONE).exists() else {}
    seen = inputs.get("pool", pool.digest)
    if len(carrier.shards) != len(pool.shards) or seen != pool.digest:
        raise PoolError(
            f"the vectors in {vectors} are out of step with pool {pool.name}",
            expected=f"{len(pool.shards)} shards of it",
            seen=f"{len(carrier.shards)} of another, or as it was before",
            do="Run `headwater pool embed` on this pool again.",
        )  # fmt: skip
    if not _has_vectors(carrier):
        raise PoolError(
            f"{vectors} has no vectors of images", expected="img_emb", seen="captions only",
            do="Run `headwater pool embed` without --only captions.",
        )  # fmt: skip
    return Carrier(carrier, None, partial="task" in inputs)


def _has_vectors(pool: Pool) -> bool:
    return all(vector_models(shard) for shard in pool.shards)


def _whose(pool: Pool, clip: Clip) -> list[str | None]:
    """The models of the pool's own vectors that are as wide as this one's."""
    if not _has_vectors(pool):
        return []
    first = pool.shards[0]
    widths = {model: read_vectors(first, "image", model=model).shape[1] for model in
              vector_models(first)}  # fmt: skip
    return [model for model, width in widths.items() if width == clip.dim]


def _is_of(pool: Pool, path: Path, clip: Clip, whose: str | None) -> bool:
    """Whether the pool's own vectors are of this CLIP."""
    if (path / DONE).exists():
        made_by: Json = read_json(path / DONE).get("inputs", {})
        return bool(made_by.get("model") == clip.digest)
    tried = next((shard for shard in pool.shards if has_images(shard)), None)
    if tried is None:
        say(f"the vectors of pool {pool.name} are taken for those of this model: nothing says so")
        return True
    if _agrees(tried, clip, whose):
        return True
    say(f"the vectors of pool {pool.name} are of another model: its images are encoded instead")
    return False


def _agrees(shard: PoolShard, clip: Clip, whose: str | None) -> bool:
    """Whether the vectors of some images are what the model gives for them."""
    row_of = first_rows(shard)
    some = list(islice(read_images(shard, list(row_of)), TRIED))
    features = ClipLook(clip).encode([data for _, _, data in some])
    rows = np.array([row_of[key] for key, _, _ in some], np.int64)
    known = unit_rows(read_vectors(shard, "image", model=whose)[rows])
    there = features.any(axis=1) & known.any(axis=1)
    cosines = (known * features).sum(axis=1)[there]
    return len(cosines) > 0 and bool(np.median(cosines) > AGREE)
