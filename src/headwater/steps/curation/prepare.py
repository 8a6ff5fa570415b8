"""What every shard of a set goes through before any rule: the pixel path, features, scores.

Each part of a shard waits in `work/` until the whole set is judged:

    pixels-00000.parquet   pairs that decode, their image after the path, and what it was before
    broken-00000.parquet   decisions on those that do not
    scores-00000.parquet   a column a score, row by row as in pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.clip import Clip
from headwater.clip.feed import Feed, in_batches
from headwater.curate.pixels import Passed, as_it_came, looks_column, one_path
from headwater.curate.scoring import Candidates, NamedScore, score_pairs
from headwater.engine import run_shards
from headwater.errors import DecodeError
from headwater.features import KeptFeatures
from headwater.pairs import image_column, read_shard, sha256_of
from headwater.progress import track
from headwater.steps.curation.candidates import LOOKS, PIXELS
from headwater.steps.curation.settings import Curation
from headwater.steps.sets import sift
from headwater.store import WORK, write_table
from headwater.task import Task

BLOCK = 2048  # images whose features are kept together

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Bench:
    """Where the parts of a set's shards wait, and where the shards came from."""

    out: Path
    sources: tuple[Path, ...]

    @property
    def shards(self) -> int:
        """How many."""
        return len(self.sources)

    def pixels(self, number: int) -> Path:
        """The pairs of a shard after the pixel path."""
        return self.out / WORK / f"pixels-{number:05d}.parquet"

    def broken(self, number: int) -> Path:
        """The decisions on pairs of a shard that do not decode."""
        return self.out / WORK / f"broken-{number:05d}.parquet"

    def scores(self, number: int) -> Path:
        """The scores of a shard."""
        return self.out / WORK / f"scores-{number:05d}.parquet"


def prepare_pixels(bench: Bench, how: Curation, *, engine: str, workers: int | None) -> None:
    """Send the shards of a set through the pixel path, side by side; finished ones are left."""
    jobs = [n for n in range(bench.shards) if not bench.pixels(n).exists()]
    work = partial(prepare_shard, bench, how)
    run_shards(work, jobs, engine=engine, workers=workers, label="one pixel path", unit="shards")


def prepare_shard(bench: Bench, how: Curation, number: int) -> None:
    """One shard through the pixel path; what does not decode is written down."""
    pairs = read_shard(bench.sources[number])
    passed = pass_images(pairs, how)
    looks = [passed[digest] for digest in pairs["sha256"]]
    reasons = [look if isinstance(look, str) else None for look in looks]
    part = sift(pairs, reasons, gate=PIXELS)
    done = [look for look in looks if not isinstance(look, str)]
    write_table(bench.broken(number), part.decisions.filter(~pl.col("kept")))
    write_table(bench.pixels(number), _with_looks(part.pairs, done, as_jpeg=how.pixels == "one"))


def pass_images(pairs: pl.DataFrame, how: Curation) -> dict[str, Passed | str]:
    """What the pixel path makes of each image, by its sha256; a reason where it cannot be used."""
    passed: dict[str, Passed | str] = {}
    for digest, data in zip(pairs["sha256"], pairs["image"].struct.field("bytes"), strict=True):
        if digest in passed:
            continue
        try:
            if how.pixels == "one":
                passed[digest] = one_path(data or b"", size=how.size, quality=how.quality)
            else:
                passed[digest] = as_it_came(data or b"")
        except DecodeError as error:
            passed[digest] = str(error)
    return passed


def _with_looks(pairs: pl.DataFrame, done: Sequence[Passed], *, as_jpeg: bool) -> pl.DataFrame:
    """Pairs with their images after the path, and what these were like before and after.

    `came` is the sha256 of the image as it came.
    """
    names = pairs["image"].struct.field("path").to_list()
    if as_jpeg:
        names = [f"{Path(name or 'image').stem}.jpg" for name in names]
    return pairs.with_columns(
        image_column([one.data for one in done], names),
        pl.col("sha256").alias("came"),
        pl.Series("sha256", [sha256_of(one.data) for one in done], dtype=pl.String),
        looks_column("before", (one.before for one in done)),
        looks_column("after", (one.after for one in done)),
    )


def prepare_scores(bench: Bench, scores: Sequence[NamedScore], *, task: Task, clip: Clip) -> None:
    """Score the shards of a set, one after the other; finished ones are left."""
    left = [n for n in range(bench.shards) if not bench.scores(n).exists()]
    if left:
        scorer = Scorer(scores, task, clip)
        for number in track(left, label="scoring", unit="shards"):
            table = scorer.score(read_shard(bench.pixels(number)))
            write_table(bench.scores(number), table)


def without_images(pairs: pl.DataFrame) -> pl.DataFrame:
    """Prepared pairs without their image: what it was like as it came is in columns of its own."""
    came = [pl.col("before").struct.field(name) for name in LOOKS]
    return pairs.select(pl.all().exclude("image", "before", "after"), *came)


class Scorer:
    """A model with a task's texts, and the scores that are asked for."""

    def __init__(self, scores: Sequence[NamedScore], task: Task, clip: Clip) -> None:
        self.scores, self.task, self.clip = scores, task, clip
        self.texts = clip.class_text_features(task.names, task.prompts.filter)
        self.kept = KeptFeatures(clip.features_digest)
        # A processor is as fast without workers; a GPU would wait for one process that decodes.
        self.feed = Feed(clip, workers=0 if clip.device.type == "cpu" else None, whole=True)

    def score(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The scores of some pairs, a column each; null where there is none."""
        data = pairs["image"].struct.field("bytes").to_list()
        candidates = Candidates(
            pairs=without_images(pairs),
            encoded=data,
            encode_images=lambda: self._features(pairs["sha256"].to_list(), data),
            labels=self.task.labels,
            class_texts=self.texts,
            encode_texts=self.clip.encode_texts,
        )
        found = score_pairs(candidates, self.scores)
        columns = [pl.Series(name, values, dtype=pl.Float32) for name, values in found.items()]
        return pl.DataFrame(columns).fill_nan(None)

    def _features(self, digests: Sequence[str], data: Sequence[bytes]) -> Floats:
        def encode(rows: NDArray[np.int64]) -> Floats:
            ready = self.feed.prepare((row, data[row]) for row in rows.tolist())
            # Batch by batch, so that workers decode the next one meanwhile.
            batches = (batch.numpy() for _, batch in in_batches(ready, self.clip.batch_size))
            none = np.zeros((0, self.clip.dim), np.float32)
            return np.concatenate([none, *map(self.clip.encode_images, batches)])

        return self.kept.of(digests, encode, block=BLOCK)
