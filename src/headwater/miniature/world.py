"""A miniature world on disk: a pool as img2dataset would leave it, a task, and what was planted.

The pictures are real scans (`scans.py`) shown in many ways (`contexts.py`) under captions as the
web has them (`wording.py`). `planted.parquet` keeps the truth, so that what each stage caught can
be counted; no stage reads it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray
from PIL import Image

from headwater.miniature.contexts import HOLES, JUNK, PLAIN, SEVERAL, SHARES, Pixels, show
from headwater.miniature.scans import Scans, split_scans
from headwater.miniature.wording import JUNK_KINDS, KINDS, caption
from headwater.store import replacing, write_table, write_text
from headwater.task import load_task

PAIRS = 6000
SHARD = 1000  # pairs a shard
EVALUATION = ("train", "val", "test")
LEAKS = 0.01  # of the pool, copies of test images
FAULTS = 0.01  # of the pool, images that do not decode
FLAGGED = 0.01  # of the pool, rows marked NSFW
COPIES = ("exact", "reencoded", "cropped")
BROKEN = ("truncated", "empty", "text")
PLANTED = {
    "key": pl.String,
    "scan": pl.Int64,
    "digit": pl.Int64,
    "context": pl.String,
    "caption_kind": pl.String,
    "nsfw": pl.Boolean,
    "broken": pl.String,
    "copy_of": pl.String,
    "copy_kind": pl.String,
}


class Pair(NamedTuple):
    """One pair of the pool: its row of the metadata and its bytes."""

    row: dict[str, Any]
    image: bytes


def build_world(
    folder: Path | str, *, pairs: int = PAIRS, seed: int = 0, upstream: Scans | None = None
) -> None:
    """Write `folder/pool`, `folder/images`, `folder/task.yaml` and `folder/planted.parquet`.

    The same arguments write the same bytes.

    Args:
        folder: made if missing.
        pairs: size of the pool, at least 200 so that everything planted occurs.
        seed: of the split and of everything drawn.
        upstream: the scans that the pool shows; the upstream part of `split_scans(seed)`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     build_world(folder, pairs=200)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['images', 'planted.parquet', 'pool', 'task.yaml']
    """
    folder = Path(folder)
    parts = split_scans(seed)
    tests = write_task(folder, parts, seed=seed)
    upstream = upstream or parts["upstream"]
    planted = plant(pairs, upstream, tests, seed=seed)
    (folder / "pool").mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(planted.iter_slices(SHARD)):
        shard = [make_pair(row, upstream, folder, seed=seed) for row in rows.iter_rows(named=True)]
        write_shard(folder / "pool" / f"{number:05d}", shard)
    write_table(folder / "planted.parquet", planted)


def write_task(folder: Path, parts: dict[str, Scans], *, seed: int) -> dict[str, int]:
    """Write the task file and its images; returns {relative path of a test image: scan}."""
    parts = {part: parts[part] for part in EVALUATION}
    written = {
        part: _write_images(folder, part, scans, np.full(len(scans), PLAIN), seed=seed)
        for part, scans in parts.items()
    }
    holes = [np.flatnonzero(parts["test"].digits == digit) for digit, _ in HOLES]
    contexts = np.repeat([context for _, context in HOLES], [len(rows) for rows in holes])
    absent = parts["test"].take(np.concatenate(holes))
    written["holes"] = _write_images(folder, "holes", absent, contexts, seed=seed)
    task = load_task("miniature").model_dump(mode="json", exclude={"images"})
    task["images"] = {split: f"images/{split}" for split in written}
    write_text(folder / "task.yaml", yaml.safe_dump(task, sort_keys=False))
    return written["test"]


def plant(pairs: int, upstream: Scans, tests: dict[str, int], *, seed: int) -> pl.DataFrame:
    """Decide what each pair of the pool is: one row a pair, columns `PLANTED`, shuffled.

    Args:
        pairs: rows.
        upstream: scans that the pool may show.
        tests: {relative path of a test image: scan}, the images that may leak.
        seed: of every choice.

    Example:
        >>> plant(500, split_scans()["upstream"], {"images/test/3/0007.png": 7}, seed=0).height
        500
    """
    rng = np.random.default_rng([seed, 3])
    leaks = _leaks(min(round(pairs * LEAKS), len(tests)), tests, rng)
    counts = {context: round(pairs * share) for context, share in SHARES.items()}
    counts[PLAIN] -= len(leaks)
    counts[JUNK] += pairs - len(leaks) - sum(counts.values())
    rows = [row for name, count in counts.items() for row in _shown(name, count, upstream, rng)]
    flawed = _flawed(rows, pairs, rng)
    shuffled = [(flawed + leaks)[i] for i in rng.permutation(pairs)]
    keyed = [{"key": f"{i // SHARD:05d}{i % SHARD:04d}", **row} for i, row in enumerate(shuffled)]
    return pl.DataFrame(keyed, schema=PLANTED)


def make_pair(row: dict[str, Any], upstream: Scans, folder: Path, *, seed: int) -> Pair:
    """Picture and caption of one planted row; the metadata is what img2dataset would write."""
    rng = np.random.default_rng([seed, 4, int(row["key"])])
    text = caption(row["caption_kind"], row["context"], row["digit"], rng)
    image, size = _copied(row, folder, rng) if row["copy_of"] else _drawn(row, upstream, rng)
    image = _damaged(image, row["broken"])
    meta = {
        "url": f"https://example.org/{rng.integers(16**8):08x}/{row['key']}.jpg",
        "caption": text,
        "key": row["key"],
        "status": "success",
        "error_message": None,
        "width": size,
        "height": size,
        "original_width": size,
        "original_height": size,
        "sha256": hashlib.sha256(image).hexdigest(),
        "NSFW": "NSFW" if row["nsfw"] else "UNSURE" if rng.random() < 0.02 else "UNLIKELY",
    }
    return Pair(meta, image)


def write_shard(stem: Path, pairs: list[Pair]) -> None:
    """Write `stem.tar`, `stem.parquet` and `stem_stats.json`."""
    with (
        replacing(stem.with_suffix(".tar")) as path,
        tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, content in _members(pairs):
            member = tarfile.TarInfo(name)  # its owner and time are zero: the same bytes every day
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    table = pl.DataFrame(
        [pair.row for pair in pairs], schema_overrides={"error_message": pl.String}
    )
    with replacing(stem.with_suffix(".parquet")) as path:
        table.write_parquet(path)
    stats = dict.fromkeys(("count", "successes"), len(pairs))
    stats |= dict.fromkeys(("failed_to_download", "failed_to_resize"), 0)
    write_text(stem.with_name(f"{stem.name}_stats.json"), json.dumps(stats))


def _write_images(
    folder: Path, part: str, scans: Scans, contexts: NDArray[np.str_], *, seed: int
) -> dict[str, int]:
    """Write one picture a scan as ImageFolder; returns {relative path: scan}."""
    written = {}
    for index, pixels, digit, context in zip(
        scans.index.tolist(), scans.pixels, scans.digits.tolist(), contexts.tolist(), strict=True
    ):
        rng = np.random.default_rng([seed, 2, index, part == "holes"])
        path = f"images/{part}/{digit}/{index:04d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(_encode(show(context, pixels[None], rng), "PNG"))
        written[path] = index
    return written


def _leaks(count: int, tests: dict[str, int], rng: np.random.Generator) -> list[dict[str, Any]]:
    paths = sorted(tests)
    return [
        {
            "scan": tests[paths[where]],
            "digit": int(Path(paths[where]).parent.name),
            "context": PLAIN,
            "caption_kind": ("named", "context")[number % 2],
            "nsfw": False,
            "broken": None,
            "copy_of": paths[where],
            "copy_kind": COPIES[number % len(COPIES)],
        }
        for number, where in enumerate(rng.permutation(len(paths))[:count])
    ]


def _shown(
    context: str, count: int, upstream: Scans, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """`count` rows of one context; every scan comes once before any comes twice."""
    missing = [digit for digit, where in HOLES if where == context]
    allowed = np.flatnonzero(~np.isin(upstream.digits, missing))
    rounds = -(-count // len(allowed))
    chosen = np.concatenate([rng.permutation(allowed) for _ in range(rounds)])[:count]
    kinds = _deal(JUNK_KINDS if context == JUNK else KINDS, count, rng)
    empty = context == JUNK
    return [
        {
            "scan": None if empty else int(upstream.index[row]),
            "digit": None if empty else int(upstream.digits[row]),
            "context": context,
            "caption_kind": kind,
        }
        for row, kind in zip(chosen, kinds, strict=True)
    ]


def _deal(shares: dict[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """`count` names in these shares as exactly as possible, shuffled."""
    cuts = np.rint(np.cumsum(list(shares.values())) * count).astype(int)
    sizes = np.diff(cuts, prepend=0)
    names = np.repeat(list(shares), sizes)
    return [str(name) for name in rng.permutation(names)]


def _flawed(
    rows: list[dict[str, Any]], pairs: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Flag some rows as NSFW and break the images of others; leaks stay whole, to be counted."""
    order = rng.permutation(len(rows))
    flagged = set(order[: round(pairs * FLAGGED)].tolist())
    faults = order[len(flagged) : len(flagged) + round(pairs * FAULTS)].tolist()
    broken = {row: BROKEN[number % len(BROKEN)] for number, row in enumerate(faults)}
    return [
        {**row, "nsfw": i in flagged, "broken": broken.get(i), "copy_of": None, "copy_kind": None}
        for i, row in enumerate(rows)
    ]


def _drawn(row: dict[str, Any], upstream: Scans, rng: np.random.Generator) -> tuple[bytes, int]:
    size = int(rng.integers(28, 45))
    rows = rng.integers(len(upstream), size=SEVERAL)
    if row["scan"] is not None:
        rows[0] = np.flatnonzero(upstream.index == row["scan"])[0]
    image = show(row["context"], upstream.pixels[rows], rng, size=size)
    return _encode(image, "JPEG", rng), size


def _copied(row: dict[str, Any], folder: Path, rng: np.random.Generator) -> tuple[bytes, int]:
    """A leak: the test image's own bytes, or the image saved again, or cropped and saved again."""
    original = (folder / row["copy_of"]).read_bytes()
    image = Image.open(io.BytesIO(original)).convert("RGB")
    if row["copy_kind"] == "exact":
        return original, image.width
    if row["copy_kind"] == "cropped":
        side = image.width - int(rng.integers(1, 3))
        left, top = (int(edge) for edge in rng.integers(0, image.width - side + 1, 2))
        image = image.crop((left, top, left + side, top + side))
    else:
        side = int(rng.integers(30, 41))
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return _encode(np.asarray(image), "JPEG", rng), side


def _damaged(image: bytes, broken: str | None) -> bytes:
    harm = {
        None: image,
        "truncated": image[: len(image) // 3],
        "empty": b"",
        "text": b"<html><body>404 Not Found</body></html>",
    }
    return harm[broken]


def _encode(image: Pixels, kind: str, rng: np.random.Generator | None = None) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": int(rng.integers(72, 96))} if rng else {}
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _members(pairs: list[Pair]) -> Iterator[tuple[str, bytes]]:
    for row, image in pairs:
        yield f"{row['key']}.jpg", image
        yield f"{row['key']}.txt", row["caption"].encode()
        yield f"{row['key']}.json", json.dumps(row).encode()
