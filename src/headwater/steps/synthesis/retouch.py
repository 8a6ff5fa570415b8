"""Some rows of a set perturbed, in whatever process they are handed to.

Images are decoded as they are wanted, for a part of large photos would not fit into memory, and
encoded in a thread while the generator is at its next block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from headwater.cost import Meter
from headwater.curate.pixels import Look, as_it_came, looks_column
from headwater.decode import Image8, decode_rgb, encode_jpeg
from headwater.errors import DecodeError
from headwater.pairs import image_column, read_shard, sha256_of
from headwater.steps.sets import Part, sift
from headwater.steps.synthesis.easel import watched
from headwater.steps.synthesis.ledger import keep_cost, keep_smaller, smaller_blocks
from headwater.steps.synthesis.painter import open_painter, own_device
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import WORK, write_table
from headwater.synthesize.calling import Generated
from headwater.synthesize.perturb import perturb_images

UNSEEN: Image8 = np.full((1, 1, 3), 255, np.uint8)  # in place of an image that cannot be decoded


class Rows(NamedTuple):
    """Some rows of a shard of the parent, which become one shard of the perturbed set."""

    shard: Path
    which: range
    first: int  # the place of the first of them in the whole set


class Retouched(NamedTuple):
    """A perturbed image as it is saved."""

    data: bytes
    sha256: str
    looks: tuple[Look, Look] | None
    """What it was like before and is like; of a dropped one nobody asks."""
    reason: str | None
    """Why it is dropped, if it is."""


@dataclass(frozen=True)
class Retoucher:
    """What all parts of a perturbed set have in common; called with one of them, it makes it."""

    folder: Path
    generator: str | None  # None: at gamma 0
    how: Perturbation
    seed: int
    prompts: Mapping[str, str]  # by label
    threads: int  # of torch: on a CPU their number may decide the last bits

    def __call__(self, numbered: tuple[int, Rows]) -> Part:
        """The part of these rows."""
        number, rows = numbered
        device = own_device() if self.generator else "cpu"
        torch.set_num_threads(self.threads)
        pairs = read_shard(rows.shard, rows=rows.which)
        images = pairs["image"].struct.field("bytes").to_list()
        broken: dict[int, str] = {}
        with Meter(device) as meter:
            made = self._perturb(numbered, device, pairs, decode_all(images, broken))
            seen = watched(made, meter, total=len(pairs))
            done = encode(seen, images, broken, quality=self.how.quality)
        keep_cost(self.folder, number, meter.cost(images=len(done)))
        keep_looks(self.folder, number, done)
        return sift(as_pairs(pairs, done), [one.reason for one in done], gate="valid")

    def _perturb(
        self, numbered: tuple[int, Rows], device: str, pairs: pl.DataFrame, images: Iterator[Image8]
    ) -> Iterator[Generated]:
        number, rows = numbered
        how, first = self.how, rows.first
        pipeline = self.generator and open_painter(
            self.generator, scheduler=how.scheduler, precision=how.precision, device=device
        )

        def tell(place: int, size: int) -> None:
            keep_smaller(self.folder, number, index=first + place, size=size)

        return perturb_images(
            pipeline, images, [self.prompts[label] for label in pairs["label"]], gamma=how.gamma,
            keys=pairs["id"].to_list(), seed=self.seed, on_halved=tell,
            blocks=[(at - first, size) for at, size in smaller_blocks(self.folder, number)],
            **how.arguments,
        )  # fmt: skip


def decode_all(images: Sequence[bytes], broken: dict[int, str]) -> Iterator[Image8]:
    """The images in turn; of one that cannot be decoded, the reason goes into `broken`.

    Example:
        >>> broken = {}
        >>> [image.shape for image in decode_all([b"<html>"], broken)], broken
        ([(1, 1, 3)], {0: 'not an image'})
    """
    for place, data in enumerate(images):
        try:
            yield decode_rgb(data)
        except DecodeError as error:
            broken[place] = str(error)
            yield UNSEEN


def encode(
    made: Iterator[Generated], parents: Sequence[bytes], broken: Mapping[int, str], *, quality: int
) -> list[Retouched]:
    """All images as JPEG, in order; each is encoded beside the making of those after it."""

    def save(place: int, one: Generated) -> Retouched:
        data = encode_jpeg(one.image, quality=quality)
        reason = broken.get(place, one.reason)
        both = None if reason else (as_it_came(parents[place]).after, as_it_came(data).after)
        return Retouched(data, sha256_of(data), both, reason)

    with ThreadPoolExecutor(1) as beside:
        waiting = [beside.submit(save, place, one) for place, one in enumerate(made)]
        return [image.result() for image in waiting]


def as_pairs(parents: pl.DataFrame, images: Sequence[Retouched]) -> pl.DataFrame:
    """The pairs of the parent with their new images."""
    names = parents["image"].struct.field("path").to_list()
    return parents.with_columns(
        image_column([image.data for image in images], names),
        pl.Series("sha256", [image.sha256 for image in images], dtype=pl.String),
        source=pl.lit("perturbed"),
    )


def keep_looks(folder: Path, part: int, images: Sequence[Retouched]) -> None:
    """Write down what the valid images of a part were like before, and are like."""
    looks = [image.looks for image in images if image.looks is not None]
    table = [
        looks_column("before", (a for a, _ in looks)),
        looks_column("after", (b for _, b in looks)),
    ]
    write_table(folder / WORK / f"looks-{part:05d}.parquet", pl.DataFrame(table))


def read_looks(folder: Path) -> pl.DataFrame:
    """The looks of all parts, before and after."""
    parts = sorted((folder / WORK).glob("looks-*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in parts])
