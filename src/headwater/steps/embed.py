"""`pool embed`: CLIP image and caption embeddings of a pool, in clip-retrieval's layout.

One row a pair, in the pool's own order, so that vectors and pairs never get out of step; a
row whose image cannot be decoded is NaN and is never found by its image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater.clip import Clip
from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError
from headwater.pool import (
    PoolShard,
    metadata_path,
    open_pool,
    read_images,
    read_table,
    write_vectors,
)
from headwater.progress import track
from headwater.store import Json, step


def embed(pool_path: str | Path, out: Path, *, clip: Clip, batch_size: int = 256) -> Json:
    """Embed every image and caption of a pool into the folder `out`.

    Args:
        pool_path: the pool, with images.
        out: the new folder; itself a pool in the `laion` layout, without images.
        clip: the model.
        batch_size: images at a time.

    Returns:
        Counts: pairs, and images that could not be decoded.
    """
    pool = open_pool(pool_path)
    arguments = {"batch_size": batch_size}
    inputs = {"pool": pool.digest, "model": clip.digest}
    with step(out, "embed", arguments=arguments, inputs=inputs) as this:
        if this.finished:
            return this.counts
        for shard in track(pool.shards, label="embedding the pool"):
            if not metadata_path(out, shard.number).exists():
                embed_shard(shard, out, clip=clip, batch_size=batch_size)
        this.counts = _count(out, len(pool.shards))
        return this.counts


def embed_shard(shard: PoolShard, out: Path, *, clip: Clip, batch_size: int) -> None:
    """Embed one shard; its metadata file is written last and means done."""
    table = read_table(shard)
    rows = {key: row for row, key in enumerate(table["key"])}
    image = np.full((len(table), clip.dim), np.nan, np.float32)
    batch: dict[int, Image8] = {}
    for key, _, data in read_images(shard, list(rows)):
        try:
            batch[rows[key]] = decode_rgb(data)
        except DecodeError:
            continue
        if len(batch) == batch_size:
            _fill(image, batch, clip)
    _fill(image, batch, clip)
    captions = table["caption"].fill_null("").to_list()
    text = clip.encode_texts(captions, normalize=True)
    write_vectors(out, shard.number, table=table, image=image, text=text)


def _fill(vectors: NDArray[np.float32], batch: dict[int, Image8], clip: Clip) -> None:
    if batch:
        vectors[list(batch)] = clip.encode_images(list(batch.values()))
        batch.clear()


def _count(out: Path, shards: int) -> Json:
    files = [out / "img_emb" / f"img_emb_{number:04d}.npy" for number in range(shards)]
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in files]
    blank = sum(int(np.isnan(array[:, 0]).sum()) for array in arrays)
    return {"pairs": sum(len(array) for array in arrays), "undecodable": blank}
