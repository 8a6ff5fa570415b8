"""The pairs a curation judged: `candidates.parquet`, with all that was found out about each.

Pairs that fell stand there beside those that stayed, so that a set can be explained, reviewed and
audited without the one it was made from. What became of them is in `decisions.parquet`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from headwater.errors import SetError
from headwater.pairs import (
    CANDIDATES,
    DECISION_SCHEMA,
    PAIR_SCHEMA,
    read_decisions,
    read_shard,
    scan_shard,
    shard_paths,
)
from headwater.store import Json, read_step, write_table

PIXELS = "pixels"
"""The gate every candidate has passed: what does not decode is judged by no rule."""

MATCH = ("id", "label", "caption", "query", "start", "end", "found_by", "url")
LOOKS = ("width", "height", "codec")
"""What an image was like as it came."""

COPY = {"copy_of": pl.String, "copy_similarity": pl.Float32}
"""The evaluation image a pair is most alike; null where it was compared with none."""

NOT_SCORES = {*PAIR_SCHEMA, *DECISION_SCHEMA, *LOOKS, *COPY}


def write_candidates(folder: Path, judged: pl.DataFrame, scores: Sequence[str]) -> None:
    """Write down every pair that was judged; `scores` are its columns of scores."""
    known = judged.select(*MATCH, *LOOKS, *scores, *COPY)
    write_table(folder / CANDIDATES, known.sort("id", "label", maintain_order=True))


def read_candidates(folder: Path) -> pl.DataFrame:
    """Every pair a curated set judged.

    Raises:
        SetError: no curated set.
    """
    verb = read_step(folder)["verb"]
    if not (folder / CANDIDATES).exists():
        raise SetError(
            f"{folder} is no curated set", expected=CANDIDATES, seen=f"what {verb} made",
            do="Curate it first.",
        )  # fmt: skip
    return read_shard(folder / CANDIDATES)


def read_fates(folder: Path) -> pl.DataFrame:
    """Every decision of a curated set, with what is known of the pair, null if it fell earlier."""
    known = read_candidates(folder)
    return read_decisions(folder).join(known, on=["id", "label"], how="left")


def known_pairs(folder: Path, which: pl.Expr) -> pl.DataFrame:
    """What any set knows of some pairs, without images: of dropped ones too if it is curated.

    Args:
        folder: a finished set.
        which: of which pairs, by their columns.
    """
    path = folder / CANDIDATES
    paths = [path] if path.exists() else shard_paths(folder)
    parts = [scan_shard(path, which, leave_out=("image",)) for path in paths]
    return pl.concat(parts, how="diagonal")


def refuse_other_source(folder: Path, source: Path) -> None:
    """Raise `SetError` unless a set was made from another one, as it is now."""
    expected, seen = read_step(folder)["inputs"].get("set"), read_step(source)["digest"]
    if expected != seen:
        raise SetError(
            f"{folder} was not made from {source}", expected=f"the set {str(expected)[:12]}...",
            seen=f"{seen[:12]}...", do="Name the set it was curated from.",
        )  # fmt: skip


def score_columns(pairs: pl.DataFrame) -> list[str]:
    """The columns of a set's pairs that are scores.

    Example:
        >>> kinds = {"id": pl.String, "sharpness": pl.Float32, "copy_similarity": pl.Float32}
        >>> score_columns(pl.DataFrame(schema=kinds))
        ['sharpness']
    """
    floats = (name for name, kind in pairs.schema.items() if kind.is_float())
    return [name for name in floats if name not in NOT_SCORES]


def score_gates(scores: Sequence[str], steps: Sequence[str]) -> dict[str, list[str]]:
    """The gates of each score, in order; none for a score that no rule looked at.

    A gate is called like its score, with a number if there are more of it.

    Example:
        >>> score_gates(["clip_score", "aspect"], ["pixels", "clip_score", "clip_score_2"])
        {'clip_score': ['clip_score', 'clip_score_2'], 'aspect': []}
    """
    return {
        name: [step for step in steps if re.fullmatch(rf"{re.escape(name)}(_\d+)?", step)]
        for name in scores
    }


def match_of(facts: Json) -> Json | None:
    """A caption cut at the bytes of its match: before, match, after; None without a match."""
    if not facts.get("caption") or facts.get("start") is None or facts.get("end") is None:
        return None
    data = facts["caption"].encode()
    cuts = {
        "before": data[: facts["start"]],
        "match": data[facts["start"] : facts["end"]],
        "after": data[facts["end"] :],
    }
    return {name: part.decode(errors="replace") for name, part in cuts.items()}
