"""The rules of a curation applied to a whole set: what becomes of every pair that was prepared.

Rules look at whole classes, so all shards are judged together, from their scores alone; images are
read again only where copies are looked for. The rules themselves are in `headwater.curate`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.copies import nearest
from headwater.curate.duplicates import find_duplicates
from headwater.curate.rules import begin, best_first, drop, drop_low, staying
from headwater.decode import Image8, decode_rgb
from headwater.descriptors import Descriptor
from headwater.pairs import read_shard
from headwater.progress import track
from headwater.steps.curation.candidates import COPY
from headwater.steps.curation.prepare import Bench, without_images
from headwater.steps.curation.settings import CopiesRule, DuplicatesRule, Rules, ScoreRule
from headwater.steps.described import describe_kept, describe_splits
from headwater.task import Task

Floats = NDArray[np.float32]


def judge(
    bench: Bench, rules: Rules, gates: Sequence[str], *, task: Task, descriptor: Descriptor | None
) -> pl.DataFrame:
    """What becomes of every prepared pair.

    Args:
        bench: where the prepared shards wait.
        rules: in the order they apply.
        gates: what the funnel calls each.
        task: whose evaluation images nothing may be a copy of.
        descriptor: what copies are told by; None where no rule asks.

    Returns:
        A row a pair, shard after shard: all but its image, `shard`, a column a score, `copy_of` and
        `copy_similarity` (null: not compared), and its fate: gate, reason, fell_by.
    """
    table = begin(pl.concat([_pairs(bench, number) for number in range(bench.shards)]))
    first = next((rule.column for rule in rules if isinstance(rule, ScoreRule)), None)
    for rule, gate in zip(rules, gates, strict=True):
        if isinstance(rule, ScoreRule):
            cuts = rule.model_dump(exclude={"score"})
            table = drop_low(table, rule.column, gate=gate, **cuts)
        elif isinstance(rule, CopiesRule):
            table = _drop_copies(table, rule, gate, _Sight(bench, descriptor), task)
        else:
            table = _drop_duplicates(table, rule, gate, _Sight(bench, descriptor), first)
    return table


def _pairs(bench: Bench, number: int) -> pl.DataFrame:
    whole = pl.scan_parquet(bench.pixels(number))
    pairs = without_images(whole.select(pl.all().exclude("image")).collect())
    scores = pl.read_parquet(bench.scores(number))
    return pl.concat([pairs, scores], how="horizontal").with_columns(
        pl.lit(number, pl.Int64).alias("shard"),
        pl.int_range(pl.len()).alias("row"),
        *(pl.lit(None, kind).alias(name) for name, kind in COPY.items()),
    )


class _Sight:
    """Pictures of a set as the copy descriptor sees them."""

    def __init__(self, bench: Bench, descriptor: Descriptor | None) -> None:
        assert descriptor is not None
        self.bench, self.descriptor = bench, descriptor

    def as_they_came(self, pairs: pl.DataFrame) -> Floats:
        """Descriptors (n, d) of the images of pairs before the pixel path."""
        return self._describe(pairs, "came")

    def after_the_path(self, pairs: pl.DataFrame) -> Floats:
        """Descriptors (n, d) of what will be trained on."""
        return self._describe(pairs, "sha256")

    def _describe(self, pairs: pl.DataFrame, digest: str) -> Floats:
        shards = pairs.partition_by("shard", maintain_order=True)
        shown = track(shards, label="describing", unit="shards")
        return np.concatenate([self._describe_shard(part, digest) for part in shown])

    def _describe_shard(self, pairs: pl.DataFrame, digest: str) -> Floats:
        number, digests = pairs["shard"][0], pairs[digest].to_list()
        path = self.bench.sources[number] if digest == "came" else self.bench.pixels(number)
        images: dict[str, bytes] = {}

        def load(row: int) -> Image8:
            if not images:  # only now: what was described before is not read
                read = read_shard(path, ["sha256", "image"])
                images.update(zip(read["sha256"], read["image"].struct.field("bytes"), strict=True))
            return decode_rgb(images[digests[row]])

        return describe_kept(self.descriptor, digests, load)


def _drop_copies(
    table: pl.DataFrame, rule: CopiesRule, gate: str, sight: _Sight, task: Task
) -> pl.DataFrame:
    """Drop what copies an evaluation image; where the task has none, nothing is compared.

    An image is looked at as it came, since a squashed copy loses its ends on the pixel path, and
    after the path, since a padded copy has lost its padding there: the closer look counts.
    """
    splits = rule.among(task.images)
    left = staying(table)
    if not splits or not len(left):
        return table
    references = describe_splits(task, splits, sight.descriptor)
    similarity, index = nearest(sight.as_they_came(left), references.descriptors)
    if not left["came"].equals(left["sha256"]):  # the path changed what is seen
        after = nearest(sight.after_the_path(left), references.descriptors)
        closer = after[0] > similarity
        similarity = np.where(closer, after[0], similarity)
        index = np.where(closer, after[1], index)
    names = pl.Series([references.names[i] for i in index], dtype=pl.String)
    limit = np.float32(_limit(rule, sight))
    reasons = [
        f"copy of {name} ({value:.3f})" if value > limit else None
        for name, value in zip(names, similarity, strict=True)
    ]
    return drop(_note_copies(table, names, similarity), reasons, gate=gate)


def _note_copies(table: pl.DataFrame, names: pl.Series, similarity: Floats) -> pl.DataFrame:
    """The most similar reference of every pair that stays, where no earlier one is closer."""
    rows = np.flatnonzero(table["gate"].is_null().to_numpy())
    before = table["copy_similarity"].fill_null(-np.inf).to_numpy()[rows]
    found = pl.DataFrame({"at": rows, "copy_of": names, "copy_similarity": similarity})
    closer = found.filter(pl.Series(similarity > before))
    return (
        table.with_row_index("at")
        .update(closer.cast({"at": pl.UInt32}), on="at", how="left")
        .drop("at")
    )


def _drop_duplicates(
    table: pl.DataFrame, rule: DuplicatesRule, gate: str, sight: _Sight, score: str | None
) -> pl.DataFrame:
    """Of pairs that copy each other keep the best scored."""
    left = staying(table)
    if not len(left):
        return table
    order = best_first(left, score)
    groups = left["label"].fill_null("").to_numpy()[order] if rule.duplicates == "class" else None
    described = sight.as_they_came(left)[order]
    twin = find_duplicates(described, threshold=_limit(rule, sight), groups=groups)
    ids = left["id"].to_list()
    reasons: list[str | None] = [None] * len(left)
    for row, other in zip(order.tolist(), twin.tolist(), strict=True):
        if other >= 0:
            reasons[row] = f"duplicate of {ids[order[other]]}"
    return drop(table, reasons, gate=gate)


def _limit(rule: CopiesRule | DuplicatesRule, sight: _Sight) -> float:
    return sight.descriptor.threshold if rule.threshold is None else rule.threshold
