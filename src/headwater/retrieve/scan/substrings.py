"""Substrings in captions, letter by letter but for case: the scan behind mode "substring"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from headwater.retrieve.scan.hits import Hits
from headwater.retrieve.scan.tokens import fold_case

_OFFSETS = pl.List(pl.Int64)


class SubstringFinder:
    """Finds every place where one of some texts stands, case aside.

    Args:
        texts: distinct, folded by `fold_case`.

    Example:
        >>> hits = SubstringFinder(["fig", "éclair"]).hits(pl.Series(["a FIGURE", "Éclair"]))
        >>> [array.tolist() for array in hits]
        [[0, 1], [0, 1], [2, 0], [5, 7]]
    """

    block_bytes = 1 << 22  # polars makes its automaton anew for each block

    def __init__(self, texts: Sequence[str]) -> None:
        self._number = {text: i for i, text in enumerate(texts)}

    def hits(self, captions: pl.Series) -> Hits:
        """Hits in a block of captions without nulls."""
        texts = list(self._number)
        found = (
            pl.DataFrame({"row": np.arange(len(captions)), "caption": captions})
            .with_columns(folded=_fold_case(captions))
            .filter(pl.col("folded").str.contains_any(texts))
            .with_columns(
                text=pl.col("folded").str.extract_many(texts, overlapping=True),
                start=pl.col("folded").str.find_many(texts, overlapping=True).cast(_OFFSETS),
            )
            .explode("text", "start")
            .with_columns(end=pl.col("start") + pl.col("text").str.len_bytes())
        )
        number = found["text"].replace_strict(self._number, return_dtype=pl.Int64)
        spans = _unfold(found)
        parts = (found["row"], number, spans["start"], spans["end"])
        return Hits(*(part.cast(pl.Int64).to_numpy() for part in parts))


def _fold_case(captions: pl.Series) -> pl.Series:
    plain = captions.str.len_bytes() == captions.str.len_chars()
    if plain.all():
        return captions.str.to_lowercase()
    return pl.Series([fold_case(caption) for caption in captions], dtype=pl.String)


def _unfold(hits: pl.DataFrame) -> pl.DataFrame:
    """Offsets in the folded captions turned into offsets in the captions themselves."""
    moved = hits["caption"].str.len_bytes() != hits["caption"].str.len_chars()
    if not moved.any():
        return hits
    texts = zip(hits["caption"], hits["folded"], strict=True)
    both = list(zip(texts, hits["start"], hits["end"], strict=True))
    return hits.with_columns(
        start=pl.Series(
            [_original_offset(*text, start) for text, start, _ in both], dtype=pl.Int64
        ),
        end=pl.Series([_original_offset(*text, end) for text, _, end in both], dtype=pl.Int64),
    )


def _original_offset(caption: str, folded: str, offset: int) -> int:
    characters = len(folded.encode()[:offset].decode())
    return len(caption[:characters].encode())
