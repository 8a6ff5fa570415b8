"""How well each image fits its texts: CLIP similarity to those of its class, or to its caption.

The features come from ../clip; scoring.py makes score columns of this, select.py keeps the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.errors import InputError

Floats = NDArray[np.float32]


def class_scores(
    image_features: ArrayLike,
    labels: ArrayLike,
    text_features: ArrayLike,
    *,
    aggregate: Literal["mean", "max"] = "mean",
) -> Floats:
    """Cosine similarity of each image to the texts of its own class.

    Args:
        image_features: (n, d); need not be normalized.
        labels: (n,) which class each image is scored against, an index into `text_features`.
        text_features: (classes, templates, d), one row a prompt; *not* normalized where `mean` is
            to weigh templates as the paper's code does.
        aggregate: `mean` compares with the normalized mean of the class's features as they are
            (the paper's code); `max` takes the best cosine over templates (the paper's text).

    Returns:
        (n,) float32 in -1..1; NaN where the image or its class has a zero or NaN feature.

    Raises:
        InputError: shapes that do not belong together, a label without a class, or an unknown
            `aggregate`.

    Example:
        >>> texts = [[[1.0, 0.0], [0.0, 1.0]]]  # one class, two templates
        >>> class_scores([[2.0, 0.0]], [0], texts).round(3).tolist()
        [0.7070000171661377]
        >>> class_scores([[2.0, 0.0]], [0], texts, aggregate="max").tolist()
        [1.0]
    """
    images = np.asarray(image_features, np.float32)
    texts = np.asarray(text_features, np.float32)
    classes = np.asarray(labels)
    _check(images, classes, texts, aggregate)
    scores = np.full(len(images), np.nan, np.float32)
    found, counts = np.unique(classes, return_counts=True)
    grouped = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    for label, rows in zip(found.tolist(), grouped[: len(found)], strict=True):
        directions = _directions(texts[label], aggregate)
        scores[rows] = (_unit(images[rows]) @ directions.T).max(axis=1)
    return scores


def caption_scores(
    image_features: ArrayLike,
    captions: Sequence[str | None],
    encode_texts: Callable[[list[str]], Floats],
) -> Floats:
    """Cosine similarity of each image to its own caption.

    Args:
        image_features: (n, d); need not be normalized.
        captions: (n,); None or blank where a pair has none. Equal ones are encoded once.
        encode_texts: texts to features (n, d), of the model that saw the images.

    Returns:
        (n,) float32 in -1..1; NaN where there is no caption, or a zero or NaN feature.

    Raises:
        InputError: images and captions differ in number.

    Example:
        >>> encode = lambda texts: np.array([[len(text), 0.0] for text in texts], np.float32)
        >>> caption_scores([[1.0, 0.0], [3.0, 4.0], [1.0, 0.0]], ["a", "b", None], encode).tolist()
        [1.0, 0.6000000238418579, nan]
    """
    images = np.asarray(image_features, np.float32)
    if len(images) != len(captions):
        seen = f"{len(images)} and {len(captions)}"
        raise InputError("every image needs a caption or None", expected="as many", seen=seen)
    told = dict.fromkeys(c for c in captions if c is not None and c.strip())
    scores = np.full(len(images), np.nan, np.float32)
    if told:
        place = {caption: i for i, caption in enumerate(told)}
        rows = np.array([i for i, caption in enumerate(captions) if caption in place])
        texts = _unit(np.asarray(encode_texts(list(place)), np.float32))
        theirs = texts[[place[str(captions[i])] for i in rows]]
        scores[rows] = np.einsum("nd,nd->n", _unit(images[rows]), theirs)
    return scores


def _directions(texts: Floats, aggregate: str) -> Floats:
    """What a class is compared with, from its texts (templates, d): (1 or templates, d), unit."""
    return _unit(texts.mean(axis=0, keepdims=True) if aggregate == "mean" else texts)


def _unit(rows: Floats) -> Floats:
    """Rows of length one; a zero or non-finite row becomes NaN."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def _check(images: Floats, classes: NDArray[Any], texts: Floats, aggregate: str) -> None:
    if aggregate not in ("mean", "max"):
        raise InputError(
            "unknown way to aggregate templates", expected="mean or max", seen=aggregate
        )
    shapes = f"{images.shape}, {classes.shape} and {texts.shape}"
    fits = (images.ndim, classes.ndim, texts.ndim) == (2, 1, 3)
    if not fits or len(images) != len(classes) or images.shape[1] != texts.shape[2]:
        raise InputError(
            "features and labels do not belong together",
            expected="images (n, d), labels (n,) and texts (classes, templates, d)",
            seen=shapes,
        )
    if not texts.shape[1]:
        raise InputError("a class needs at least one text", expected="templates >= 1", seen=shapes)
    if classes.size and not np.issubdtype(classes.dtype, np.integer):
        raise InputError(
            "labels are indices of classes", expected="integers", seen=str(classes.dtype)
        )
    if classes.size and not 0 <= classes.min() <= classes.max() < len(texts):
        raise InputError(
            "a label has no class",
            expected=f"0 to {len(texts) - 1}",
            seen=f"{classes.min()} to {classes.max()}",
        )
