"""`task label`: pool, task -> a page on which a person labels a sample of the pool.

Which pictures are shown is drawn in `sample.py`; the page itself is `report/label.py`; what becomes
of the answers is in `split.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from headwater.engine import run_shards
from headwater.errors import InputError, PoolError
from headwater.progress import say
from headwater.report.label import render_label
from headwater.retrieve.words import CaptionMatcher
from headwater.steps.hits import caption_hits
from headwater.steps.labelling.sample import Sampling, draw_sample
from headwater.steps.labelling.split import check_labels, locate, open_images, tell_classes
from headwater.store import Json, check_page, write_text
from headwater.task import Task

MAX_PAGE = 64 * 2**20  # bytes: 2,000 photos of 256 px take half of it


def make_page(
    pool_path: str | Path,
    task: Task,
    page: Path,
    *,
    how: Sampling,
    seed: int = 0,
    pool_name: str = "pool",
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Write a page on which a person labels a sample of a pool.

    Args:
        pool_path: the pool, with images.
        task: whose classes are asked for and whose queries are searched for.
        page: the HTML file to write.
        how: how many pictures, and which.
        seed: of all draws.
        pool_name: the namespace of the ids.
        engine, workers: what matches captions side by side, as `run_shards` takes them.

    Returns:
        How many pictures there are, how many of them by captions, and the bytes of the page.

    Raises:
        PoolError: no pool, no images in it that can be shown, or a key that stands twice.
        TaskError: a label that cannot be asked for.
        InputError: no place for the page, or a page too large.
    """
    check_page(page)
    check_labels(task)
    pool = open_images(pool_path, name=pool_name)
    work = partial(caption_hits, matcher=CaptionMatcher(task.queries, mode=how.mode))
    what = "matching captions"
    hits = run_shards(work, pool.shards, engine=engine, workers=workers, label=what)
    sample = draw_sample(pool, hits, task.labels, how=how, seed=seed)
    if not sample.pictures:
        raise PoolError("nothing to label", expected="images", seen="none that can be shown")
    locate(pool, [each.id for each in sample.pictures])  # each stands for one image only
    text = render_label(task.name, task.name_of, sample.pictures)
    size = len(text.encode())
    if size > MAX_PAGE:
        raise InputError(
            "the page is too large", expected=f"{MAX_PAGE >> 20} MB at most",
            seen=f"{size / 2**20:.0f} MB", do="Ask for fewer pictures with -n.",
        )  # fmt: skip
    write_text(page, text)
    _tell_sample(task, hits, found=len(sample.pictures), wanted=how.n)
    counts = {"pictures": len(sample.pictures), "by_captions": sample.by_captions}
    return {**counts, "megabytes": round(size / 2**20, 2)}


def _tell_sample(task: Task, hits: Sequence[pl.DataFrame], *, found: int, wanted: int) -> None:
    """Name the classes that no caption names, and say where the pool has too few images."""
    named = set(pl.concat(hits)["label"])
    tell_classes("no caption names", [label for label in task.labels if label not in named], task)
    if found < wanted:
        say(f"only {found:,} of {wanted:,} pictures: no further image of the pool can be shown")
