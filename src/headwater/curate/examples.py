"""Which pairs of a curated set a person should look at: what stays, and what only just went.

Of each class the best, the middle and the worst of those kept; of each gate those it dropped, the
nearest misses first. A page has room for so many pictures, so large tasks show fewer of each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

GROUP = ["label", "gate", "scored"]
"""A group: the pairs kept of a class (no gate), or those a gate dropped, with or without score."""


def group_fates(fates: pl.DataFrame, score_gates: Collection[str]) -> pl.DataFrame:
    """Pairs in groups, in the order in which they should be looked at.

    Args:
        fates: id, label, kept, step, score (that decided; null: none) and copy_similarity.
        score_gates: steps that drop by score.

    Returns:
        All columns, with `gate` (null: kept), `scored`, `place` in the group from 0, and the
        `size` of the group. Kept and low ones come by score, copies by similarity, others by id.

    Example:
        >>> fates = pl.DataFrame({"id": ["a", "b"], "label": "oak", "kept": True, "step": "aspect",
        ...     "score": [0.1, 0.9], "copy_similarity": 0.0})
        >>> group_fates(fates, ["aspect"]).select("id", "place", "size").rows()
        [('b', 0, 2), ('a', 1, 2)]
    """
    by_score = pl.col("kept") | pl.col("step").is_in(list(score_gates))
    low = ~pl.col("kept") & by_score
    return (
        fates.with_columns(
            gate=pl.when(~pl.col("kept")).then("step"),
            scored=pl.col("score").is_not_null() | ~low,
            value=pl.when(by_score)
            .then("score")
            .when(pl.col("step").str.starts_with("no_copy"))
            .then("copy_similarity"),
        )
        .sort(*GROUP, "value", "id", descending=[False] * 3 + [True, False], nulls_last=True)
        .with_columns(place=pl.int_range(pl.len()).over(GROUP), size=pl.len().over(GROUP))
        .drop("value")
    )


def choose_examples(grouped: pl.DataFrame, examples: int) -> pl.DataFrame:
    """The pairs to show, each with its `part`: best, middle, worst, or first.

    A group of kept pairs shows three times `examples`: all of it where that is enough.

    Example:
        >>> fates = pl.DataFrame({"id": list("abcdefg"), "label": "oak", "kept": True,
        ...     "step": "aspect", "score": [7.0, 6, 5, 4, 3, 2, 1], "copy_similarity": 0.0})
        >>> choose_examples(group_fates(fates, ["aspect"]), 1).select("id", "part").rows()
        [('a', 'best'), ('d', 'middle'), ('g', 'worst')]
    """
    place, size = pl.col("place").cast(pl.Int64), pl.col("size").cast(pl.Int64)
    many = pl.col("kept") & (size > 3 * examples) & pl.col("score").is_not_null()
    middle = (size - examples) // 2
    room = pl.when(pl.col("kept")).then(3 * examples).otherwise(examples)
    part = (
        pl.when(many & (place < examples))
        .then(pl.lit("best"))
        .when(many & place.is_between(middle, middle + examples, closed="left"))
        .then(pl.lit("middle"))
        .when(many & (place >= size - examples))
        .then(pl.lit("worst"))
        .when(~many & (place < room))
        .then(pl.lit("first"))
    )
    return grouped.with_columns(part=part).filter(pl.col("part").is_not_null())


def fit_examples(grouped: pl.DataFrame, examples: int, *, pictures: int) -> int:
    """The most examples a group, at most those asked, that a page has room for; at least 1.

    Example:
        >>> grouped = pl.DataFrame({"kept": [True, False], "place": [0, 0], "size": [50, 2]})
        >>> [fit_examples(grouped, 6, pictures=room) for room in (100, 11, 1)]
        [6, 3, 1]
    """
    sizes = grouped.filter(pl.col("place") == 0)
    for fewer in range(examples, 1, -1):
        room = pl.when(pl.col("kept")).then(3 * fewer).otherwise(fewer)
        if sizes.select(pl.min_horizontal("size", room).sum()).item() <= pictures:
            return fewer
    return 1


def fit_classes(chosen: pl.DataFrame, labels: Sequence[str], *, pictures: int) -> list[str]:
    """The first classes, in their order, whose examples a page has room for; one at least.

    Example:
        >>> fit_classes(pl.DataFrame({"label": ["oak", "elm", "elm", "fir"]}),
        ...     ["oak", "elm", "yew", "fir"], pictures=3)
        ['oak', 'elm', 'yew']
    """
    counts = dict(chosen.group_by("label").len().iter_rows())
    left, shown = pictures, list[str]()
    for label in labels:
        left -= counts.get(label, 0)
        if left < 0 and shown:
            break
        shown.append(label)
    return shown
