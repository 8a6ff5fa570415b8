"""Which pairs of a pool are embedded: all, or those a prefilter lets through; and what that costs.

A prefilter is measured on pairs drawn from the whole pool, which are embedded in the same pass
whether they get through or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.clip import Clip
from headwater.pool import PoolShard, count_rows, iter_captions
from headwater.prompts import fill
from headwater.retrieve.prefilter import WordFilter, recall
from headwater.retrieve.sample import random_rows
from headwater.store import WORK, Json, replacing
from headwater.task import Task

NEAREST = 0.01  # of the sample: what recall is measured on

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """Which rows of a pool are embedded: all, or those that pass the filter and those sampled."""

    words: WordFilter | None = None
    sample: dict[int, Rows] | None = None  # rows of each shard, by its number

    def rows(self, shard: PoolShard) -> tuple[Rows, Rows]:
        """The rows of a shard to keep, and those to measure with."""
        sampled = (self.sample or {}).get(shard.number, np.empty(0, np.int64))
        if self.words is None:
            return np.arange(count_rows(shard)), sampled
        kept = [
            first + np.flatnonzero(self.words.passing(block))
            for first, block in iter_captions(shard)
        ]
        return np.concatenate([np.empty(0, np.int64), *kept]), sampled


def select(task: Task | None, sizes: list[int], *, sample: int, seed: int) -> Selection:
    """What to embed of shards of these sizes: everything, or what a task's words pass."""
    if task is None:
        return Selection()
    texts = [*task.names, *(str(query) for own in task.queries.values() for query in own)]
    drawn = random_rows(sum(sizes), sample, seed=seed)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cuts = np.searchsorted(drawn, starts)
    parts = {
        number: drawn[cuts[number] : cuts[number + 1]] - starts[number]
        for number in range(len(sizes))
    }
    return Selection(WordFilter(texts), parts)


def save_sample(
    out: Path, number: int, vectors: dict[str, NDArray[np.float16]], passes: NDArray[np.bool_]
) -> None:
    """Keep the embedded sample of one shard until all shards are done."""
    arrays: dict[str, NDArray[Any]] = {"passes": passes, **vectors}
    with replacing(_sample_path(out, number)) as beside, beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def measure(task: Task, out: Path, shards: int, *, clip: Clip, kinds: tuple[str, ...]) -> Json:
    """What the prefilter would have lost: its recall on the sample, by each kind of embedding."""
    paths = [_sample_path(out, number) for number in range(shards)]
    parts = [_read_sample(path) for path in paths if path.exists()]
    if not parts:
        return {"sample": 0, "sample_passing": 0}
    passes = np.concatenate([part["passes"] for part in parts])
    texts = [fill(t, c.name) for c in task.classes for t in task.prompts.retrieval]
    queries = clip.encode_texts(texts, normalize=True)
    told: Json = {"sample": len(passes), "sample_passing": int(passes.sum())}
    for kind in kinds:
        vectors = np.concatenate([part[kind] for part in parts])
        told[f"recall_by_{kind}"] = recall(queries, vectors, passes, share=NEAREST)
    return told


def tell_prefilter(counts: Json) -> str:
    """What a prefilter kept, and what of the nearest it would have lost, in one line."""
    shares = [
        f"{100 * counts[name]:.1f} % by {name.removeprefix('recall_by_')}"
        for name in counts
        if name.startswith("recall_by_") and counts[name] is not None
    ]
    kept = f"the prefilter kept {counts['pairs']:,} of {counts['pool_pairs']:,} pairs"
    if not shares:
        return f"{kept}; its recall was not measured"
    nearest = f"of the nearest {100 * NEAREST:.0f} % of a sample of {counts['sample']:,}"
    whole = counts["sample_passing"] / max(counts["sample"], 1)
    return f"{kept}; {nearest} it keeps {', '.join(shares)} (of all of it {100 * whole:.1f} %)"


def _read_sample(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _sample_path(out: Path, number: int) -> Path:
    return out / WORK / f"sample_{number:04d}.npz"
