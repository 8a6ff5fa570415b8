"""What neighbors are asked with: vectors with a name and a class, however they came about.

Each prompt by itself, one mean a class, or example images of the class; `neighbors.py` takes them
all alike. Nothing here knows a model: features come encoded, by the one that embedded the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import InputError


class Queries(NamedTuple):
    """Vectors to search with.

    features: (q, d) floats, L2-normalized if scores are to be cosines.
    names: (q,) what stands in the records, such as the prompt.
    labels: (q,) the class of each; a class may have any number.
    """

    features: NDArray[Any]
    names: Sequence[str]
    labels: Sequence[str]

    def by_label(self) -> dict[str, list[int]]:
        """The places of each class's queries, classes in the order in which they first appear."""
        places: dict[str, list[int]] = {}
        for place, label in enumerate(self.labels):
            places.setdefault(label, []).append(place)
        return places


def average_queries(queries: Queries) -> Queries:
    """One query a class: the normalized mean of its normalized features.

    Args:
        queries: of any kind.

    Returns:
        (classes, d) float64, in the order in which labels first appear; the name tells of how many
        it is the mean, and the first of them.

    Raises:
        InputError: features out of step or not finite, or a class whose features cancel out.

    Example:
        >>> prompts = Queries(np.array([[1.0, 0.0], [0.0, 2.0]]), ["a rose", "roses"], ["rose"] * 2)
        >>> mean = average_queries(prompts)
        >>> mean.features.round(3).tolist(), mean.names, mean.labels
        ([[0.707, 0.707]], ['mean of 2: a rose, ...'], ['rose'])
    """
    unit = _unit(queries.features, queries.names, queries.labels)
    own = queries.by_label()
    means = np.array([unit[numbers].mean(axis=0) for numbers in own.values()])
    names = [_mean_name([queries.names[number] for number in numbers]) for numbers in own.values()]
    return Queries(_normalize(means.reshape(len(own), unit.shape[1]), names), names, list(own))


def example_queries(
    features: NDArray[Any], labels: Sequence[str], *, names: Sequence[str] | None = None
) -> Queries:
    """One query an example image.

    Args:
        features: (n, d) floats, the encoded examples.
        labels: (n,) the class of each.
        names: (n,) such as file names; by default the example's number within its class.

    Returns:
        (n, d) float64, L2-normalized; `average_queries` of it makes them one a class.

    Raises:
        InputError: features out of step, not finite, or all zero.

    Example:
        >>> asked = example_queries(np.array([[3.0, 4.0], [0.0, 2.0]]), ["rose", "rose"])
        >>> asked.features.tolist(), asked.names
        ([[0.6, 0.8], [0.0, 1.0]], ['example 1 of rose', 'example 2 of rose'])
    """
    if names is None:
        counts = dict.fromkeys(labels, 0)
        names = []
        for label in labels:
            counts[label] += 1
            names.append(f"example {counts[label]} of {label}")
    return Queries(_unit(features, names, labels), names, labels)


def _mean_name(names: list[str]) -> str:
    return f"mean of {len(names)}: {names[0]}, ..." if len(names) > 1 else names[0]


def _unit(
    features: NDArray[Any], names: Sequence[str], labels: Sequence[str]
) -> NDArray[np.float64]:
    if features.ndim != 2 or not len(features) == len(names) == len(labels):
        seen = f"features {features.shape}, {len(names)} names, {len(labels)} labels"
        raise InputError("queries out of step", expected="a name and a label each", seen=seen)
    return _normalize(np.asarray(features, dtype=np.float64), names)


def _normalize(vectors: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 1e-9))[:, 0])
    if len(bad):
        raise InputError(
            "a query without a direction", expected="finite features that do not cancel out",
            seen=f"{names[bad[0]]!r} of length {lengths[bad[0], 0]:g}",
        )  # fmt: skip
    unit: NDArray[np.float64] = vectors / lengths
    return unit
