"""`why SET ID`: the whole story of one pair, from where it came from to its fate.

What is told stands in the set: its decisions, and what was known of a pair when it was judged. A
curated set has that in `candidates.parquet`, any other in its data, for the pairs it kept.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headwater.decode import open_image
from headwater.errors import DecodeError, SetError
from headwater.pairs import CANDIDATES, read_decisions, read_funnel, scan_shard, shard_paths
from headwater.steps.curation.candidates import (
    COPY,
    LOOKS,
    known_pairs,
    match_of,
    score_columns,
    score_gates,
)
from headwater.store import Json, read_step

ORIGIN = (
    "source", "url", "caption", "query", "start", "end", "found_by", "sha256",
)  # fmt: skip

NEAR = 3  # ids named where one is unknown
LONGEST = 4_096  # characters of an id, a key or a URL that is looked for
TAIL = 3  # letters at the end that make two ids alike


def why(folder: Path, asked: str) -> list[Json]:
    """The stories of a pair, one a label.

    Args:
        folder: a finished set.
        asked: an id, the key in it without the namespace, or a URL.

    Returns:
        A story a label: `id`, `label` and the rest of its decision; its `pool` and the `key` there;
        `passed`, the steps it passed; `pair`, its origin and what found it, where the set knows;
        `match`, its caption around the match; `image`, width, height and codec as it came;
        `scores`, of each its value, its rank in the class and what its gate let through; `copy`,
        the evaluation image it is most alike.

    Raises:
        SetError: the set never considered such a pair, or several; ids are given.
    """
    decisions = read_decisions(folder)
    pair_id = find_id(folder, decisions, asked)
    found = decisions.filter(pl.col("id") == pair_id).sort("label")
    classes = known_pairs(folder, pl.col("label").is_in(found["label"].implode()))
    classes = classes.join(
        decisions.select("id", "label", "kept", "step", "reason"), on=["id", "label"], how="left"
    )
    own = _own_facts(folder, pair_id)
    steps = read_funnel(folder)["steps"]
    stories = [
        _story(row, classes.filter(pl.col("label") == row["label"]), own, steps)
        for row in found.iter_rows(named=True)
    ]
    limit = copy_limit(folder)
    return [{**told, "copy": told["copy"] and {**told["copy"], "limit": limit}} for told in stories]


def find_id(folder: Path, decisions: pl.DataFrame, asked: str) -> str:
    """The id that is meant by an id, by the key in it, or by a URL.

    Raises:
        SetError: none, or several; the nearest are given.
    """
    if len(asked) > LONGEST or not _is_text(asked):
        raise SetError("no id of a pair", expected="an id, a key or a URL", seen=asked[:40])
    ids = decisions["id"].unique().sort()
    found = ids.filter(ids == asked)
    if not len(found):
        found = ids.filter(ids.str.ends_with(f":{asked}"))
    if not len(found) and "/" in asked:
        found = known_pairs(folder, pl.col("url") == asked)["id"].unique().sort()
    if len(found) == 1:
        return str(found[0])
    if len(found):
        raise SetError(
            f"{asked} is several pairs of {folder}", expected="the id of one",
            seen=", ".join(found.head(NEAR)) + (", ..." if len(found) > NEAR else ""),
        )  # fmt: skip
    near = near_ids(ids, asked)
    raise SetError(
        f"{folder} never considered {asked}",
        expected="an id of decisions.parquet, or the key or URL of a pair",
        do=f"Near it: {', '.join(near)}." if near else "",
    )  # fmt: skip


def _is_text(asked: str) -> bool:
    """Whether a text is Unicode: a shell may hand over any bytes."""
    try:
        asked.encode()
    except UnicodeEncodeError:
        return False
    return True


def near_ids(ids: pl.Series, asked: str) -> list[str]:
    """Ids that hold a text, or else end like it, or else begin most like it.

    Args:
        ids: sorted, each once.
        asked: an id that is not among them.

    Example:
        >>> ids = pl.Series(["web:001", "web:002", "web:112"])
        >>> near_ids(ids, "b:00"), near_ids(ids, "web:0112"), near_ids(ids, "web:003")
        (['web:001', 'web:002'], ['web:112'], ['web:001', 'web:002', 'web:112'])
    """
    tails = (ids.str.ends_with(asked[cut:]) for cut in range(1, len(asked) - TAIL + 1))
    for alike in (ids.str.contains(asked, literal=True), *tails):
        if asked and alike.any():
            return ids.filter(alike).head(NEAR).to_list()
    place = int(ids.search_sorted(asked))
    first = max(0, min(place - NEAR // 2 - 1, len(ids) - NEAR))
    return ids[first : first + NEAR].to_list()


def copy_limit(folder: Path) -> float | None:
    """The similarity above which a curated set took a pair for a copy, as far as it says so."""
    step = read_step(folder)
    rules = step["arguments"].get("rules")
    stack = rules if isinstance(rules, list) else []
    asked = [rule.get("threshold") for rule in stack if "copies" in rule]
    given = next((limit for limit in asked if limit is not None), None)
    return (step["inputs"].get("descriptor") or {}).get("threshold") if given is None else given


def _story(row: Json, classmates: pl.DataFrame, own: Json, steps: list[str]) -> Json:
    facts = classmates.filter(pl.col("id") == row["id"]).to_dicts()
    mine = own.get(row["label"], {}) | (facts[0] if facts else {})
    pair = {name: mine.get(name) for name in ORIGIN} if mine else None
    reached = steps.index(row["step"]) + row["kept"]
    told = [name for name in COPY if mine.get(name) is not None]
    namespace, _, key = row["id"].partition(":")
    return {
        **row,
        "pool": namespace,
        "key": key,
        "passed": steps[:reached],
        "pair": pair,
        "match": match_of(mine),
        "image": {name: mine[name] for name in LOOKS} if mine.get("width") else None,
        "scores": _scores(mine, classmates, steps, reached) if facts else [],
        "copy": {name.removeprefix("copy_"): mine[name] for name in told} or None,
    }


def _scores(facts: Json, classmates: pl.DataFrame, steps: list[str], reached: int) -> list[Json]:
    """Every score the pair has, or that a rule looked at, once a rule."""
    return [
        _score(facts, classmates, name=name, gate=gate, steps=steps, reached=reached)
        for name, gates in score_gates(score_columns(classmates), steps).items()
        for gate in gates or [""]
        if gate or facts[name] is not None
    ]


def _score(
    facts: Json,
    classmates: pl.DataFrame,
    *,
    name: str,
    gate: str,
    steps: list[str],
    reached: int,
) -> Json:
    value, values = facts[name], classmates[name].drop_nulls()
    rank = None if value is None else 1 + int((values > value).sum())
    told: Json = {
        "score": name,
        "value": value,
        "rank": rank,
        "of": len(values),
        "gate": gate or None,
    }
    if not gate:
        return {**told, "passed": None, "lowest_kept": None, "cut": None}
    place = steps.index(gate)
    later = pl.col("kept") | pl.col("step").is_in(steps[place + 1 :])
    fell = classmates.filter(pl.col("step") == gate, ~pl.col("kept"), pl.col(name).is_not_null())
    return {
        **told,
        "passed": reached > place if reached >= place else None,
        "lowest_kept": classmates.filter(later)[name].min(),
        "cut": fell.sort(name, descending=True)["reason"].first() if len(fell) else None,
    }


def _own_facts(folder: Path, pair_id: str) -> Json:
    """What the set's data say of a pair, by label: nothing unless it was kept."""
    parts = [scan_shard(path, pl.col("id") == pair_id) for path in shard_paths(folder)]
    rows = pl.concat(parts, how="diagonal").to_dicts()
    looks = {} if (folder / CANDIDATES).exists() else {row["label"]: _looks(row) for row in rows}
    return {row["label"]: row | looks.get(row["label"], {}) for row in rows}


def _looks(row: Json) -> Json:
    try:
        opened = open_image((row["image"] or {}).get("bytes") or b"")
    except DecodeError:
        return {}
    return {name: getattr(opened, name) for name in LOOKS}
