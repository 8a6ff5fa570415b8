"""What a pool is, in a few facts: what `headwater pool describe` prints.

Every shard is looked at, its captions streamed; a shard that cannot be read is a problem told, not
the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headwater.errors import PoolError
from headwater.pool.images import has_images
from headwater.pool.layouts import Pool, PoolShard
from headwater.pool.sources import open_source
from headwater.pool.tables import find_columns, iter_captions, read_table
from headwater.pool.vectors import MEMBERS, read_vectors, vector_models
from headwater.progress import track

SAMPLE = 5  # captions shown
SAMPLE_LETTERS = 200  # of each
LOOKED_AT = 1000  # rows of each shard searched for safety tags
TOLD = 20  # problems


def describe(pool: Pool) -> dict[str, Any]:
    """What is there and what is wrong with it.

    Returns:
        layout, shards, pairs; bytes: of the files in use; columns: as the pool calls them, with
        Headwater's name for those it knows; images: in every shard; image_vectors, text_vectors:
        whether there are any; vectors: whose and how wide; safety_tags: whether rows have any;
        captions_missing: null or not UTF-8; sample: the first captions; problems: in words.
    """
    facts = _Facts()
    for shard in track(pool.shards, label="reading captions"):
        try:
            facts.look_at(shard)
        except PoolError as error:
            facts.problems.append(str(error))
    facts.problems += [f"{name} is not in use" for name in pool.left_out]
    return {
        "layout": pool.layout,
        "shards": len(pool.shards),
        "pairs": facts.pairs,
        "bytes": pool.bytes,
        "columns": facts.columns,
        "images": not facts.without_images,
        "image_vectors": any("image" in name for name in facts.vectors),
        "text_vectors": any("text" in name for name in facts.vectors),
        "vectors": list(facts.vectors),
        "safety_tags": facts.tagged,
        "captions_missing": facts.missing,
        "sample": facts.sample,
        "problems": facts.told_problems(),
    }


@dataclass
class _Facts:
    """What was seen so far."""

    pairs: int = 0
    missing: int = 0
    tagged: bool = False
    without_images: bool = False
    columns: list[str] = field(default_factory=list)
    vectors: dict[str, None] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def look_at(self, shard: PoolShard) -> None:
        """Count what stands in one shard; what is unreadable raises `PoolError`."""
        self._look_at_columns(shard)
        rows = 0
        for _, captions in iter_captions(shard):
            rows += len(captions)
            self.missing += captions.null_count()
            some = captions.drop_nulls().head(SAMPLE - len(self.sample))
            self.sample += some.str.slice(0, SAMPLE_LETTERS).to_list()
        self.pairs += rows
        if not rows:
            self.problems.append(f"{shard.name} has no rows")
        self.without_images |= not has_images(shard)
        first = read_table(shard, rows=np.arange(min(rows, LOOKED_AT)))
        self.tagged |= bool(first.select("nsfw", "punsafe").count().sum_horizontal().item())
        self._look_at_vectors(shard)

    def _look_at_columns(self, shard: PoolShard) -> None:
        source = open_source(shard)
        names = {alias: name for name, alias in find_columns(source).items()}
        columns = [f"{c} ({names[c]})" if c in names else c for c in source.columns]
        self.columns = self.columns or columns
        if columns != self.columns:
            self.problems.append(f"{shard.name} has other columns: {', '.join(columns)}")

    def _look_at_vectors(self, shard: PoolShard) -> None:
        for kind in MEMBERS:
            for model in vector_models(shard, kind):
                array = read_vectors(shard, kind, model=model)
                whose = f"{model} " if model else ""
                self.vectors[f"{whose}{kind} {array.shape[1]} {array.dtype}"] = None

    def told_problems(self) -> list[str]:
        """The first problems, and how many more there are."""
        more = len(self.problems) - TOLD
        return self.problems[:TOLD] + ([f"and {more:,} more"] if more > 0 else [])
