"""`pool embed`: CLIP embeddings of a pool's images and captions, in clip-retrieval's layout.

One row a pair, in the pool's own order, with its key, so that vectors and pairs do not get out of
step; a row whose image cannot be decoded is NaN and is never found by its image. The metadata of a
shard is written last and means done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.clip import Clip
from headwater.clip.encoder import Encoder
from headwater.clip.precision import choose_precision
from headwater.pool import PoolShard, count_rows, metadata_path, open_pool, read_images, read_table
from headwater.progress import track
from headwater.store import Json, replacing, step, write_table

Vectors = NDArray[np.float16]


def embed(
    pool_path: str | Path,
    out: Path,
    *,
    clip: Clip,
    batch_size: int = 256,
    precision: str = "auto",
    workers: int | None = None,
) -> Json:
    """Embed every image and caption of a pool into the folder `out`.

    Args:
        pool_path: the pool, with images.
        out: the new folder; itself a pool in the `laion` layout, without images.
        clip: the model.
        batch_size: images at a time.
        precision: float32, bf16, or auto: bf16 on a GPU that has it, float32 elsewhere.
        workers: processes that decode.

    Returns:
        Counts: pairs, and images that could not be decoded.
    """
    pool = open_pool(pool_path)
    precision = choose_precision(precision, clip.device)
    arguments = {"batch_size": batch_size, "precision": precision}
    inputs = {"pool": pool.digest, "model": clip.digest}
    with step(out, "embed", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        encoder = Encoder(clip, batch_size=batch_size, precision=precision, workers=workers)
        left = [shard for shard in pool.shards if not metadata_path(out, shard.number).exists()]
        done = (count for shard in left for count in embed_shard(shard, out, encoder=encoder))
        total = sum(count_rows(shard) for shard in left)
        for _ in track(done, label="embedding the pool", total=total):
            pass
        this.counts = _count(out, len(pool.shards))
        return this.counts


def embed_shard(shard: PoolShard, out: Path, *, encoder: Encoder) -> Iterator[int]:
    """Embed one shard, yielding how many images are done since; its metadata is written last."""
    table = read_table(shard)
    shape = (len(table), encoder.clip.dim)
    captions = table["caption"].fill_null("").to_list()
    with _vectors(out, "text_emb", shard.number, shape) as text:
        for rows, features in encoder.captions(enumerate(captions)):
            text[rows] = features
    keys = {key: row for row, key in enumerate(table["key"])}
    jobs = ((keys[key], data) for key, _, data in read_images(shard, list(keys)))
    with _vectors(out, "img_emb", shard.number, shape) as image:
        image[:] = np.nan
        for rows, features in encoder.images(jobs):
            image[rows] = features
            yield len(rows)
    write_table(metadata_path(out, shard.number), table)


@contextmanager
def _vectors(out: Path, kind: str, number: int, shape: tuple[int, int]) -> Iterator[Vectors]:
    """A float16 array on disk to be filled, there under its name once it is."""
    with replacing(out / kind / f"{kind}_{number:04d}.npy") as beside:
        array: Any = np.lib.format.open_memmap(beside, "w+", np.float16, shape)
        yield array
        array.flush()


def _count(out: Path, shards: int) -> Json:
    files = [out / "img_emb" / f"img_emb_{number:04d}.npy" for number in range(shards)]
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in files]
    blank = sum(int(np.isnan(array[:, 0]).sum()) for array in arrays)
    return {"pairs": sum(len(array) for array in arrays), "undecodable": blank}
