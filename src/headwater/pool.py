"""The pool: the upstream collection of image-text pairs, as shards, in a layout people have.

    webdataset   img2dataset: 00000.tar + 00000.parquet
    parquet      a folder of Parquet with captions; image bytes in a `jpg` column, or URLs only
    laion        clip-retrieval: metadata/metadata_0000.parquet, img_emb/, text_emb/

The layout is detected, nothing is converted, and nothing is ever written into a pool.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.decode import MAX_BYTES
from headwater.errors import PoolError
from headwater.store import digest_value, replacing, write_table

ALIASES = {
    "key": ("key", "SAMPLE_ID", "uid", "id"),
    "caption": ("caption", "TEXT", "text"),
    "url": ("url", "URL"),
    "nsfw": ("NSFW", "nsfw", "punsafe"),
    "sha256": ("sha256",),
    "image": ("jpg", "image", "png", "webp"),
}
"""Columns as Headwater calls them, and the names people's pools have for them."""

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class PoolShard:
    """One part of a pool: a table of captions and what lies beside it."""

    number: int
    name: str
    table: str
    tar: str | None = None
    image_vectors: str | None = None
    text_vectors: str | None = None


@dataclass(frozen=True)
class Pool:
    """Shards of pairs; `name` is the namespace of their ids, never the pool's location."""

    name: str
    layout: str
    shards: tuple[PoolShard, ...]
    digest: str


def open_pool(path: str | Path, *, name: str = "pool") -> Pool:
    """Detect the layout of a pool and list its shards; any fsspec path.

    Args:
        path: the pool's folder.
        name: the namespace of the ids of its pairs.

    Raises:
        PoolError: no such folder, an empty one, or no layout that is known.
    """
    files, root = _list(str(path))
    for layout, find in LAYOUTS.items():
        shards = find(files)
        if shards:
            sizes = [[file.removeprefix(root), size] for file, size in sorted(files.items())]
            return Pool(name, layout, tuple(shards), digest_value(sizes))
    raise PoolError(
        f"{path} is not a pool", do="See docs/formats.md for the layouts that are read.",
        expected="*.parquet with captions (beside *.tar, or in metadata/)",
        seen=f"{len(files)} other files" if files else "an empty folder",
    )  # fmt: skip


def read_table(shard: PoolShard, *, images: bool = False) -> pl.DataFrame:
    """The rows of a shard under Headwater's names.

    Args:
        shard: one part of a pool.
        images: whether to read image bytes that stand in the table itself.

    Returns:
        Columns key (str), caption (str or null), url, nsfw (as the pool has it), sha256, and
        `image` (bytes) if asked for and there; a column the pool lacks is null.

    Raises:
        PoolError: unreadable, without captions, or with captions that are not text.
    """
    schema = _schema(shard)
    found = {
        name: next((alias for alias in aliases if alias in schema), None)
        for name, aliases in ALIASES.items()
        if name != "image" or images
    }
    if found["caption"] is None:
        raise PoolError(
            f"{shard.name} has no captions", expected="a column " + " or ".join(ALIASES["caption"]),
            seen=", ".join(list(schema)[:8]),
        )  # fmt: skip
    kind = schema[found["caption"]]
    if kind not in (pl.String, pl.Null):
        raise PoolError(
            f"{shard.name}: the caption column {found['caption']} is not text",
            expected="strings", seen=str(kind),
        )  # fmt: skip
    columns = [alias for alias in found.values() if alias]
    table = _read(shard, columns).rename({v: k for k, v in found.items() if v})
    return _with_keys(table, shard)


def read_images(shard: PoolShard, keys: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Image bytes of the wanted keys, in the order they lie: (key, name of the file, bytes).

    Keys without an image are not yielded.

    Raises:
        PoolError: a truncated or broken tar.
    """
    wanted = set(keys)
    if shard.tar is not None:
        yield from _tar_images(shard, wanted)
        return
    table = read_table(shard, images=True)
    if "image" not in table.columns:
        return
    rows = table.filter(pl.col("key").is_in(list(wanted)), pl.col("image").is_not_null())
    for key, value in rows.select("key", "image").iter_rows():
        data = value["bytes"] if isinstance(value, dict) else value
        yield key, f"{key}.jpg", data


def has_images(shard: PoolShard) -> bool:
    """Whether the images of a shard are here (or only their URLs)."""
    return shard.tar is not None or any(name in _schema(shard) for name in ALIASES["image"])


def read_vectors(shard: PoolShard, kind: str) -> NDArray[Any]:
    """The memory-mapped embeddings of a shard, one row a pair: (rows, d).

    Args:
        shard: one part of a pool that comes with vectors.
        kind: "image" or "text".

    Raises:
        PoolError: no vectors, or not as many as the table has rows.
    """
    path = shard.image_vectors if kind == "image" else shard.text_vectors
    if path is None:
        raise PoolError(
            f"{shard.name} has no {kind} embeddings", expected="a pool that was embedded",
            seen=f"no {kind} vectors beside the table", do="Run `headwater pool embed` first.",
        )  # fmt: skip
    try:
        vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PoolError(f"cannot read {Path(path).name}", seen=str(error)) from None
    rows = count_rows(shard)
    if vectors.ndim != 2 or len(vectors) != rows:
        raise PoolError(
            f"{Path(path).name} is out of step with {Path(shard.table).name}",
            expected=f"{rows:,} rows", seen=f"shape {vectors.shape}",
            do="Embed the pool again, or get both files from one source.",
        )  # fmt: skip
    return vectors


def write_vectors(
    folder: Path, number: int, *, table: pl.DataFrame, image: NDArray[Any], text: NDArray[Any]
) -> None:
    """One embedded shard in clip-retrieval's layout, float16; the metadata is written last."""
    for kind, vectors in (("img_emb", image), ("text_emb", text)):
        with (
            replacing(folder / kind / f"{kind}_{number:04d}.npy") as beside,
            beside.open("wb") as f,
        ):
            np.save(f, vectors.astype(np.float16), allow_pickle=False)
    write_table(metadata_path(folder, number), table)


def metadata_path(folder: Path, number: int) -> Path:
    """Where the metadata of embedded shard `number` lies; it is there when the shard is done."""
    return folder / "metadata" / f"metadata_{number:04d}.parquet"


def describe(pool: Pool) -> dict[str, Any]:
    """Rows, columns, what is there, and a sample: what `headwater pool describe` prints."""
    first = read_table(pool.shards[0])
    rows = [count_rows(shard) for shard in pool.shards]
    return {
        "layout": pool.layout,
        "shards": len(pool.shards),
        "pairs": sum(rows),
        "columns": list(_schema(pool.shards[0])),
        "images": has_images(pool.shards[0]),
        "image_vectors": pool.shards[0].image_vectors is not None,
        "text_vectors": pool.shards[0].text_vectors is not None,
        "safety_tags": bool(first["nsfw"].is_not_null().any()),
        "captions_missing": sum(read_table(s)["caption"].null_count() for s in pool.shards),
        "sample": first["caption"].drop_nulls().head(5).to_list(),
    }


def _list(path: str) -> tuple[dict[str, int], str]:
    try:
        system, root = fsspec.core.url_to_fs(path)
        if not system.isdir(root):
            raise PoolError("no such pool", expected=f"a folder {path}", seen="nothing there")
        found = system.find(root, maxdepth=2, detail=True)
    except PoolError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise PoolError(f"cannot open the pool {path}", seen=str(error)) from None
    local = "file" in system.protocol or "local" in system.protocol
    full = {(p if local else system.unstrip_protocol(p)): i["size"] for p, i in found.items()}
    return full, root if local else system.unstrip_protocol(root)


def _webdataset(files: dict[str, int]) -> list[PoolShard]:
    tables = [f for f in sorted(files) if f.endswith(".parquet") and f[:-8] + ".tar" in files]
    return [PoolShard(i, _stem(f), f, tar=f[:-8] + ".tar") for i, f in enumerate(tables)]


def _laion(files: dict[str, int]) -> list[PoolShard]:
    tables = [f for f in sorted(files) if "/metadata/metadata_" in f and f.endswith(".parquet")]

    def beside(table: str, kind: str) -> str | None:
        path = table.replace("/metadata/metadata_", f"/{kind}/{kind}_")[:-8] + ".npy"
        return path if path in files else None

    return [
        PoolShard(
            i, _stem(f), f, image_vectors=beside(f, "img_emb"), text_vectors=beside(f, "text_emb")
        )
        for i, f in enumerate(tables)
    ]


def _parquet(files: dict[str, int]) -> list[PoolShard]:
    tables = [f for f in sorted(files) if f.endswith(".parquet")]
    return [PoolShard(i, _stem(f), f) for i, f in enumerate(tables)]


LAYOUTS = {"webdataset": _webdataset, "laion": _laion, "parquet": _parquet}


def _schema(shard: PoolShard) -> dict[str, Any]:
    try:
        return dict(pl.scan_parquet(shard.table).collect_schema())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PoolError(f"cannot read {shard.table}", seen=str(error).split("\n")[0]) from None


def _read(shard: PoolShard, columns: list[str]) -> pl.DataFrame:
    try:
        return pl.scan_parquet(shard.table).select(columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PoolError(f"cannot read {shard.table}", seen=str(error).split("\n")[0]) from None


def count_rows(shard: PoolShard) -> int:
    """The number of pairs in a shard."""
    return int(pl.scan_parquet(shard.table).select(pl.len()).collect().item())


def _with_keys(table: pl.DataFrame, shard: PoolShard) -> pl.DataFrame:
    for name in ("key", "caption", "url", "nsfw", "sha256"):
        if name not in table.columns:
            table = table.with_columns(pl.lit(None, pl.String).alias(name))
    keys = table["key"].cast(pl.String)
    if keys.null_count():
        from hashlib import sha256

        pairs = table.select("url", "caption").iter_rows()
        made = [sha256("\x1f".join(x or "" for x in row).encode()).hexdigest() for row in pairs]
        keys = keys.fill_null(pl.Series(made))
    table = table.with_columns(keys.alias("key"))
    twice = table.filter(pl.col("key").is_duplicated())
    if len(twice):
        raise PoolError(
            f"{shard.name} has a key twice", expected="one row a key", seen=str(twice["key"][0])
        )
    return table


def _tar_images(shard: PoolShard, wanted: set[str]) -> Iterator[tuple[str, str, bytes]]:
    assert shard.tar is not None
    try:
        with fsspec.open(shard.tar, "rb") as file:
            _check_end(file)
            with tarfile.open(fileobj=file, mode="r|") as tar:
                for member in tar:
                    name = Path(member.name).name
                    key, _, suffix = name.partition(".")
                    if key in wanted and member.isfile() and suffix.lower() in IMAGE_SUFFIXES:
                        data = tar.extractfile(member)
                        yield key, name, data.read(MAX_BYTES + 1) if data else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise PoolError(
            f"{Path(shard.tar).name} is broken", expected="a whole tar file", seen=str(error),
            do="Fetch this shard again; the finished shards are kept.",
        ) from None  # fmt: skip


def _check_end(file: IO[bytes]) -> None:
    # A tar ends with two empty blocks; a reader takes one that is cut between files for whole.
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 2 * tarfile.BLOCKSIZE, 0))
    if file.read().strip(b"\0") or size < 2 * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short")
    file.seek(0)


def _stem(path: str) -> str:
    return Path(path).stem
