"""`why SET ID`: the whole story of one pair, from the query that found it to its fate."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from headwater.errors import SetError
from headwater.pairs import iter_pairs, read_decisions
from headwater.store import Json


def why(folder: Path, pair_id: str) -> list[Json]:
    """Every decision on a pair, one a label, with the pair itself where it was kept.

    Raises:
        SetError: the set never considered such a pair; the nearest ids are given.
    """
    decisions = read_decisions(folder)
    found = decisions.filter(pl.col("id") == pair_id)
    if not len(found):
        near = decisions.filter(pl.col("id").str.ends_with(pair_id))["id"].unique().sort().head(3)
        raise SetError(
            f"{folder} never considered {pair_id}", expected="an id of decisions.parquet",
            seen=pair_id, do=f"Did you mean {', '.join(near)}?" if len(near) else "",
        )  # fmt: skip
    kept = [
        row
        for table in iter_pairs(folder)
        for row in table.filter(pl.col("id") == pair_id).drop("image").iter_rows(named=True)
    ]
    by_label = {row["label"]: row for row in kept}
    return [
        {**row, "pair": by_label.get(row["label"])}
        for row in found.sort("label").iter_rows(named=True)
    ]
