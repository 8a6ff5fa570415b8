"""Small pictures of pairs of a set, and of evaluation images, as pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from headwater.decode import encode_jpeg, open_rgb
from headwater.errors import DecodeError, SetError
from headwater.pairs import check_columns, shard_paths
from headwater.splits import split_files
from headwater.task import Task

QUALITY = 80  # of the JPEG


def thumbnail(data: bytes, *, side: int) -> bytes | None:
    """An encoded image as a small JPEG, or None if it cannot be decoded.

    Args:
        data: the image.
        side: of the longer side at most, pixels; a smaller image stays as large as it is.

    Example:
        >>> thumbnail(b"<html>", side=64) is None
        True
    """
    try:
        image = open_rgb(data, wanted=side)
    except DecodeError:
        return None
    image.thumbnail((side, side))
    return encode_jpeg(np.asarray(image), quality=QUALITY)


def thumbnails(folder: Path, wanted: pl.DataFrame, *, side: int) -> dict[tuple[str, str], bytes]:
    """Small JPEGs of some pairs of a set, by id and label; what cannot be shown is left out.

    Args:
        folder: a finished set.
        wanted: id and label of the pairs.
        side: of a picture, as `thumbnail` takes it.
    """
    found = {}
    for pair_id, label, data in encoded_images(folder, wanted):
        small = thumbnail(data, side=side)
        if small is not None:
            found[pair_id, label] = small
    return found


def encoded_images(folder: Path, wanted: pl.DataFrame) -> Iterator[tuple[str, str, bytes]]:
    """Id, label and image of some pairs of a set, as they are in it.

    Args:
        folder: a finished set.
        wanted: id and label of the pairs.
    """
    ids = wanted["id"].unique().implode()
    for path in shard_paths(folder) if len(wanted) else ():
        check_columns(path)
        try:
            rows = pl.scan_parquet(path).filter(pl.col("id").is_in(ids))
            table = rows.select("id", "label", pl.col("image").struct.field("bytes")).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SetError(f"cannot read {path}", seen=str(error).split("\n")[0]) from None
        exact = table.join(wanted.select("id", "label"), on=["id", "label"], how="semi")
        yield from exact.drop_nulls().iter_rows()


def thumbnails_of_task(task: Task, names: Iterable[str], *, side: int) -> dict[str, bytes]:
    """Small JPEGs of evaluation images, by name, such as `test/rose/1.jpg`.

    What the task does not have is left out, as is what cannot be shown.

    Args:
        task: whose images they are.
        names: of the images.
        side: of a picture, as `thumbnail` takes it.
    """
    wanted = set(names)
    splits = {name.partition("/")[0] for name in wanted} & task.images.keys()
    small = {
        f"{split}/{name}": thumbnail(path.read_bytes(), side=side)
        for split in sorted(splits)
        for name, path, _ in split_files(task, split)
        if f"{split}/{name}" in wanted
    }
    return {name: image for name, image in small.items() if image}
