"""`subset`: a set, its novelty -> a set of the images that are as new as is said.

An arm on it splits a verdict by novelty. Every other pair of the set is a decision with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from headwater.errors import InputError, SetError
from headwater.pairs import read_funnel, read_shard, shard_paths
from headwater.steps.novelty.novelty import MEMORIZED, NEAR, NEAREST, NEAREST_SCHEMA
from headwater.steps.novelty.settings import BANDS
from headwater.steps.sets import Part, finish_set, make_parts, sift
from headwater.store import Json, read_step, step

GATES = ("given", "novelty")
KEY = ("id", "label")


def subset(source: Path, novelty: Path, out: Path, *, keep: Sequence[str]) -> Json:
    """Make the set `out` of the images of a set that are as new as is said.

    Args:
        source: a finished set.
        novelty: what `find_novelty` made of it.
        out: the new set.
        keep: which stay, of memorized, near and new.

    Returns:
        Pairs that were given, and that are left.

    Raises:
        InputError: nothing to keep, or a band there is not.
        SetError: novelty of another set, or no novelty at all.
    """
    kept = [band for band in BANDS if band in keep]
    if not kept or set(keep) - set(BANDS):
        seen = ", ".join(keep) or "nothing"
        raise InputError("what to keep", expected=f"some of {', '.join(BANDS)}", seen=seen)
    given = read_step(source)
    check_novelty(novelty, given["digest"], source)
    inputs = {"set": given["digest"], "novelty": read_step(novelty)["digest"]}
    may_change = ("set", "novelty")  # rejections make a set smaller
    with step(
        out, "subset", arguments={"keep": kept}, inputs=inputs, may_change=may_change
    ) as this:
        if not this.finished:
            told = read_nearest(novelty)
            shards = shard_paths(source)
            make_parts(out, partial(_part, told, kept), shards, label="taking a part", workers=1)
            finish_set(
                this, labels=list(read_funnel(source)["classes"]), gates=GATES,
                title=f"{source.name}, {' and '.join(kept)}",
                story=f"The images of a set that are {' or '.join(kept)} to a pool.",
            )  # fmt: skip
        return this.counts


def read_nearest(novelty: Path) -> pl.DataFrame:
    """What the images of a set are nearest to, as `find_novelty` wrote it.

    Raises:
        SetError: no such file, or one without its columns.
    """
    read_step(novelty)
    table = read_shard(novelty / NEAREST, list(NEAREST_SCHEMA))
    if dict(table.schema) != NEAREST_SCHEMA:
        raise SetError(
            f"{novelty / NEAREST} is not what `headwater novelty` writes",
            expected="its columns", seen="others", do="Run `headwater novelty` again.",
        )  # fmt: skip
    return table


def check_novelty(novelty: Path, digest: str, source: Path) -> None:
    """Raise `SetError` unless a folder tells how new the set of this digest is."""
    record = read_step(novelty)
    of = record["inputs"].get("set") if record["verb"] == "novelty" else None
    if of != digest:
        raise SetError(
            f"{novelty} does not tell how new {source} is", expected="what was made of this set",
            seen="what was made of another" if of else f"a {record['verb']}",
            do="Run `headwater novelty` on the set, and name the folder it made.",
        )  # fmt: skip


def _part(told: pl.DataFrame, keep: Sequence[str], shard: Path) -> Part:
    pairs = read_shard(shard)
    own = pairs.select(KEY).join(told, on=KEY, how="left", maintain_order="left")
    reasons = [None if row["novelty"] in keep else _reason(row) for row in own.to_dicts()]
    return sift(pairs, reasons, gate=GATES[1])


def _reason(row: Json) -> str:
    """Why a pair is left out, with what it is nearest to."""
    if row["novelty"] == MEMORIZED:
        return f"{MEMORIZED}: copy of {row['same_as'] or row['copy_of']}"
    if row["novelty"] == NEAR:
        return f"{NEAR} {row['like']} ({row['clip_similarity']:.3f})"
    return str(row["novelty"])
