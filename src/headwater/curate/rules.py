"""The stack of rules: pairs fall one rule after another, each with its gate, its reason, its score.

One table holds all pairs of a set with a column a score. `gate`, `reason` and `fell_by` are null
while a pair stays; a rule looks only at pairs that stay, so the order of rules matters. What low
scores are is told in select.py, what copies are in copies.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.curate.select import explain_top

FATE = {"gate": pl.String, "reason": pl.String, "fell_by": pl.Float32}


def begin(pairs: pl.DataFrame) -> pl.DataFrame:
    """The table with nothing dropped yet.

    Example:
        >>> begin(pl.DataFrame({"id": ["w:1"]})).row(0)
        ('w:1', None, None, None)
    """
    return pairs.with_columns(pl.lit(None, kind).alias(name) for name, kind in FATE.items())


def staying(table: pl.DataFrame) -> pl.DataFrame:
    """The pairs that no rule has dropped, in their order.

    Example:
        >>> table = begin(pl.DataFrame({"id": ["w:1", "w:2"]}))
        >>> staying(drop(table, ["blank", None], gate="valid"))["id"].to_list()
        ['w:2']
    """
    return table.filter(pl.col("gate").is_null())


def drop(
    table: pl.DataFrame, reasons: Sequence[str | None], *, gate: str, score: str | None = None
) -> pl.DataFrame:
    """Drop pairs at a gate.

    Args:
        table: pairs with their fate so far.
        reasons: of each pair that stays, in their order, why it goes; None where it stays.
        gate: what the funnel calls the rule.
        score: the column whose value decided, if one did.

    Example:
        >>> table = begin(pl.DataFrame({"id": ["w:1", "w:2"], "sharpness": [0.25, 0.9]}))
        >>> table = drop(table, ["below 0.5", None], gate="sharpness", score="sharpness")
        >>> table.select("gate", "reason", "fell_by").row(0)
        ('sharpness', 'below 0.5', 0.25)
    """
    stays = table["gate"].is_null().to_numpy()
    told = np.full(len(table), None, object)
    told[stays] = list(reasons)
    falls = pl.Series("falls", told.tolist(), dtype=pl.String)
    value = pl.col(score) if score else pl.lit(None)
    return (
        table.with_columns(falls)
        .with_columns(
            gate=pl.when(pl.col("falls").is_null()).then("gate").otherwise(pl.lit(gate)),
            reason=pl.coalesce("reason", "falls"),
            fell_by=pl.when(pl.col("falls").is_null()).then("fell_by").otherwise(value),
        )
        .drop("falls")
        .cast({"fell_by": pl.Float32})
    )


def drop_low(
    table: pl.DataFrame,
    score: str,
    *,
    gate: str,
    fraction: float | None = None,
    cap: int | None = None,
    threshold: float | None = None,
) -> pl.DataFrame:
    """Drop what is low by one score, class by class; pairs without a label are one class.

    Args:
        table: pairs with `label`, the score's column (null: no score) and their fate so far.
        score: the column.
        gate: what the funnel calls the rule.
        fraction, cap, threshold: as `keep_top` has them.

    Example:
        >>> table = begin(pl.DataFrame({"label": ["oak"] * 2, "sharpness": [0.2, None]}))
        >>> drop_low(table, "sharpness", gate="sharpness", fraction=1.0)["reason"].to_list()
        [None, 'no score']
    """
    left = staying(table)
    values = left[score].fill_null(float("nan")).to_numpy()
    classes = left["label"].cast(pl.String).fill_null("").to_list()
    reasons = explain_top(values, classes, fraction=fraction, cap=cap, threshold=threshold)
    return drop(table, reasons, gate=gate, score=score)


def best_first(pairs: pl.DataFrame, score: str | None) -> NDArray[np.int64]:
    """Rows from the best scored to the worst, those without a score last; ids decide ties.

    A pair that has several labels is a row for each: these stay in their order.

    Example:
        >>> pairs = pl.DataFrame({"id": ["a", "b", "c"], "sharpness": [0.1, None, 0.7]})
        >>> best_first(pairs, "sharpness").tolist()
        [2, 0, 1]
    """
    value = pl.col(score).fill_nan(None) if score else pl.lit(None, pl.Float32)
    table = pairs.select(pl.int_range(pl.len()).alias("at"), "id", value.alias("value"))
    ordered = table.sort(
        "value", "id", descending=[True, False], nulls_last=True, maintain_order=True
    )
    return ordered["at"].to_numpy()
