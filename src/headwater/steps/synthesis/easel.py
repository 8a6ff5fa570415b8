"""One part of a synthetic set, painted in whatever process it is handed to.

Encoding and hashing go on in a thread while the generator is at its next block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch

from headwater.cost import Meter
from headwater.decode import encode_png
from headwater.pairs import image_column, sha256_of
from headwater.progress import track
from headwater.steps.sets import Part, sift
from headwater.steps.synthesis.ledger import keep_cost
from headwater.steps.synthesis.painter import open_painter, own_device
from headwater.steps.synthesis.settings import Synthesis
from headwater.synthesize.calling import Generated
from headwater.synthesize.images import generate_images

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
    threads: int  # of torch: on a CPU their number may decide the last bits

    def __call__(self, numbered: tuple[int, pl.DataFrame]) -> Part:
        """The part of these captions."""
        number, rows = numbered
        how, device = self.how, own_device()
        torch.set_num_threads(self.threads)
        pipeline = open_painter(
            self.generator, scheduler=how.scheduler, precision=how.precision, device=device
        )
        with Meter(device) as meter:
            made = generate_images(
                pipeline, rows["caption"].to_list(), seed=self.seed,
                indices=rows["index"].to_list(), **how.arguments,
            )  # fmt: skip
            images = encode(watched(made, meter, total=len(rows)))
        keep_cost(self.folder, number, meter.cost(images=len(images)))
        pairs = as_pairs(rows, images, self.namespace)
        return sift(pairs, [image.reason for image in images], gate="valid")


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
    names = [f"{index:07d}" for index in rows["index"]]
    return rows.select("label", "caption").with_columns(
        pl.Series("id", [f"{namespace}:{name}" for name in names], dtype=pl.String),
        image_column([image.data for image in images], [f"{name}.png" for name in names]),
        pl.Series("sha256", [image.sha256 for image in images], dtype=pl.String),
        source=pl.lit("synthetic"),
        pool=pl.lit(namespace),
        query=rows["kind"],
        found_by=pl.lit("synthesis"),
    )


def _encode(one: Generated) -> Encoded:
    data = encode_png(one.image)
    return Encoded(data, sha256_of(data), one.reason)
