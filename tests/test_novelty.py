"""Novelty: copies are memorized, what is close is near, the rest is new; against plain versions."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import import_set, make_task, numbered, picture

from headwater.decode import decode_rgb
from headwater.descriptors import describe, open_descriptor
from headwater.pairs import read_pairs
from headwater.steps.novelty.novelty import find_novelty
from headwater.steps.novelty.settings import BANDS

POOL = 70  # pictures, number 0 to 69


def encoded(image: Image.Image, kind: str = "PNG", **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def write_pool(folder: Path, images: list[bytes], *, shard: int = 30, urls=None) -> Path:
    """A webdataset pool of these images, `shard` to a shard; pair i has the key i."""
    folder.mkdir(parents=True)
    keys = [f"{i:04d}" for i in range(len(images))]
    for number, start in enumerate(range(0, len(images), shard)):
        own = slice(start, start + shard)
        table = pl.DataFrame({"key": keys[own], "caption": [f"picture {k}" for k in keys[own]]})
        if urls is not None:
            table = table.with_columns(url=pl.Series(urls[own], dtype=pl.String))
        table.write_parquet(folder / f"{number:05d}.parquet")
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for key, data in zip(keys[own], images[own], strict=True):
                member = tarfile.TarInfo(f"{key}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("garden")
    task = make_task(folder)
    pool = write_pool(folder / "pool", [encoded(picture(i)) for i in range(POOL)])
    made = import_set(folder / "set", task, numbered(1000, 4) | {"rose/copy.png": 5})
    return folder, task, pool, made


DESCRIPTOR = open_descriptor("builtin")


def nearest_plainly(queries: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best row of each query, in float64, the first of equals."""
    scores = queries.astype(np.float64) @ rows.astype(np.float64).T
    return scores.max(axis=1), scores.argmax(axis=1)


def test_every_image_has_its_nearest_by_descriptor_and_by_clip(garden, tmp_path):
    _, _, pool, made = garden
    clip = tiny_clip()
    counts = find_novelty(made, pool, tmp_path / "n", descriptor=DESCRIPTOR, clip=clip)
    told = pl.read_parquet(tmp_path / "n" / "nearest.parquet")
    images = [decode_rgb(data) for data in read_pairs(made)["image"].struct.field("bytes")]
    pool_images = [np.asarray(picture(i)) for i in range(POOL)]
    for column, value, see in (
        ("copy_of", "similarity", describe),
        ("like", "clip_similarity", clip.encode_images),
    ):
        scores, rows = nearest_plainly(see(images), see(pool_images))
        assert told[column].to_list() == [f"pool:{row:04d}" for row in rows]
        np.testing.assert_allclose(told[value], scores, atol=1e-6)
    assert counts["images"] == len(told) == sum(counts[band] for band in BANDS)
    assert told.select("id", "label").equals(read_pairs(made, ["id", "label"]))
