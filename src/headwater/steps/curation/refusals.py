"""What cannot be curated, and scores that would spoil a set: refused before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from headwater.curate.scoring import NamedScore
from headwater.errors import InputError, SetError
from headwater.pairs import WAITING, read_funnel, set_size, shard_paths
from headwater.steps.curation.candidates import COPY, LOOKS, PIXELS


def refuse_unfit(source: Path, verb: str) -> None:
    """Raise `SetError` if a set that `verb` made cannot be curated.

    Curated sets are not curated again, and a set of URLs only has no image to look at.
    """
    counts = read_funnel(source)
    if PIXELS in counts["steps"] or verb == "perturb":
        raise SetError(
            f"{source} is curated already", expected="a set as it was sourced",
            seen=f"a {verb} set", do="Curate the set it was made from.",
        )  # fmt: skip
    refuse_waiting(source)


def refuse_waiting(source: Path) -> None:
    """Raise `SetError` if a set has pairs whose image nobody has fetched yet."""
    waiting = sum(row.get(WAITING, 0) for row in read_funnel(source)["classes"].values())
    if waiting:
        raise SetError(
            f"{source} has pairs that are URLs only", expected="an image in every pair",
            seen=f"{waiting:,} pairs without",
            do="Download them, with img2dataset for one, and retrieve from the result.",
        )  # fmt: skip


def refuse_other_rows(source: Path, decisions: pl.DataFrame, scores: Sequence[NamedScore]) -> None:
    """Raise `SetError` unless a set holds the pairs that it says, and no column of a score.

    Pairs that were added, lost or doubled by hand would make a funnel that adds up to nothing.
    """
    kept, held = int(decisions["kept"].sum()), set_size(source)
    if kept != held:
        raise SetError(
            f"{source} does not hold what its decisions say", expected=f"{kept:,} pairs",
            seen=f"{held:,}", do="Make the set again.",
        )  # fmt: skip
    own = {*LOOKS, *COPY, *(score.name for score in scores)}
    for path in shard_paths(source):
        taken = own.intersection(pl.read_parquet_schema(path))
        if taken:
            raise SetError(
                f"{path} has columns that a curation makes", expected="a set as it was sourced",
                seen=", ".join(sorted(taken)), do="Rename or remove them.",
            )  # fmt: skip


def refuse_twice(gates: Sequence[str]) -> None:
    """Raise `InputError` if a gate is called like another: a funnel has one line for each."""
    twice = next((gate for at, gate in enumerate(gates) if gate in gates[:at]), None)
    if twice is not None:
        raise InputError(
            f"a rule's score cannot be called {twice}", expected="a name that no gate has yet",
            seen=", ".join(gates), do="Rename the function.",
        )  # fmt: skip
