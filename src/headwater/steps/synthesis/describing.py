"""What a captioner says of the images of a set: as many different lines of each class as asked for.

The images of a class are looked at in an order that depends on the seed and their ids, until enough
different lines came of them. What was looked at is kept, so that a killed run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError
from headwater.pairs import read_shard, scan_shard, shard_paths
from headwater.progress import track
from headwater.store import stable_seed, write_table
from headwater.synthesize.captions.wording import tidy

AT_ONCE = 8
"""Full blocks of a captioner that are kept together: what a kill can cost."""

SCHEMA = {"sha256": pl.String, "text": pl.String}


class Described(NamedTuple):
    """Different lines by label, and how many images could not be looked at."""

    texts: dict[str, list[str]]
    unreadable: int


class Looker(Protocol):
    """What describes images."""

    def describe(self, images: Sequence[Image8]) -> list[str]:
        """A line for each image."""


class Picture(NamedTuple):
    """One image of a class: by its bytes, and the number of the shard that has it."""

    label: str
    sha256: str
    shard: int


def describe_pairs(
    pairs: Path,
    wanted: Mapping[str, int],
    *,
    model: str,
    tokens: int,
    block: int,
    seed: int,
    folder: Path,
) -> Described:
    """Have images of a set described.

    Args:
        pairs: a finished set.
        wanted: how many different lines of each label; a label with fewer images gets fewer.
        model: an image-to-text model: a folder, or a name on the Hub.
        tokens: a line has at most so many.
        block: images looked at at once; the lines do not depend on it.
        seed: of the order in which images are looked at.
        folder: where lines are kept until the step is finished.

    Raises:
        SetError: no finished set.
        ModelError: the model cannot be loaded.
    """
    shards = shard_paths(pairs)
    order = find_pictures(shards, set(wanted), seed=seed)
    eyes = _Eyes(model, tokens=tokens, block=block)
    known = _read_kept(folder)
    while pictures := _unseen(order, wanted, known):
        parts = _in_parts(pictures, size=AT_ONCE * block)
        size, total = len, len(pictures)
        for part in track(parts, label="describing", total=total, unit="images", size=size):
            texts = eyes.describe(_read_images(shards[part[0].shard], part))
            rows = {"sha256": [one.sha256 for one in part], "text": texts}
            write_table(folder / f"{len(known):09d}.parquet", pl.DataFrame(rows, schema=SCHEMA))
            known |= dict(zip(rows["sha256"], texts, strict=True))
    texts_of = {label: _texts(order.get(label, []), known)[:n] for label, n in wanted.items()}
    return Described(texts_of, unreadable=sum(not text for text in known.values()))


def find_pictures(
    shards: Sequence[Path], labels: set[str], *, seed: int
) -> dict[str, list[Picture]]:
    """The different images of each label, in the order they are looked at."""
    keyed = []
    for number, path in enumerate(shards):
        rows = read_shard(path, ["id", "label", "sha256"]).drop_nulls()
        keyed += [
            (stable_seed(seed, "captioner", label, id), Picture(label, sha256, number))
            for id, label, sha256 in rows.iter_rows()
            if label in labels
        ]
    found: dict[str, dict[str, Picture]] = {}
    for _, picture in sorted(keyed):
        found.setdefault(picture.label, {}).setdefault(picture.sha256, picture)
    return {label: list(pictures.values()) for label, pictures in found.items()}


class _Eyes:
    """A captioner that is opened when the first image comes."""

    def __init__(self, model: str, *, tokens: int, block: int) -> None:
        self._model, self._tokens, self._block = model, tokens, block

    @cached_property
    def _captioner(self) -> Looker:
        from headwater.synthesize.captions.captioner import Captioner

        captioner: Looker = Captioner(self._model, tokens=self._tokens, block=self._block)
        return captioner

    def describe(self, images: Sequence[Image8 | None]) -> list[str]:
        """A line for each image, "" for none."""
        seen = [image for image in images if image is not None]
        texts = iter(self._captioner.describe(seen) if seen else [])
        return ["" if image is None else tidy(next(texts)) for image in images]


def _unseen(
    order: Mapping[str, Sequence[Picture]], wanted: Mapping[str, int], known: Mapping[str, str]
) -> list[Picture]:
    """The images to look at next: of each label as many as it lacks lines, none passed over.

    An image that another label, or a killed run, has had described stands in for none before it:
    else the lines would depend on what happened to be looked at first.
    """
    found: dict[str, Picture] = {}
    for label, count in wanted.items():
        texts: set[str] = set()
        fresh: dict[str, Picture] = {}
        for one in order.get(label, []):
            if len(texts) + len(fresh) >= count:
                break
            if one.sha256 not in known:
                fresh[one.sha256] = one
            elif known[one.sha256]:
                texts.add(known[one.sha256])
        found |= fresh
    return list(found.values())


def _texts(pictures: Sequence[Picture], known: Mapping[str, str]) -> list[str]:
    """The different lines that came of images, in order."""
    texts = (known.get(one.sha256) for one in pictures)
    return list(dict.fromkeys(text for text in texts if text))


def _in_parts(pictures: Sequence[Picture], *, size: int) -> Iterator[list[Picture]]:
    """At most `size` images of one shard together."""
    by_shard: dict[int, list[Picture]] = {}
    for one in pictures:
        by_shard.setdefault(one.shard, []).append(one)
    for shard in sorted(by_shard):
        there = by_shard[shard]
        yield from (there[at : at + size] for at in range(0, len(there), size))


def _read_images(shard: Path, pictures: Sequence[Picture]) -> list[Image8 | None]:
    """The images, in order; None for one that cannot be decoded."""
    digests = [one.sha256 for one in pictures]
    rows = scan_shard(shard, pl.col("sha256").is_in(digests)).unique("sha256")
    data = dict(zip(rows["sha256"], rows["image"].struct.field("bytes"), strict=True))
    return [_decode(data[digest]) for digest in digests]


def _decode(data: bytes | None) -> Image8 | None:
    try:
        return None if data is None else decode_rgb(data)
    except DecodeError:
        return None


def _read_kept(folder: Path) -> dict[str, str]:
    tables = [pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))]
    return dict(pl.concat([pl.DataFrame(schema=SCHEMA), *tables]).iter_rows())
