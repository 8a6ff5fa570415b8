"""Images as a copy descriptor sees them, each described once: evaluation splits, and sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.decode import Image8, decode_rgb
from headwater.descriptors import Descriptor
from headwater.features import KeptFeatures
from headwater.splits import read_image, split_files
from headwater.store import digest_file
from headwater.task import Task

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class References:
    """Images nothing may be a copy of: what each is called, as `test/rose/1.jpg`, and described."""

    names: list[str]
    descriptors: Floats  # (n, d)


def describe_kept(
    descriptor: Descriptor, digests: Sequence[str], load: Callable[[int], Image8]
) -> Floats:
    """Descriptors (n, d) of images; those described before are not even loaded.

    Args:
        descriptor: how to describe.
        digests: sha256 of the bytes of each image.
        load: the image of a row.
    """
    return KeptFeatures(descriptor.digest).of(
        digests, lambda rows: descriptor.describe(load(row) for row in rows.tolist())
    )


def describe_encoded(
    descriptor: Descriptor, digests: Sequence[str], data: Sequence[bytes]
) -> Floats:
    """Descriptors (n, d) of encoded images whose sha256 are `digests`; see `describe_kept`."""
    return describe_kept(descriptor, digests, lambda row: decode_rgb(data[row]))


def describe_splits(task: Task, splits: Iterable[str], descriptor: Descriptor) -> References:
    """The images of some splits of a task.

    Raises:
        TaskError: a split the task lacks, whose folder is missing, or with a broken image.
    """
    files = [
        (f"{split}/{name}", path) for split in splits for name, path, _ in split_files(task, split)
    ]
    digests = [digest_file(path) for _, path in files]
    described = describe_kept(descriptor, digests, lambda row: read_image(files[row][1]))
    return References([name for name, _ in files], described)
