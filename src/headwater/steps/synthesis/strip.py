"""A look at perturbed sets: the same images at every gamma, and what their pixels alone tell.

Every set is compared with its parent's image in the same frame (scaled to fit, on white), so that
shape and size take no part in it. `report/strip.py` makes the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from headwater.decode import Image8, decode_rgb
from headwater.descriptors.builtin import COPY_THRESHOLD, describe
from headwater.errors import SetError
from headwater.pairs import read_funnel, total
from headwater.progress import track
from headwater.report.strip import Column, Strip, StripData, render_strip
from headwater.steps.agreement import KEY
from headwater.steps.synthesis.perturb import GATES, paired_pairs
from headwater.steps.thumbnails import encoded_images, thumbnail
from headwater.store import Json, read_step, stable_seed, write_text
from headwater.synthesize.gamma import AUTOENCODER, Gamma, gamma_name, gamma_order, read_gamma
from headwater.synthesize.perturb import letterbox
from headwater.task import Task

ROWS = 3  # images of a class
CLASSES = 24  # shown
MEASURED = 96  # images that numbers are of
SIDE = 128  # of a picture, pixels
LUMA = (0.299, 0.587, 0.114)

Pictures = Mapping[tuple[str, str], bytes]  # by id and label


class Measures(NamedTuple):
    """How an image differs from its original."""

    away: float
    """Mean distance of a pixel, gray levels."""
    detail: float | None
    """Fine detail as a share of the original's; None where that has none."""


def write_strip(source: Path, folders: Sequence[Path], task: Task, path: Path) -> None:
    """A page of the images of a set and of its perturbed sets, side by side.

    Args:
        source: the parent.
        folders: sets that `perturb` made of it.
        task: whose classes they are of.
        path: of the page.

    Raises:
        SetError: a set that was not made of the parent by `perturb`.
    """
    write_text(path, render_strip(strip_data(source, folders, task)))


def strip_data(source: Path, folders: Sequence[Path], task: Task) -> StripData:
    """What there is to show and to tell of perturbed sets; the same for the same sets.

    Images are drawn by id among those that are valid in every set.
    """
    records = {read_gamma(_record(source, f)["arguments"]["gamma"]): f for f in folders}
    gammas = sorted(records, key=gamma_order)
    paired = _by_lot(paired_pairs([records[gamma] for gamma in gammas]))
    measured, shown = paired.head(MEASURED), _shown(paired, task.labels)
    wanted = pl.concat([measured, shown]).unique(maintain_order=True)
    before = _pictures(source, wanted)
    after = {gamma: _pictures(records[gamma], wanted) for gamma in gammas}
    columns = [
        _column(gamma, records[gamma], before, after[gamma], measured.rows())
        for gamma in track(gammas, label="comparing", unit="gammas")
    ]
    strips: dict[str, list[Strip]] = {}
    for key in shown.rows():
        images = [after[gamma][key] for gamma in gammas]
        strips.setdefault(task.name_of.get(key[1], key[1]), []).append(
            _strip(key, before[key], images)
        )
    settings = read_step(records[gammas[0]])["arguments"]
    return StripData(
        title=f"{source.name}, task {task.name}",
        sentence=_sentence(gammas, columns),
        columns=columns,
        strips=strips,
        measured=len(measured),
        paired=len(paired),
        notes=_notes(settings, paired, task),
    )


def measure(before: Image8, after: Image8) -> Measures:
    """How far an image is from its original, of the same size, and what is left of its detail.

    Detail is the mean absolute Laplacian of the brightness.

    Example:
        >>> fine = np.tile(np.array([[0, 100], [100, 0]], np.uint8)[..., None], (4, 4, 3))
        >>> gray = np.full_like(fine, 50)
        >>> measure(fine, fine), measure(fine, gray)
        (Measures(away=0.0, detail=1.0), Measures(away=50.0, detail=0.0))
    """
    away = np.abs(before.astype(np.int16) - after).mean()
    one, other = _detail(before), _detail(after)
    return Measures(float(away), round(other / one, 9) if one else None)


def _detail(image: Image8) -> float:
    light = image @ np.array(LUMA, np.float32)
    inner = light[1:-1, 1:-1]
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float(np.abs(4 * inner - around).mean()) if inner.size else 0.0


def _column(
    gamma: Gamma,
    folder: Path,
    before: Pictures,
    after: Pictures,
    keys: Sequence[tuple[str, str]],
) -> Column:
    made = [decode_rgb(after[key]) for key in keys]
    own = [
        letterbox(decode_rgb(before[key]), *_frame(image))
        for key, image in zip(keys, made, strict=True)
    ]
    measures = [measure(*both) for both in zip(own, made, strict=True)]
    likeness = (describe(own) * describe(made)).sum(axis=1)
    counts = read_funnel(folder)
    inherited, valid = (total(counts, gate) for gate in GATES)
    return Column(
        gamma_name(gamma), valid, inherited - valid, _mean(m.away for m in measures),
        _mean(m.detail for m in measures), _mean(likeness > COPY_THRESHOLD),
    )  # fmt: skip


def _strip(key: tuple[str, str], before: bytes, images: Sequence[bytes]) -> Strip:
    original = decode_rgb(before)
    decoded = [decode_rgb(data) for data in images]
    away = [measure(letterbox(original, *_frame(one)), one).away for one in decoded]
    small = [thumbnail(data, side=SIDE) for data in images]
    return Strip(key[0], thumbnail(before, side=SIDE), list(zip(small, away, strict=True)))


def _frame(image: Image8) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _mean(values: Iterable[float | np.bool_ | None]) -> float | None:
    told = [float(value) for value in values if value is not None]
    return sum(told) / len(told) if told else None


def _by_lot(pairs: pl.DataFrame) -> pl.DataFrame:
    lots = [stable_seed("strip", *key) for key in pairs.select(KEY).rows()]
    drawn = pairs.select(KEY).with_columns(lot=pl.Series(lots, dtype=pl.Int64))
    return drawn.sort("lot", *KEY).drop("lot")


def _shown(paired: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """A few pairs of each class, classes in order."""
    there = [label for label in (*labels, "") if label in set(paired["label"])][:CLASSES]
    tables = [paired.filter(pl.col("label") == label).head(ROWS) for label in there]
    return pl.concat([paired.clear(), *tables])


def _pictures(folder: Path, wanted: pl.DataFrame) -> Pictures:
    return {(pair, label): data for pair, label, data in encoded_images(folder, wanted)}


def _record(source: Path, folder: Path) -> Json:
    record, parent = read_step(folder), read_step(source)
    if record["verb"] != "perturb" or record["inputs"].get("set") != parent["digest"]:
        raise SetError(
            f"{folder} is no perturbed set of {source}", expected="one that `perturb` made of it",
            seen=f"a set of `{record['verb']}`", do="Name the set it was made from.",
        )  # fmt: skip
    return record


def _sentence(gammas: Sequence[Gamma], columns: Sequence[Column]) -> str:
    """How far pixels are from the originals, at the controls and at the largest gamma."""
    told = [
        f"{column.away:.1f} {'by the autoencoder' if at == AUTOENCODER else f'at gamma {at:g}'}"
        for at, column in zip(gammas, columns, strict=True)
        if column.away is not None and at in (0, AUTOENCODER, gammas[-1])
    ]
    if not told:
        return "No image is valid at every gamma."
    *others, last = told
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Pixels move by {listed}, in gray levels of 255."


def _notes(settings: Json, paired: pl.DataFrame, task: Task) -> list[str]:
    classes = paired["label"].n_unique()
    some = f" Shown are {CLASSES} of {classes:,} classes." if classes > CLASSES else ""
    return [
        f"{settings['steps']} steps, guidance {settings['guidance']:g}, prompt "
        f"“{settings['prompt']}”, seed {settings['seed']}.",
        f"Up to {ROWS} images a class, drawn by id among those valid at every gamma.{some}",
    ]
