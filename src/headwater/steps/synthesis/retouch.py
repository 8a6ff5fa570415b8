"""Some rows of a set perturbed, in whatever process they are handed to.

Images are decoded as they are wanted and encoded as they come, for a part of large photos would
not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from diffusers import DiffusionPipeline

from headwater.cost import Meter
from headwater.decode import Image8, decode_rgb, encode_jpeg
from headwater.errors import DecodeError
from headwater.pairs import image_column, read_shard, sha256_of
from headwater.progress import track
from headwater.steps.sets import Part, sift
from headwater.steps.synthesis.ledger import keep_cost
from headwater.steps.synthesis.painter import open_painter, own_device
from headwater.steps.synthesis.settings import Perturbation
from headwater.synthesize.perturb import perturb_images

LABEL = "perturbing"
UNSEEN: Image8 = np.full((1, 1, 3), 255, np.uint8)  # in place of an image that cannot be decoded


class Rows(NamedTuple):
    """Some rows of a shard of the parent, which become one shard of the perturbed set."""

    shard: Path
    which: range

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The pairs, or some columns of them."""
        return read_shard(self.shard, columns, rows=self.which)


@dataclass(frozen=True)
class Retoucher:
    """What all parts of a perturbed set have in common; called with one of them, it makes it."""

    folder: Path
    generator: str
    how: Perturbation
    seed: int
    prompts: Mapping[str, str]  # by label
    threads: int  # of torch: on a CPU their number may decide the last bits

    def __call__(self, numbered: tuple[int, Rows]) -> Part:
        """The part of these rows."""
        number, rows = numbered
        how = self.how
        device = own_device() if how.gamma != 0 else "cpu"
        torch.set_num_threads(self.threads)
        pairs = rows.read()
        broken: dict[int, str] = {}
        with Meter(device) as meter:
            made = perturb_images(
                self._open(device), _decode(pairs["image"].struct.field("bytes"), broken),
                [self.prompts[label] for label in pairs["label"]], gamma=how.gamma,
                keys=pairs["id"].to_list(), seed=self.seed, **how.arguments,
            )  # fmt: skip
            images, reasons = [], []
            for place, one in enumerate(track(made, label=LABEL, total=len(pairs))):
                images.append(encode_jpeg(one.image, quality=how.quality))
                reasons.append(broken.get(place, one.reason))
                meter.look()
        keep_cost(self.folder, number, meter.cost(images=len(images)))
        return sift(_with_images(pairs, images), reasons, gate="valid")

    def _open(self, device: str) -> DiffusionPipeline | None:
        how = self.how
        if how.gamma == 0:
            return None
        return open_painter(
            self.generator, scheduler=how.scheduler, precision=how.precision, device=device
        )


def _decode(images: pl.Series, broken: dict[int, str]) -> Iterator[Image8]:
    # As they are wanted, for a part of large photos would not fit into memory.
    for number, data in enumerate(images):
        try:
            yield decode_rgb(data)
        except DecodeError as error:
            broken[number] = str(error)
            yield UNSEEN


def _with_images(pairs: pl.DataFrame, images: list[bytes]) -> pl.DataFrame:
    names = pairs["image"].struct.field("path").to_list()
    return pairs.with_columns(
        image_column(images, names),
        pl.Series("sha256", [sha256_of(data) for data in images], dtype=pl.String),
        source=pl.lit("perturbed"),
    )
