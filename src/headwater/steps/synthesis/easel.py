"""One part of a synthetic set, painted in whatever process it is handed to.

Encoding and hashing go on in a thread while the generator is at its next block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch
from diffusers import DiffusionPipeline

from headwater.cost import Meter
from headwater.decode import encode_png
from headwater.pairs import decide, image_column, sha256_of
from headwater.progress import track
from headwater.steps.sets import Part, sift
from headwater.steps.synthesis.ledger import (
    keep_cost,
    keep_cut,
    keep_smaller,
    smaller_blocks,
)
from headwater.steps.synthesis.painter import open_painter, own_device
from headwater.steps.synthesis.settings import Synthesis
from headwater.synthesize.calling import Generated
from headwater.synthesize.images import generate_images
from headwater.synthesize.limits import read_part

LABEL = "painting"
UNIT = "images"


class Encoded(NamedTuple):
    """A painted image as it is saved, and the reason to drop it, if there is one."""

    data: bytes
    sha256: str
    reason: str | None


@dataclass(frozen=True)
class Easel:
    """What all parts of a set have in common; called with one of them, it paints it."""

    folder: Path
    generator: str
    how: Synthesis
    seed: int
    namespace: str
    names: Mapping[str, str]  # of the classes, by label
    threads: int  # of torch: on a CPU their number may decide the last bits

    def __call__(self, numbered: tuple[int, pl.DataFrame]) -> Part:
        """The part of these captions."""
        number, rows = numbered
        how, device = self.how, own_device()
        torch.set_num_threads(self.threads)
        pipeline = open_painter(
            self.generator, scheduler=how.scheduler, precision=how.precision, device=device
        )
        ids = [f"{self.namespace}:{index:07d}" for index in rows["index"]]
        rows = read_rows(
            pipeline, rows.with_columns(id=pl.Series(ids, dtype=pl.String)), self.names
        )
        read, unread = rows.filter(pl.col("unread").is_null()), rows.drop_nulls("unread")
        keep_cut(self.folder, number, int(read["cut"].sum()))
        with Meter(device) as meter:
            made = self._paint(pipeline, number, read)
            images = encode(watched(made, meter, total=len(read)))
        keep_cost(self.folder, number, meter.cost(images=len(images)))
        reasons = [image.reason for image in images]
        part = sift(as_pairs(read, images, self.namespace), reasons, gate="valid")
        dropped = decide(unread, kept=False, step="fits", reason=pl.col("unread"))
        return Part(part.pairs, pl.concat([part.decisions, dropped]))

    def _paint(
        self, pipeline: DiffusionPipeline, number: int, rows: pl.DataFrame
    ) -> Iterator[Generated]:
        def halved(index: int, size: int) -> None:
            keep_smaller(self.folder, number, index=index, size=size)

        return generate_images(
            pipeline, rows["caption"].to_list(), seed=self.seed, indices=rows["index"].to_list(),
            blocks=smaller_blocks(self.folder, number), on_halved=halved, **self.how.arguments,
        )  # fmt: skip


def read_rows(
    pipeline: DiffusionPipeline, rows: pl.DataFrame, names: Mapping[str, str]
) -> pl.DataFrame:
    """Captions with `cut`, whether a generator reads only a part, and `unread`, why that is no use.

    It is none where the class is named in the caption, but beyond the part that is read.
    """
    fits = read_part(pipeline, rows["caption"].to_list())
    unread = [
        f"class name beyond the {fit.read} tokens that the generator reads"
        if _names(caption, names[label]) and not _names(fit.text, names[label])
        else None
        for label, caption, fit in zip(rows["label"], rows["caption"], fits, strict=True)
    ]
    return rows.with_columns(
        pl.Series("cut", [fit.tokens > fit.read for fit in fits], dtype=pl.Boolean),
        pl.Series("unread", unread, dtype=pl.String),
    )


def _names(text: str, name: str) -> bool:
    # By letters and digits alone: some tokenizers give "f - 1 6" back where "F-16" was read.
    letters = "".join(filter(str.isalnum, name.casefold()))
    return letters in "".join(filter(str.isalnum, text.casefold()))


def watched(made: Iterator[Generated], meter: Meter, *, total: int) -> Iterator[Generated]:
    """The images unchanged, each shown as progress and as a moment to read the meter."""
    for image in track(made, label=LABEL, unit=UNIT, total=total):
        meter.look()
        yield image


def encode(made: Iterable[Generated]) -> list[Encoded]:
    """All images as PNG, in order; each is encoded beside the making of those after it.

    Example:
        >>> import numpy as np
        >>> [image] = encode([Generated(np.zeros((2, 2, 3), np.uint8), "blank")])
        >>> image.data[1:4], image.reason
        (b'PNG', 'blank')
    """
    with ThreadPoolExecutor(1) as beside:
        waiting = [beside.submit(_encode, image) for image in made]
        return [image.result() for image in waiting]


def as_pairs(rows: pl.DataFrame, images: list[Encoded], namespace: str) -> pl.DataFrame:
    """Captions and their images as the pairs of a set."""
    names = [f"{index:07d}.png" for index in rows["index"]]
    return rows.select("id", "label", "caption").with_columns(
        image_column([image.data for image in images], names),
        pl.Series("sha256", [image.sha256 for image in images], dtype=pl.String),
        source=pl.lit("synthetic"),
        pool=pl.lit(namespace),
        query=rows["kind"],
        found_by=pl.lit("synthesis"),
    )


def _encode(one: Generated) -> Encoded:
    data = encode_png(one.image)
    return Encoded(data, sha256_of(data), one.reason)
