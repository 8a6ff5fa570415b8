"""`novelty --html`: what was found, as a page with the pairs to look at side by side.

The page itself is made in `headwater.report.novelty`; here pairs are chosen, and pictures and
captions found: those of the set in the set, those of the pool in the pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from pathlib import Path

import numpy as np
import polars as pl

from headwater.curate.audit import share_interval
from headwater.errors import SetError
from headwater.pairs import iter_pairs
from headwater.pool import Pool, find_rows, has_images, open_pool, read_images, read_table
from headwater.report.novelty import render_novelty
from headwater.steps.novelty.novelty import MEMORIZED, RECORD
from headwater.steps.novelty.settings import BANDS
from headwater.steps.novelty.subset import check_novelty, read_nearest
from headwater.steps.thumbnails import thumbnail, thumbnails
from headwater.store import Json, check_page, read_json, read_step, write_text

SHOWN = 24  # pairs of a band
FEWEST = 2  # pairs of a class in a band, where there are many classes
SIDE = 160  # of a picture, pixels
BINS = 50
SCORES = ("similarity", "clip_similarity")


def write_page(
    folder: Path, source: Path, pool_path: str | Path, page: Path, *, shown: int = SHOWN
) -> Json:
    """Write a page of what `find_novelty` found.

    Args:
        folder: what it made.
        source: the set it looked at.
        pool_path: the pool it looked in.
        page: the HTML file to write.
        shown: pairs shown of each band, at most.

    Returns:
        What the page tells: counts, levels, `bands` with the pairs shown, `histograms`, `classes`,
        how many pool images are `copied` and how often the `most` copied one is, `interval`.

    Raises:
        SetError: no novelty, or that of another set or pool.
        InputError: no place for the page.
    """
    check_page(page)
    record = read_step(folder)
    check_novelty(folder, read_step(source)["digest"], source)
    how = read_json(folder / RECORD)
    pool = open_pool(pool_path, name=how["pool"])
    if record["inputs"]["pool"] != pool.digest:
        raise SetError(
            f"{folder} was compared with another pool", expected=f"the pool {pool.name} as it was",
            seen=str(pool_path), do="Name that pool, or run `headwater novelty` again.",
        )  # fmt: skip
    table = read_nearest(folder).with_columns(_other())
    bands = {band: choose_pairs(table, band, shown=shown) for band in BANDS}
    chosen = pl.concat(bands.values())
    captions, images = look_up(pool, chosen["other"].drop_nulls().to_list())
    own = _own_captions(source, chosen)
    told = {
        "set": source.name,
        **{key: how[key] for key in how if key != "format"},
        "counts": record["counts"],
        "given": record["arguments"]["near"] is not None,
        "pictured": any(map(has_images, pool.shards)),
        "bands": [
            {
                "band": band,
                "total": record["counts"][band],
                "pairs": [_told_pair(row, own, captions) for row in rows.to_dicts()],
            }
            for band, rows in bands.items()
        ],
        "histograms": {column: _histogram(table[column]) for column in SCORES},
        "classes": _classes(table),
        "interval": share_interval(record["counts"][MEMORIZED], len(table)),
        **_twins(table),
    }
    small = thumbnails(source, chosen, side=SIDE)
    others = {name: thumbnail(data, side=SIDE) for name, data in images.items()}
    pictures = [
        (small.get((row["id"], row["label"])), others.get(row["other"]))
        for row in chosen.to_dicts()
    ]
    write_text(page, render_novelty(told, pictures))
    return told


def _other() -> pl.Expr:
    """The pool image that an image is shown beside."""
    copied = pl.coalesce("same_as", "copy_of", "like")
    return pl.when(novelty=MEMORIZED).then(copied).otherwise("like").alias("other")


def choose_pairs(table: pl.DataFrame, band: str, *, shown: int) -> pl.DataFrame:
    """The most similar pairs of a band, few of each class.

    Example:
        >>> table = pl.DataFrame({"id": ["a", "b", "c"], "label": ["rose", "rose", "fern"],
        ...     "novelty": "new", "similarity": 0.0, "clip_similarity": [0.9, 0.8, 0.7]})
        >>> choose_pairs(table, "new", shown=2)["id"].to_list()
        ['a', 'b']
        >>> choose_pairs(pl.concat([table] * 2), "new", shown=3)["id"].to_list()
        ['a', 'b', 'c']
    """
    by = SCORES if band == MEMORIZED else SCORES[::-1]
    rows = table.filter(novelty=band).unique("id", keep="first", maintain_order=True)
    limit = max(FEWEST, ceil(shown / max(rows["label"].n_unique(), 1)))
    order = [True] * len(by) + [False]
    ordered = rows.sort(*by, "id", descending=order, nulls_last=True)
    return ordered.filter(pl.int_range(pl.len()).over("label") < limit).head(shown)


def look_up(pool: Pool, ids: Iterable[str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Captions and images of some pairs of a pool, by id; what is not there is left out."""
    left = {name.removeprefix(f"{pool.name}:"): name for name in ids}
    captions: dict[str, str] = {}
    images: dict[str, bytes] = {}
    for shard in pool.shards:
        found = find_rows(shard, list(left)) if left else None
        if found is None or not len(found):
            continue
        table = read_table(shard, rows=found["row"].to_numpy()).select("key", "caption")
        captions |= {left[key]: caption or "" for key, caption in table.iter_rows() if key in left}
        read = read_images(shard, found["key"].to_list()) if has_images(shard) else ()
        images |= {left[key]: data for key, _, data in read}
        left = {key: name for key, name in left.items() if name not in captions}
    return captions, images


def _own_captions(source: Path, chosen: pl.DataFrame) -> dict[str, str]:
    ids = chosen["id"].unique().implode()
    tables = iter_pairs(source, ["id", "caption"])
    found = pl.concat([table.filter(pl.col("id").is_in(ids)) for table in tables])
    return {pair: caption or "" for pair, caption in found.iter_rows()}


def _told_pair(row: Json, own: dict[str, str], captions: dict[str, str]) -> Json:
    return {
        "id": row["id"],
        "label": row["label"],
        "caption": own.get(row["id"], ""),
        "other": row["other"],
        "other_caption": captions.get(row["other"], ""),
        "same": row["same_as"] is not None,
        **{score: row[score] for score in SCORES},
    }


def _histogram(values: pl.Series) -> list[Json]:
    """How many images lie in each of some equal stretches of similarity; nothing of nothing."""
    known = values.drop_nulls().to_numpy().astype(np.float64)
    if not len(known):
        return []
    low = np.floor(known.min() * 10) / 10
    counts, ends = np.histogram(known, bins=BINS, range=(low, max(low + 0.1, 1.0, known.max())))
    edges = ends.round(4).tolist()
    stretches = zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    return [{"from": left, "to": right, "images": n} for left, right, n in stretches]


def _classes(table: pl.DataFrame) -> list[Json]:
    """A row a class: its images, and how many are in each band; the least new come first."""
    counted = table.group_by("label", maintain_order=True).agg(
        pl.len().alias("images"), *((pl.col("novelty") == band).sum().alias(band) for band in BANDS)
    )
    shares = [pl.col(band) / pl.col("images") for band in BANDS[:2]]
    return counted.sort(*shares, "label", descending=[True, True, False]).to_dicts()


def _twins(table: pl.DataFrame) -> Json:
    """How many pool images came back, and how often the most frequent one did."""
    copies = table.filter(novelty=MEMORIZED).unique("id")["other"].drop_nulls().value_counts()
    return {"copied": len(copies), "most": copies["count"].max() or 0}
