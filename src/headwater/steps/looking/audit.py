"""`curate --audit`: a curated set -> a page on what other scores would have kept of the same pairs.

The numbers are made in `headwater.curate.audit`, the page in `headwater.report.audit`; here its
pictures are found. A curated set holds the images it kept, the set it was made from those it
dropped as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from headwater.curate.audit import audit_scores, describe_audit
from headwater.errors import SetError
from headwater.pairs import read_pairs
from headwater.report.audit import render_audit
from headwater.report.label import NONE as NONE_OF_THESE
from headwater.report.label import SKIPPED
from headwater.steps.curation.candidates import read_candidates, refuse_other_source, score_columns
from headwater.steps.curation.rejections import read_rejections
from headwater.steps.thumbnails import thumbnails
from headwater.store import Json, check_page, write_text

SIDE = 144  # of a picture's longer side on the page, pixels
KEY = ["id", "label"]
SHOWN = 12  # examples of a kind


def audit(
    folder: Path,
    page: Path,
    *,
    source: Path | None = None,
    scores: Sequence[str] = (),
    fraction: float = 0.3,
    truth: Path | None = None,
    seed: int = 0,
) -> Json:
    """Write a page that compares the scores of a curated set, and return what it tells.

    Args:
        folder: a curated set.
        page: the HTML file to write.
        source: the set it was made from; without it dropped pairs are shown without their image.
        scores: score columns to compare; by default all that are not the same for every pair.
        fraction: share of each class that every score keeps.
        truth: a CSV `id,label` of what images show, by `task label` or any other hand; an id may
            stand in several rows, and one without a label shows no class at all.
        seed: of the lots.

    Returns:
        As `headwater.curate.audit.describe_audit`, with `set`, `fraction`, `seed` and `curated`
        before it: how many pairs the set itself kept, how many of them are known, and right.

    Raises:
        SetError: no curated set, one without scores, or a source it was not made from.
        InputError: no place for the page, a score that is not there, a CSV that is none.
    """
    check_page(page)
    pairs = read_candidates(folder)
    if source is not None:
        refuse_other_source(folder, source)
    chosen = list(scores) or _varying(pairs)
    if truth is not None:
        pairs = pairs.with_columns(are_right(pairs, read_truth(truth)))
    told = describe_audit(audit_scores(pairs, chosen, fraction=fraction, seed=seed), shown=SHOWN)
    told = {
        "set": folder.name,
        "fraction": fraction,
        "seed": seed,
        "curated": _tell_curated(folder, pairs),
        **told,
    }
    examples = [pair for gallery in told["examples"] for pair in gallery["pairs"]]
    keys = [(pair["id"], pair["label"]) for pair in examples]
    wanted = pl.DataFrame(keys, schema={"id": pl.String, "label": pl.String}, orient="row")
    write_text(page, render_audit(told, thumbnails(source or folder, wanted, side=SIDE)))
    return told


def read_truth(path: Path) -> pl.DataFrame:
    """What a person said images show: id, and label, null for no class; skipped ones are left out.

    Raises:
        InputError: no CSV with the columns id and label.
    """
    said = read_rejections(path)  # a file of the same shape
    label = pl.when(pl.col("label") != NONE_OF_THESE).then("label")
    return said.filter(pl.col("label").ne_missing(SKIPPED)).with_columns(label.alias("label"))


def are_right(pairs: pl.DataFrame, shown: pl.DataFrame) -> pl.Series:
    """Whether images show the class of their pair; null where nobody looked.

    Args:
        pairs: id and label.
        shown: id, and label of what the image shows, null for no class; several rows for several.

    Example:
        >>> pairs = pl.DataFrame({"id": ["w:1", "w:2", "w:3"], "label": ["oak", "oak", "elm"]})
        >>> shown = pl.DataFrame({"id": ["w:1", "w:2"], "label": ["oak", None]})
        >>> are_right(pairs, shown).to_list()
        [True, False, None]
    """
    exact = shown.drop_nulls().unique().with_columns(hit=pl.lit(value=True))
    seen = shown.select("id").unique().with_columns(seen=pl.lit(value=True))
    joined = (
        pairs.select("id", "label")
        .join(exact, on=KEY, how="left", maintain_order="left", nulls_equal=True)
        .join(seen, on="id", how="left", maintain_order="left")
    )
    right = pl.when("seen").then(pl.col("hit").fill_null(value=False)).alias("right")
    return joined.select(right)["right"]


def _varying(pairs: pl.DataFrame) -> list[str]:
    """Score columns that can choose: they differ between pairs."""
    scores = score_columns(pairs)
    varying = [name for name in scores if pairs[name].drop_nulls().n_unique() > 1]
    if not varying:
        raise SetError(
            "nothing to audit", expected="scores that differ between pairs",
            seen=", ".join(scores) or "no score", do="Curate with more scores.",
        )  # fmt: skip
    return varying


def _tell_curated(folder: Path, pairs: pl.DataFrame) -> Json:
    """What the set itself keeps, by all its rules together."""
    kept = pairs.join(read_pairs(folder, KEY), on=KEY, how="semi", nulls_equal=True)
    right = kept["right"] if "right" in kept.columns else pl.Series([], dtype=pl.Boolean)
    known = right.drop_nulls()
    return {"kept": len(kept), "known": len(known), "right": int(known.sum())}
