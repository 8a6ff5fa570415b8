"""The sample a person is to label: pictures of a pool that decode, by captions and by chance.

A part are those whose captions name a class, balanced over the classes as far as they go; the rest
is drawn from the whole pool without looking, so that "none of these" is seen too. `page.py` shows
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from headwater.curate.safety import unsafe_rows
from headwater.pairs import sha256_of
from headwater.pool import Pool, PoolShard, come_first, count_rows, read_images, read_table
from headwater.progress import track
from headwater.report.label import Picture
from headwater.retrieve.sample import random_rows
from headwater.steps.settings import SETTINGS
from headwater.steps.thumbnails import thumbnail

SIDE = 256  # pixels of a picture's longer side on the page
SPARE = 32  # rows looked at beyond those still missing, for some images do not decode
TRIES = 100  # rows drawn at random for each picture wanted, at most

Rows = NDArray[np.int64]


class Sampling(BaseModel):
    """How many pictures are labelled, and which part of them is found by captions."""

    model_config = SETTINGS

    n: int = Field(200, ge=1, le=2_000)
    matched: float = Field(0.5, ge=0, le=1)
    mode: Literal["phrase", "all", "substring", "reference"] = "phrase"


class Drawn(NamedTuple):
    """A picture of the sample, where it stands in the pool, and what it is made of."""

    row: int
    sha256: str
    picture: Picture


Look = Callable[[Rows], list[Drawn]]


class Sample(NamedTuple):
    """Pictures in random order, and how many of them were found by captions."""

    pictures: list[Picture]
    by_captions: int


def draw_sample(
    pool: Pool, hits: Sequence[pl.DataFrame], labels: Sequence[str], *, how: Sampling, seed: int
) -> Sample:
    """Pictures of a pool to be labelled; fewer than asked for where it has no more.

    Args:
        pool: with images.
        hits: what captions find, a table a shard: row in the shard, label.
        labels: of the task.
        how: how many, and which part by captions.
        seed: of all draws.
    """
    starts = [0, *accumulate(count_rows(shard) for shard in pool.shards)]
    moved = [part.with_columns(pl.col("row") + at) for part, at in zip(hits, starts, strict=False)]
    look = partial(_look, pool, starts)
    named = balanced_rows(pl.concat(moved), labels, seed=seed)
    matched = _first_good(named, round(how.matched * how.n), look, [])
    drawn = matched + _by_chance(starts[-1], how.n - len(matched), look, matched, seed)
    order = np.random.default_rng(seed).permutation(len(drawn))
    return Sample([drawn[place].picture for place in order], len(matched))


def balanced_rows(hits: pl.DataFrame, labels: Sequence[str], *, seed: int) -> Rows:
    """Rows that captions found, the classes taking turns, each row once.

    Args:
        hits: columns row and label.
        labels: in the order of their turns.
        seed: of the order inside a class.

    Returns:
        int64: a random row of every class, then another one of each, until all are told.

    Example:
        >>> hits = pl.DataFrame({"row": [1, 2, 3, 9], "label": ["fern", "fern", "fern", "rose"]})
        >>> rows = balanced_rows(hits, ["rose", "fern"], seed=0).tolist()
        >>> rows[0], sorted(rows[1:])
        (9, [1, 2, 3])
    """
    place = pl.col("label").replace_strict(list(labels), range(len(labels)), return_dtype=pl.Int64)
    ordered = hits.select("row", place.alias("place")).unique().sort("row", "place")
    lots = np.random.default_rng(seed).permutation(len(ordered))
    turn = pl.col("lot").rank("ordinal").over("place")
    told = ordered.with_columns(pl.Series("lot", lots)).sort(turn, "place")
    rows: Rows = told.unique("row", keep="first", maintain_order=True)["row"].to_numpy()
    return rows


def _by_chance(
    size: int, wanted: int, look: Look, matched: Sequence[Drawn], seed: int
) -> list[Drawn]:
    rows = random_rows(size, TRIES * wanted, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(rows)
    fresh = shuffled[~np.isin(shuffled, [each.row for each in matched])]
    return _first_good(fresh, wanted, look, matched)


def _first_good(rows: Rows, wanted: int, look: Look, seen: Sequence[Drawn]) -> list[Drawn]:
    """The first of some rows that can be shown, as many as are wanted; no image twice."""
    known = {each.sha256 for each in seen}
    good: list[Drawn] = []
    at = 0
    while len(good) < wanted and at < len(rows):
        part = rows[at : at + wanted - len(good) + SPARE]
        at += len(part)
        for each in look(part):
            if each.sha256 not in known:
                known.add(each.sha256)
                good.append(each)
    return good[:wanted]


def _look(pool: Pool, starts: Sequence[int], rows: Rows) -> list[Drawn]:
    """Those of some rows of the pool that are safe and decode, in the order asked for."""
    found: dict[int, tuple[str, Picture]] = {}
    spans = zip(pool.shards, pairwise(starts), strict=True)
    for shard, (start, stop) in track(list(spans), label="reading images"):
        inside = rows[(start <= rows) & (rows < stop)] - start
        if len(inside):
            found |= {start + row: each for row, each in _in_shard(pool.name, shard, inside)}
    return [Drawn(row, *found[row]) for row in rows.tolist() if row in found]


def _in_shard(
    pool_name: str, shard: PoolShard, rows: Rows
) -> Iterator[tuple[int, tuple[str, Picture]]]:
    table = read_table(shard, rows=rows)
    unsafe = unsafe_rows(table["nsfw"]) | unsafe_rows(table["punsafe"])
    wanted = table.filter(come_first(shard, table) & ~unsafe)
    known = {key: (row, text) for row, key, text in wanted["row", "key", "caption"].iter_rows()}
    for key, _, data in read_images(shard, list(known)):
        row, caption = known[key]
        small = thumbnail(data, side=SIDE)
        if small is not None:
            yield row, (sha256_of(data), Picture(f"{pool_name}:{key}", caption or "", small))
