"""What each part of a painted set leaves in `work/` beside its pairs, until the set is finished.

cost     what the part took; kept when a later part is killed
blocks   where memory made its blocks smaller: written down before anything is painted in them,
         so that a killed run paints the rest in the same blocks, and the same bytes
cut      how many of its captions the generator read only in part
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import polars as pl

from headwater.cost import COST, SCHEMA, Cost, cost_table
from headwater.progress import say
from headwater.store import WORK, read_json, write_json, write_table

BLOCKS = "blocks.json"

Blocks = list[tuple[int, int]]  # from which index on, how many images at once; ascending


def keep_cost(folder: Path, part: int, cost: Cost) -> None:
    """Write down what a part took."""
    write_table(folder / WORK / f"cost-{part:05d}.parquet", cost_table([(part, cost)]))


def write_costs(folder: Path) -> pl.DataFrame:
    """Write `cost.parquet` of all parts, and return it."""
    parts = [pl.read_parquet(path) for path in sorted((folder / WORK).glob("cost-*.parquet"))]
    costs = pl.concat([pl.DataFrame(schema=SCHEMA), *parts]).sort("part")
    write_table(folder / COST, costs)
    return costs


def keep_smaller(folder: Path, part: int, *, index: int, size: int) -> None:
    """Write down, and be sure of it, that from an image on the blocks of a part are smaller."""
    blocks = [*smaller_blocks(folder, part), (index, size)]
    write_json(_blocks_path(folder, part), {"smaller": blocks})


def smaller_blocks(folder: Path, part: int) -> Blocks:
    """Where the blocks of a part became smaller, in this run or in one that was killed."""
    path = _blocks_path(folder, part)
    return [(index, size) for index, size in read_json(path)["smaller"]] if path.exists() else []


def write_blocks(folder: Path, starts: Sequence[int], *, block: int) -> int:
    """Write `blocks.json` and say so if memory made any block smaller; how often it did.

    Args:
        folder: of a set whose parts are all there.
        starts: the index that each part begins with: there the blocks are as asked again.
        block: as asked.
    """
    smaller = [smaller_blocks(folder, part) for part in range(len(starts))]
    if any(smaller):
        told = join_blocks(starts, smaller, block=block)
        write_json(folder / BLOCKS, {"block": block, "blocks": told})
    halved = sum(map(len, smaller))
    if halved:
        say(f"memory made blocks smaller {halved:,} times: see {BLOCKS}")
    return halved


def join_blocks(starts: Sequence[int], smaller: Sequence[Blocks], *, block: int) -> Blocks:
    """The blocks of a whole set from those of its parts: only where the size changes.

    Example:
        >>> join_blocks([0, 16, 32], [[], [(16, 4), (24, 2)], []], block=8)
        [(0, 8), (16, 4), (24, 2), (32, 8)]
    """
    sizes = {index: size for part in smaller for index, size in part}
    every = sorted((dict.fromkeys(starts, block) | sizes).items())
    return [next(same) for _, same in groupby(every, key=lambda told: told[1])]


def keep_cut(folder: Path, part: int, cut: int) -> None:
    """Write down how many captions of a part were cut."""
    write_json(folder / WORK / f"cut-{part:05d}.json", {"cut": cut})


def count_cut(folder: Path) -> int:
    """How many captions of the set were cut."""
    return sum(int(read_json(path)["cut"]) for path in (folder / WORK).glob("cut-*.json"))


def _blocks_path(folder: Path, part: int) -> Path:
    return folder / WORK / f"blocks-{part:05d}.json"
