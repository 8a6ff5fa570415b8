"""Layouts: which files of a folder are the shards of a pool, told by their names alone.

    webdataset   img2dataset: 00000.tar beside 00000.parquet
    laion        clip-retrieval: metadata/metadata_0000.parquet, img_emb/, text_emb/
    datacomp     DataComp's metadata: X.parquet beside X.npz
    files        img2dataset: 00000.parquet beside a folder 00000 of images
    parquet      a folder of Parquet with captions; image bytes inside, or URLs only
    datasets     Hugging Face `save_to_disk`: state.json and *.arrow
    imagefolder  images in folders, captions.json or NAME.txt beside NAME.jpg

What stands in the files is read by sources.py, images.py and vectors.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import fsspec

from headwater.errors import PoolError
from headwater.store import digest_value

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")

HIDDEN = ("_temporary", "_spark_metadata", "_delta_log", "__MACOSX")
"""Folders that other tools keep to themselves; like all that begins with a dot, not seen."""

DEPTH = 2  # folders looked into; only an ImageFolder may be deeper
SHARD = 1000  # images in a shard of an ImageFolder


@dataclass(frozen=True)
class PoolShard:
    """One part of a pool: a table of captions and what lies beside it.

    In an ImageFolder there is no table: `images` are the rows, `table` the file of captions.
    """

    number: int
    name: str
    table: str
    tar: str | None = None
    folder: str | None = None
    images: tuple[str, ...] | None = None
    image_vectors: str | None = None
    text_vectors: str | None = None


@dataclass(frozen=True)
class Pool:
    """Shards of pairs; `name` is the namespace of their ids, never the pool's location.

    `digest` is of the names and sizes of the files in use (`bytes` in all), for nobody can hash a
    web-sized pool: a file that changed and kept its size is not noticed. `left_out` are files that
    look like parts of the pool and are not: a tar without its table, say.
    """

    name: str
    layout: str
    shards: tuple[PoolShard, ...]
    digest: str
    bytes: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """The files of a folder: path inside it -> size; hidden ones are not seen."""

    root: str
    sizes: dict[str, int]
    links_out: frozenset[str] = field(default_factory=frozenset)

    def ending(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes, in natural order."""
        return sorted((f for f in self.sizes if f.lower().endswith(suffixes)), key=natural)


def natural(name: str) -> tuple[list[str | int], str]:
    """Sorts numbers in names by their value, so that shards line up however they are padded.

    Example:
        >>> sorted(["metadata_1001", "metadata_10000", "metadata_0002"], key=natural)
        ['metadata_0002', 'metadata_1001', 'metadata_10000']
    """
    parts = re.split("([0-9]+)", name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], name


def open_pool(path: str | Path, *, name: str = "pool") -> Pool:
    """Detect the layout of a pool and list its shards; any fsspec path.

    Args:
        path: the pool's folder.
        name: the namespace of the ids of its pairs.

    Raises:
        PoolError: no such folder, an empty one, or no layout that is known.
    """
    files = list_files(str(path), depth=DEPTH)
    for layout, find in LAYOUTS.items():
        if layout == "imagefolder" and _may_be_imagefolder(files):
            files = list_files(str(path))  # the only one that may be deeper
        if shards := find(files):
            used = _used(files, shards)
            digest = digest_value([[file, files.sizes[file]] for file in used])
            placed = tuple(_placed(shard, files.root) for shard in shards)
            size = sum(files.sizes[file] for file in used)
            return Pool(name, layout, placed, digest, size, _left_out(layout, files, set(used)))
    raise PoolError(
        f"{path} is not a pool", do="See docs/formats.md for the layouts that are read.",
        expected="*.parquet with captions (beside *.tar, or in metadata/), or captions.json",
        seen=f"{len(files.sizes)} other files" if files.sizes else "an empty folder",
    )  # fmt: skip


def list_files(path: str, *, depth: int | None = None) -> Listing:
    """What lies in a folder of any file system.

    Raises:
        PoolError: no such folder, or a file system that says no.
    """
    try:
        system, root = fsspec.core.url_to_fs(path)
        if not system.isdir(root):
            seen = "a file" if system.isfile(root) else "nothing there"
            do = "Give the folder it is in." if seen == "a file" else ""
            raise PoolError("no such pool", expected=f"a folder {path}", seen=seen, do=do)
        found = system.find(root, maxdepth=depth, detail=True)
    except PoolError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise PoolError(f"cannot open the pool {path}", seen=str(error)) from None
    prefix = root.rstrip("/") + "/"
    inside = {file.removeprefix(prefix): info for file, info in found.items()}
    local = "file" in system.protocol or "local" in system.protocol
    return Listing(
        root if local else system.unstrip_protocol(root),
        {file: info["size"] or 0 for file, info in inside.items() if not _is_hidden(file)},
        frozenset(f for f, info in inside.items() if info.get("islink") and leads_out(root, f)),
    )


def _is_hidden(file: str) -> bool:
    return any(part.startswith(".") or part in HIDDEN for part in PurePosixPath(file).parts)


def leads_out(root: str, file: str) -> bool:
    """Whether a file of a folder on this disk is a link to somewhere outside of it."""
    return not (Path(root) / file).resolve().is_relative_to(Path(root).resolve())


def _webdataset(files: Listing) -> list[PoolShard]:
    return [
        PoolShard(number, _stem(table), table, tar=_stem(table) + ".tar")
        for number, table in enumerate(_beside(files, ".tar"))
    ]


def _laion(files: Listing) -> list[PoolShard]:
    tables = [f for f in files.ending(".parquet") if f.startswith("metadata/metadata_")]

    def vectors(table: str, kind: str) -> str | None:
        path = f"{kind}/{kind}_" + _stem(table).removeprefix("metadata/metadata_") + ".npy"
        return path if path in files.sizes else None

    return [
        PoolShard(
            number, PurePosixPath(table).stem, table,
            image_vectors=vectors(table, "img_emb"), text_vectors=vectors(table, "text_emb"),
        )
        for number, table in enumerate(tables)
    ]  # fmt: skip


def _datacomp(files: Listing) -> list[PoolShard]:
    if not _beside(files, ".npz"):
        return []
    shards = []
    for number, table in enumerate(files.ending(".parquet")):
        npz = _stem(table) + ".npz"
        there = npz if npz in files.sizes else None
        shards.append(
            PoolShard(number, _stem(table), table, image_vectors=there, text_vectors=there)
        )
    return shards


def _files(files: Listing) -> list[PoolShard]:
    folders = {str(PurePosixPath(file).parent) for file in files.ending(*IMAGE_SUFFIXES)}
    tables = [table for table in files.ending(".parquet") if _stem(table) in folders]
    return [
        PoolShard(number, _stem(table), table, folder=_stem(table))
        for number, table in enumerate(tables)
    ]


def _parquet(files: Listing) -> list[PoolShard]:
    tables = files.ending(".parquet")
    return [PoolShard(number, _stem(table), table) for number, table in enumerate(tables)]


def _datasets(files: Listing) -> list[PoolShard]:
    """The folder itself, or one folder a split."""
    homes = {str(PurePosixPath(f).parent) for f in files.sizes if f.split("/")[-1] == "state.json"}
    tables = [f for f in files.ending(".arrow") if str(PurePosixPath(f).parent) in homes]
    return [PoolShard(number, _stem(table), table) for number, table in enumerate(tables)]


def _may_be_imagefolder(files: Listing) -> bool:
    return CAPTIONS in files.sizes or bool(files.ending(*IMAGE_SUFFIXES))


def _imagefolder(files: Listing) -> list[PoolShard]:
    images = [f for f in files.ending(*IMAGE_SUFFIXES) if f not in files.links_out]
    captioned = CAPTIONS in files.sizes or any(_stem(f) + ".txt" in files.sizes for f in images)
    lots = [images[at : at + SHARD] for at in range(0, len(images), SHARD)] if captioned else []
    return [
        PoolShard(number, f"images-{number:05d}", CAPTIONS, folder=".", images=tuple(lot))
        for number, lot in enumerate(lots)
    ]


CAPTIONS = "captions.json"

LAYOUTS = {
    "webdataset": _webdataset,
    "laion": _laion,
    "datacomp": _datacomp,
    "files": _files,
    "parquet": _parquet,
    "datasets": _datasets,
    "imagefolder": _imagefolder,
}
"""How the shards of each layout are found, in the order in which they are tried."""


def _beside(files: Listing, suffix: str) -> list[str]:
    """Tables with a file of the same name and another suffix beside them."""
    return [f for f in files.ending(".parquet") if _stem(f) + suffix in files.sizes]


def _stem(path: str) -> str:
    """`a/b.tar` -> `a/b`."""
    return str(PurePosixPath(path).with_suffix(""))


def _parts(shard: PoolShard) -> list[str]:
    places = (shard.table, shard.tar, shard.image_vectors, shard.text_vectors)
    return [place for place in places if place is not None]


def _used(files: Listing, shards: Iterable[PoolShard]) -> list[str]:
    """The files that the shards are made of, sorted."""
    parts = {part for shard in shards for part in _parts(shard)}
    folders = {shard.folder for shard in shards if shard.folder and shard.images is None}
    images = {image for shard in shards for image in shard.images or ()}
    texts = {_stem(image) + ".txt" for image in images}
    named = parts | images | texts
    return sorted(f for f in files.sizes if f in named or str(PurePosixPath(f).parent) in folders)


def _placed(shard: PoolShard, root: str) -> PoolShard:
    """The shard with places that can be opened, not only paths inside the pool."""

    def place(path: str | None) -> str | None:
        return None if path is None else f"{root.rstrip('/')}/{path}".removesuffix("/.")

    return replace(
        shard,
        table=place(shard.table) or "",
        tar=place(shard.tar),
        folder=place(shard.folder),
        image_vectors=place(shard.image_vectors),
        text_vectors=place(shard.text_vectors),
    )


def _left_out(layout: str, files: Listing, used: set[str]) -> tuple[str, ...]:
    looks_like = {
        "webdataset": (".parquet", ".tar"),
        "laion": (".parquet", ".npy"),
        "datacomp": (".npz",),
        "files": (".parquet",),
        "datasets": (".arrow",),
        "imagefolder": IMAGE_SUFFIXES,
    }
    return tuple(f for f in files.ending(*looks_like.get(layout, (".tar",))) if f not in used)
