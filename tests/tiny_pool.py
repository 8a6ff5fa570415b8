"""A pool of pictures one can tell apart, and a set of some of them, changed and unchanged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from PIL import Image, ImageChops, ImageOps
from tests.tiny_garden import CLASSES, import_set, picture

from headwater.task import Task

POOL = 70  # pictures in the pool, number 0 to 69
SHARD = 30


def encoded(image: Image.Image, kind: str = "PNG", **how: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def write_pool(
    folder: Path, images: Sequence[bytes], *, urls: Sequence[str] = (), tars: bool = True
) -> Path:
    """A webdataset pool of these images; pair i has the key i and says so."""
    folder.mkdir(parents=True)
    keys = [f"{i:04d}" for i in range(len(images))]
    for number, start in enumerate(range(0, len(images), SHARD)):
        own = slice(start, start + SHARD)
        table = pl.DataFrame({"key": keys[own], "caption": [f"picture {k}" for k in keys[own]]})
        if urls:
            table = table.with_columns(url=pl.Series(urls[own], dtype=pl.String))
        table.write_parquet(folder / f"{number:05d}.parquet")
        if tars:
            write_tar(folder / f"{number:05d}.tar", dict(zip(keys[own], images[own], strict=True)))
    return folder


def write_tar(path: Path, images: dict[str, bytes]) -> None:
    """A tar as img2dataset writes it."""
    with tarfile.open(path, "w") as tar:
        for key, data in images.items():
            member = tarfile.TarInfo(f"{key}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def pool_images() -> list[bytes]:
    """The pool's pictures, number 0 to 69."""
    return [encoded(picture(number)) for number in range(POOL)]


def quarters_swapped(image: Image.Image) -> Image.Image:
    """The same pieces in other places: no copy to a descriptor, and close to CLIP."""
    half = image.width // 2
    return ImageChops.offset(image, half, half)


def planted_set(folder: Path, task: Task) -> Path:
    """Copies of five pool pictures, three that are near ones, and four new ones."""
    made = {
        "copy-same": picture(0),
        "copy-jpeg": Image.open(io.BytesIO(encoded(picture(1), "JPEG", quality=30))),
        "copy-half": picture(2).resize((24, 24)),
        "copy-cropped": picture(3).crop((3, 2, 46, 47)),
        "copy-mirrored": ImageOps.mirror(picture(4)),
        **{f"near-{n}": quarters_swapped(picture(n)) for n in (10, 11, 14)},
        **{f"new-{n}": picture(1000 + n) for n in range(4)},
    }
    images = folder.with_name(f"{folder.name}-images")
    for number, (name, image) in enumerate(made.items()):
        place = images / CLASSES[number % 2] / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place)
    return import_set(folder, task, {})
