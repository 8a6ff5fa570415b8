"""Evaluation: predictions first, then every number from them.

`predictions_table` turns scores into one row an image; a metric is a function from such a table to
a number, and `METRICS` lists them. Whoever has the table can compute any other metric later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from headwater.errors import InputError

SCHEMA = {
    "id": pl.String,
    "label": pl.String,  # the truth; null where nobody knows it
    "predicted": pl.String,
    "score": pl.Float32,  # softmax confidence in the predicted class
    "rank": pl.Int32,  # place of the true label among all classes, 1 is best; null without a label
}


def predictions_table(
    ids: Sequence[str],
    labels: Sequence[str] | None,
    scores: npt.ArrayLike,
    class_labels: Sequence[str],
) -> pl.DataFrame:
    """One row an image: id, label, predicted, score, rank.

    Args:
        ids: (n,) what the images are called.
        labels: (n,) their true labels; None if they are not known.
        scores: (n, classes) logits. Of equal ones the first class wins.
        class_labels: (classes,) the label of every column.

    Raises:
        InputError: lengths that differ, a label no class has, or scores that are not finite.

    Example:
        >>> scores = [[0.0, 2.0], [0.0, 1.0]]
        >>> table = predictions_table(["a", "b"], ["fern", "rose"], scores, ["rose", "fern"])
        >>> table.select("predicted", "rank").rows()
        [('fern', 1), ('fern', 2)]
    """
    logits = np.asarray(scores, np.float64)
    _check(ids, labels, logits, class_labels)
    best = logits.argmax(axis=1) if len(logits) else np.zeros(0, np.int64)
    columns = {
        "id": list(ids),
        "label": list(labels) if labels is not None else [None] * len(ids),
        "predicted": [class_labels[column] for column in best],
        "score": _confidence(logits),
        "rank": _ranks(logits, labels, class_labels) if labels is not None else [None] * len(ids),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def accuracy(predictions: pl.DataFrame) -> float:
    """Share of images whose label is predicted (top-1).

    Example:
        >>> accuracy(predictions_table(["a", "b"], ["x", "y"], [[1, 0], [1, 0]], ["x", "y"]))
        0.5
    """
    return _mean(predictions, pl.col("rank") == 1)


def top5(predictions: pl.DataFrame) -> float:
    """Share of images whose label is among the five best scored; 1 for five classes or fewer."""
    return _mean(predictions, pl.col("rank") <= 5)


def mean_per_class(predictions: pl.DataFrame) -> float:
    """Mean over classes of the accuracy within a class: every class counts the same."""
    return float(per_class(predictions)["accuracy"].to_numpy().mean())


def worst_class(predictions: pl.DataFrame) -> float:
    """Accuracy within the class that fares worst."""
    return float(per_class(predictions)["accuracy"].to_numpy().min())


METRICS: dict[str, Callable[[pl.DataFrame], float]] = {
    "top1": accuracy,
    "top5": top5,
    "mean_per_class": mean_per_class,
    "worst_class": worst_class,
}


def measure(predictions: pl.DataFrame) -> dict[str, float]:
    """Every metric of `METRICS`, from 0 to 1.

    Raises:
        InputError: no images, or images without labels.

    Example:
        >>> measure(predictions_table(["a", "b"], ["x", "y"], [[1, 0], [1, 0]], ["x", "y"]))
        {'top1': 0.5, 'top5': 1.0, 'mean_per_class': 0.5, 'worst_class': 0.0}
    """
    return {name: metric(predictions) for name, metric in METRICS.items()}


def per_class(predictions: pl.DataFrame) -> pl.DataFrame:
    """Accuracy of every class that has images: label, images, accuracy, sorted by label.

    Example:
        >>> half = predictions_table(["a", "b"], ["x", "x"], [[1, 0], [0, 1]], ["x", "y"])
        >>> per_class(half).rows()
        [('x', 2, 0.5)]
    """
    _require_labels(predictions)
    return (
        predictions.group_by("label")
        .agg(images=pl.len(), accuracy=(pl.col("rank") == 1).mean())
        .sort("label")
    )


def bootstrap_interval(
    predictions: pl.DataFrame, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of top-1 accuracy, the images drawn anew with replacement.

    Of n images drawn with replacement the number of right ones is binomial, so that is what is
    drawn. The interval is for these weights; seeds and arms are compared in compare.py.

    Example:
        >>> half = predictions_table(list("abcd"), list("xyxy"), [[1, 0]] * 4, ["x", "y"])
        >>> bootstrap_interval(half)
        (0.0, 1.0)
    """
    right, n = accuracy(predictions), len(predictions)
    draws = np.random.default_rng(seed).binomial(n, right, resamples) / n
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _mean(predictions: pl.DataFrame, right: pl.Expr) -> float:
    _require_labels(predictions)
    return float(predictions.select(right).to_series().to_numpy().mean())


def _require_labels(predictions: pl.DataFrame) -> None:
    unlabelled = predictions["rank"].null_count()
    if predictions.is_empty() or unlabelled:
        raise InputError(
            "nothing to measure against",
            expected="images with labels",
            seen=f"{unlabelled:,} of {len(predictions):,} without" if unlabelled else "no images",
        )


def _confidence(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    best = logits.max(axis=1, keepdims=True)
    confidence: npt.NDArray[np.float64] = 1 / np.exp(logits - best).sum(axis=1)
    return confidence


def _ranks(
    logits: npt.NDArray[np.float64], labels: Sequence[str], class_labels: Sequence[str]
) -> npt.NDArray[np.int64]:
    column = {label: index for index, label in enumerate(class_labels)}
    truth = np.array([column[label] for label in labels], np.int64)
    own = np.take_along_axis(logits, truth[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < truth[:, None]
    ahead = (logits > own) | ((logits == own) & earlier)  # as argmax settles a tie
    ranks: npt.NDArray[np.int64] = ahead.sum(axis=1) + 1
    return ranks


def _check(
    ids: Sequence[str],
    labels: Sequence[str] | None,
    logits: npt.NDArray[np.float64],
    class_labels: Sequence[str],
) -> None:
    shape, labelled = (len(ids), len(class_labels)), len(ids if labels is None else labels)
    if logits.shape != shape or not len(class_labels) or labelled != len(ids):
        raise InputError(
            "predictions",
            expected=f"scores {shape} and {len(ids):,} labels",
            seen=f"scores {logits.shape} and {labelled:,} labels",
        )
    if not np.isfinite(logits).all():
        raise InputError("predictions", expected="finite scores", seen="NaN or infinity")
    if strange := sorted(set(() if labels is None else labels) - set(class_labels)):
        raise InputError("unknown label", expected=f"one of {len(class_labels):,}", seen=strange[0])
