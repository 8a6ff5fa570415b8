"""Layouts: which files of a folder are the shards of a pool, told by their names alone.

    webdataset   img2dataset: 00000.tar + 00000.parquet
    laion        clip-retrieval: metadata/metadata_0000.parquet, img_emb/, text_emb/
    parquet      a folder of Parquet with captions; image bytes in a `jpg` column, or URLs only

What stands in the files is read by sources.py, images.py and vectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import fsspec

from headwater.errors import PoolError
from headwater.store import digest_value


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
    """Shards of pairs; `name` is the namespace of their ids, never the pool's location.

    `digest` is of the names and sizes of all files, for nobody can hash a web-sized pool: a file
    that changed and kept its size is not noticed.
    """

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


def _stem(path: str) -> str:
    return Path(path).stem
