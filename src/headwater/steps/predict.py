"""`predict`: the label and confidence of every image in a folder, by an adapted model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from headwater.clip import load_clip, load_head
from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError, InputError
from headwater.progress import track
from headwater.splits import image_files

BATCH = 256  # images in memory at a time


def predict(model: Path, folder: Path) -> pl.DataFrame:
    """Predict every image below a folder.

    Args:
        model: a model folder with a head, as `adapt` leaves it.
        folder: images, at any depth.

    Returns:
        One row an image: path (inside the folder), label, confidence, and `problem` where the
        image cannot be decoded and the other two are null.

    Raises:
        ModelError: no model, or one without a head.
        InputError: no images.
    """
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise InputError(f"no images in {folder}", expected="a folder with images", seen="none")
    clip = load_clip(model)
    head, labels = load_head(model)
    rows: list[tuple[str, str | None, float | None, str | None]] = []
    for start in track(range(0, len(files), BATCH), label="predicting"):
        batch = files[start : start + BATCH]
        images, problems = decode_all(batch)
        scores = iter(clip.encode_images(images) @ head.T if images else [])
        for path, problem in zip(batch, problems, strict=True):
            name = path.relative_to(folder).as_posix()
            if problem is None:
                best, confidence = most_likely(next(scores))
                rows.append((name, labels[best], confidence, None))
            else:
                rows.append((name, None, None, problem))
    schema = {"path": pl.String, "label": pl.String, "confidence": pl.Float64, "problem": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def most_likely(logits: np.ndarray) -> tuple[int, float]:
    """The class with the highest logit, and its softmax probability.

    Example:
        >>> most_likely(np.array([0.0, 0.0]))
        (0, 0.5)
    """
    odds = np.exp(logits - logits.max(), dtype=np.float64)
    return int(logits.argmax()), round(float(odds.max() / odds.sum()), 6)


def decode_all(files: list[Path]) -> tuple[list[Image8], list[str | None]]:
    """The images that can be decoded, and for every file why it cannot be (None: it can)."""
    images, problems = [], list[str | None]()
    for path in files:
        try:
            images.append(decode_rgb(path.read_bytes()))
            problems.append(None)
        except DecodeError as error:
            problems.append(str(error))
    return images, problems
