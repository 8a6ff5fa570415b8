"""Which rows the pool itself tags as unsafe for work.

Only reads a pool's own column (`NSFW`, `nsfw`, `punsafe`: see ../pool.py); looks at no image.
"""

from __future__ import annotations

import polars as pl

from headwater.errors import InputError

UNSAFE = ("NSFW", "LIKELY", "VERY_LIKELY", "UNSAFE", "TRUE")
"""Tags that mean unsafe, in any case. LAION writes UNLIKELY, UNSURE or NSFW; others are safe-search
likelihoods and booleans written out. UNSURE and any other word stay, as in the paper's code."""

CUT = 0.5
"""A probability above this is unsafe: LAION's own rule for `punsafe`."""


def unsafe_rows(tags: pl.Series, *, above: float = CUT) -> pl.Series:
    """Which rows are tagged unsafe: bool, no nulls.

    Strings are unsafe if in `UNSAFE`, or if they spell a number above `above`; booleans if true;
    numbers, taken as the probability of being unsafe, if above `above`. A missing tag (null, NaN)
    is not unsafe: nobody looked.

    Raises:
        InputError: the column holds none of these.

    Example:
        >>> unsafe_rows(pl.Series(["UNLIKELY", "UNSURE", "nsfw", None])).to_list()
        [False, False, True, False]
        >>> unsafe_rows(pl.Series([0.02, 0.3, 0.97]), above=0.2).to_list()
        [False, True, True]
    """
    return _judge(tags, above).fill_null(value=False).rename(tags.name)


def _judge(tags: pl.Series, above: float) -> pl.Series:
    if tags.dtype in (pl.String, pl.Categorical, pl.Enum):
        words = tags.cast(pl.String).str.strip_chars()
        numbers = words.cast(pl.Float64, strict=False)
        return words.str.to_uppercase().is_in(UNSAFE) | _exceeds(numbers, above).fill_null(
            value=False
        )
    if tags.dtype == pl.Boolean:
        return tags
    if tags.dtype.is_numeric():
        return _exceeds(tags.cast(pl.Float64), above)
    if tags.dtype == pl.Null:
        return pl.Series([False] * len(tags), dtype=pl.Boolean)
    raise InputError(
        "a safety column that cannot be read", expected="words, booleans or probabilities",
        seen=str(tags.dtype), do="Name the right column, or drop it from the pool.",
    )  # fmt: skip


def _exceeds(numbers: pl.Series, limit: float) -> pl.Series:
    return (numbers > limit) & numbers.is_not_nan()
