"""`curate --review`: a curated set -> a page with its pictures, to see what was kept and dropped.

Which pairs are shown is decided in `headwater.curate.examples`, the page is made in
`headwater.report.review`; here pictures and facts are found. A curated set holds the images it
kept, the set it was made from those it dropped, the task those that were copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import polars as pl

from headwater.curate.examples import choose_examples, fit_classes, fit_examples, group_fates
from headwater.pairs import read_funnel
from headwater.report.review import Gallery, Picture, ReviewData, render_review
from headwater.steps.curation.candidates import (
    PIXELS,
    match_of,
    read_fates,
    refuse_other_source,
    score_columns,
    score_gates,
)
from headwater.steps.thumbnails import thumbnails, thumbnails_of_task
from headwater.store import Json, check_page, read_step, write_text
from headwater.task import Task

SIDE, SMALL = 160, 112  # pixels of a picture; small where there are more than FEW
FEW = 1_500
PICTURES = 6_000  # on a page: about 40 MB; 1,000 classes with 5 or 6 each
EXAMPLES = 6  # of a group
COPY, TWIN = "copy of ", "duplicate of "  # as reasons begin that name another image

TITLES = {
    "best": "Kept, the best",
    "middle": "Kept, the middle",
    "worst": "Kept, the worst",
    PIXELS: "Cannot be decoded",
    "no_copy": "Copies, beside the evaluation image",
    "no_duplicate": "Duplicates, beside the one that stays",
    "not_rejected": "Rejected by hand",
}

Keyed = dict[tuple[str, str], bytes]


def review(
    folder: Path,
    source: Path,
    page: Path,
    *,
    task: Task | None = None,
    examples: int = EXAMPLES,
    pictures: int = PICTURES,
) -> Json:
    """Write a page with a gallery a class: kept, just below the cut, copies, and other reasons.

    Args:
        folder: a curated set.
        source: the set it was made from; it has the images of the dropped pairs.
        page: the HTML file to write.
        task: whose names are shown, and whose evaluation images stand beside their copies.
        examples: pictures of a group, of the kept ones three times as many.
        pictures: most on the page; where classes are many, each shows fewer.

    Returns:
        How many classes there are and are shown, pictures shown, and `examples` as it came out.

    Raises:
        SetError: no curated set, or a source it was not made from.
        InputError: no place for the page.
    """
    check_page(page)
    fates = read_fates(folder)
    refuse_other_source(folder, source)
    counts = read_funnel(folder)
    steps = counts["steps"][counts["steps"].index(PIXELS) - 1 :]
    by_score = chain(*score_gates(score_columns(fates), steps).values())
    grouped = group_fates(fates.filter(pl.col("step").is_in(steps[1:])), list(by_score))
    each = fit_examples(grouped, examples, pictures=pictures)
    chosen = choose_examples(grouped, each)
    labels = fit_classes(chosen, list(counts["classes"]), pictures=pictures)
    chosen = chosen.filter(pl.col("label").is_in(labels))
    find = _Finder(folder, source, task, side=SIDE if len(chosen) <= FEW else SMALL)
    shown = find.pictures(chosen, fates)
    told = ReviewData(
        title=folder.name,
        key=read_step(folder)["digest"],
        steps=steps,
        counts=counts["classes"],
        names=task.name_of if task else {},
        galleries={label: [] for label in labels} | dict(_galleries(chosen, shown, steps)),
        notes=_notes(fates, each, examples, labels, list(counts["classes"]), pictures),
    )
    write_text(page, render_review(told))
    return {
        "classes": len(counts["classes"]),
        "shown": len(labels),
        "pictures": len(chosen),
        "examples": each,
    }


def _galleries(
    chosen: pl.DataFrame, shown: list[Picture], steps: list[str]
) -> Iterator[tuple[str, list[Gallery]]]:
    """The galleries of each class: kept ones, then gate by gate."""
    order = {gate: number for number, gate in enumerate(steps)}
    numbered = chosen.with_columns(picture=pl.int_range(pl.len()))
    for (label,), rows in numbered.group_by("label", maintain_order=True):
        groups = rows.group_by("gate", "scored", "part", maintain_order=True)
        found = [
            (
                (order.get(str(gate), -1), not scored),
                Gallery(
                    title=_title(gate, scored, part),
                    total=group["size"][0],
                    pictures=[shown[number] for number in group["picture"]],
                ),
            )
            for (gate, scored, part), group in groups
        ]
        yield str(label), [gallery for _, gallery in sorted(found, key=lambda pair: pair[0])]


def _title(gate: object, scored: object, part: object) -> str:
    if gate is None:
        return TITLES.get(str(part), "Kept")
    known = TITLES.get(str(gate)) or TITLES.get(str(gate).rpartition("_")[0])
    return known or (f"Just below: {gate}" if scored else f"Without a score: {gate}")


class _Finder:
    """Where the small pictures of a page come from."""

    def __init__(self, folder: Path, source: Path, task: Task | None, *, side: int) -> None:
        self.folder, self.source, self.task, self.side = folder, source, task, side

    def pictures(self, chosen: pl.DataFrame, fates: pl.DataFrame) -> list[Picture]:
        """The chosen pairs as they are shown, in their order."""
        images = {
            **thumbnails(self.source, chosen.filter(~pl.col("kept")), side=self.side),
            **thumbnails(self.folder, chosen.filter("kept"), side=self.side),
        }
        twins = self.twins(chosen, fates)
        copied = chosen.filter(pl.col("reason").str.starts_with(COPY))["copy_of"].drop_nulls()
        references = thumbnails_of_task(self.task, copied, side=self.side) if self.task else {}
        return [_picture(row, images, references, twins) for row in chosen.iter_rows(named=True)]

    def twins(self, chosen: pl.DataFrame, fates: pl.DataFrame) -> dict[str, bytes]:
        """The pairs that stayed in place of a duplicate, by id."""
        reasons = chosen["reason"].filter(chosen["reason"].str.starts_with(TWIN))
        twins = fates.filter(pl.col("id").is_in(reasons.str.strip_prefix(TWIN).implode()))
        small = thumbnails(self.source, twins, side=self.side)
        return {pair_id: image for (pair_id, _), image in small.items()}


def _picture(
    row: Json, images: Keyed, references: Mapping[str, bytes], twins: Mapping[str, bytes]
) -> Picture:
    match = match_of(row) or {"before": row["caption"] or "", "match": "", "after": ""}
    beside = None
    if row["reason"].startswith(COPY) and row["copy_of"]:
        beside = (references.get(row["copy_of"]), row["copy_of"])
    elif row["reason"].startswith(TWIN):
        twin = row["reason"].removeprefix(TWIN)
        beside = (twins.get(twin), twin)
    size = f"{row['width']} x {row['height']} {row['codec']}" if row["width"] else ""
    return Picture(
        id=row["id"],
        label=row["label"],
        image=images.get((row["id"], row["label"])),
        score=row["score"],
        reason="" if row["kept"] else row["reason"],
        caption=(match["before"], match["match"], match["after"]),
        facts={"found by": row["found_by"], "came as": size, "url": row["url"]},
        beside=beside,
    )


def _notes(
    fates: pl.DataFrame, each: int, examples: int, labels: list[str], known: list[str], room: int
) -> list[str]:
    """What the page leaves out."""
    early = int(fates["width"].null_count()) - int((fates["step"] == PIXELS).sum())
    notes = []
    if early:
        notes.append(
            f"{early:,} pairs fell before curation and have no picture here; "
            "decisions.parquet says why."
        )
    if each < examples:
        notes.append(
            f"{each} instead of {examples} pictures of a kind are shown: a page holds {room:,}."
        )
    if len(labels) < len(known):
        notes.append(
            f"{len(known) - len(labels):,} classes are only counted: there is no more room."
        )
    return notes
