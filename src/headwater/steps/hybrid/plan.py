"""The plan of a top-up: its holes, and every image that is added to a set and why.

A top-up and its two controls differ only here; `picks.py` has the arithmetic, `top_up.py` makes the
set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from headwater.pairs import read_pairs
from headwater.steps.hybrid.picks import (
    Hole,
    Key,
    Orders,
    fill_holes,
    find_holes,
    order_rows,
    repeat_rows,
    spread_out,
)
from headwater.steps.hybrid.settings import REPEAT, SPREAD, TopUp
from headwater.task import Task

ADDED_SCHEMA = {"id": pl.String, "label": pl.String, "new_id": pl.String, "reason": pl.String}


@dataclass(frozen=True)
class Plan:
    """What is added to a set: the holes, and rows (ADDED_SCHEMA) of the set they come from."""

    holes: Sequence[Hole]
    added: pl.DataFrame


@dataclass(frozen=True)
class Material:
    """What a top-up works with."""

    base: Path
    fill: Path
    task: Task
    how: TopUp
    seed: int
    mode: str
    upstream: Mapping[Key, int]

    @cached_property
    def own(self) -> pl.DataFrame:
        """The pairs that are topped up: id, label, caption."""
        return read_pairs(self.base, ["id", "label", "caption"])

    @cached_property
    def others(self) -> pl.DataFrame:
        """The pairs that may fill holes; those the set has already are left out."""
        pairs = read_pairs(self.fill, ["id", "label", "caption"])
        return pairs.join(self.own, on=["id", "label"], how="anti", maintain_order="left")

    @cached_property
    def own_orders(self) -> Orders:
        """In which order pairs of the set are repeated."""
        return self._orders(self.own)

    @cached_property
    def orders(self) -> Orders:
        """In which order other pairs are taken."""
        return self._orders(self.others)

    def _orders(self, pairs: pl.DataFrame) -> Orders:
        return order_rows(pairs, self.how.attributes, mode=self.mode, seed=self.seed)


def make_plan(stuff: Material) -> Plan:
    """What is to be added, by the top-up or a control."""
    had = {key: len(rows) for key, rows in stuff.own_orders.items()}
    found = find_holes(
        stuff.task.labels, stuff.how.attributes, target=stuff.how.target,
        upstream=stuff.upstream, had=had,
    )  # fmt: skip
    filled = fill_holes(found, stuff.orders)
    holes = [hole._replace(added=len(rows)) for hole, rows in zip(found, filled, strict=True)]
    if stuff.how.how == SPREAD:
        return _spread(stuff, holes)
    if stuff.how.how == REPEAT:
        return _repeat(stuff, holes)
    keys = stuff.others.select("id", "label").rows()
    rows = [
        (*keys[row], keys[row][0], f"fills {name_hole(hole)}")
        for hole, picked in zip(holes, filled, strict=True)
        for row in picked
    ]
    return Plan(holes, pl.DataFrame(rows, schema=ADDED_SCHEMA, orient="row"))


def _spread(stuff: Material, holes: Sequence[Hole]) -> Plan:
    wanted: Counter[str] = Counter()
    for hole in holes:
        wanted[hole.attribute] += hole.added
    picked = spread_out(wanted, stuff.orders, stuff.task.labels)
    keys = stuff.others.select("id", "label").rows()
    got = Counter((keys[row][1], said) for said, rows in picked.items() for row in rows)
    rows = [
        (*keys[row], keys[row][0], "spread over all classes")
        for mine in picked.values()
        for row in mine
    ]
    told = [hole._replace(added=got[hole.key]) for hole in holes]
    return Plan(told, pl.DataFrame(rows, schema=ADDED_SCHEMA, orient="row"))


def _repeat(stuff: Material, holes: Sequence[Hole]) -> Plan:
    repeated = repeat_rows(holes, stuff.own_orders)
    keys = stuff.own.select("id", "label").rows()
    rows = [
        (*keys[one.row], f"{keys[one.row][0]}~{one.number}", f"repeats {keys[one.row][0]}")
        for mine in repeated
        for one in mine
    ]
    told = [hole._replace(added=len(mine)) for hole, mine in zip(holes, repeated, strict=True)]
    return Plan(told, pl.DataFrame(rows, schema=ADDED_SCHEMA, orient="row"))


def name_hole(hole: Hole) -> str:
    """What a reader calls a hole."""
    return f"{hole.label}, {hole.attribute}" if hole.attribute else hole.label
