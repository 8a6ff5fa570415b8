"""Substrings in captions, letter by letter but for case: the scan behind mode "substring"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import polars as pl

from headwater.retrieve.scan.hits import Hits, first_hits_of
from headwater.retrieve.scan.tokens import Ints, fold_case, utf8_bytes

WINDOW = 1 << 20
"""Characters of which every hit is held at once; longer captions are searched piece by piece."""


class SubstringFinder:
    """Finds where each of some texts stands first, case aside.

    Args:
        texts: distinct, folded by `fold_case`.

    Example:
        >>> hits = SubstringFinder(["fig", "éclair"]).hits(pl.Series(["a FIGURE", "Éclair"]))
        >>> [array.tolist() for array in hits]
        [[0, 1], [0, 1], [2, 0], [5, 7]]
    """

    block_bytes = 1 << 22  # polars makes its automaton anew for each block

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)
        self._number = {text: i for i, text in enumerate(texts)}
        self._size = np.array([len(text) for text in texts], dtype=np.int64)  # characters

    def hits(self, captions: pl.Series) -> Hits:
        """The first hit of each text in each caption of a block without nulls."""
        block = pl.DataFrame({"row": np.arange(len(captions)), "caption": captions})
        is_ascii = captions.str.len_bytes() == captions.str.len_chars()
        plain, others = block.filter(is_ascii), block.filter(~is_ascii)
        lower = plain["caption"].str.to_lowercase()
        folded = pl.Series([fold_case(caption) for caption in others["caption"]], dtype=pl.String)
        found = chain(self._in_block(plain, lower), self._in_block(others, folded))
        return first_hits_of(found, len(self._texts))

    def _in_block(self, block: pl.DataFrame, folded: pl.Series) -> Iterator[Hits]:
        """Hits in captions, looked for where anything stands at all, a window at a time."""
        passing = folded.str.contains_any(self._texts)
        block, folded = block.filter(passing), folded.filter(passing)
        row = block["row"].to_numpy()
        length = block["caption"].str.len_bytes().to_numpy().astype(np.int64)
        first = np.cumsum(length + 1) - length - 1  # one byte parts two captions
        for number, start, end in self._in_text(_joined(block["caption"]), _joined(folded)):
            nth = np.searchsorted(first, start, side="right") - 1
            inside = np.flatnonzero(end <= (first + length)[nth])
            hits = Hits(row[nth], number, start - first[nth], end - first[nth])
            yield hits.where(inside)

    def _in_text(self, text: str, folded: str) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Number of the text, and bytes of `text`; twice where two windows share a hit."""
        longest, passed = int(self._size.max()), 0
        step = max(WINDOW, longest)
        for at in range(0, len(text), step):
            window = slice(at, at + step + longest - 1)
            number, start = self._in_window(folded[window])
            before = passed + _bytes_before(text[window])
            yield number, before[start], before[start + self._size[number]]
            passed = int(before[min(step, len(before) - 1)])

    def _in_window(self, folded: str) -> tuple[Ints, Ints]:
        """Every hit in a text: number, and characters before it."""
        text = pl.Series([folded])
        found = text.str.extract_many(self._texts, overlapping=True).explode().drop_nulls()
        offset = text.str.find_many(self._texts, overlapping=True).explode().drop_nulls()
        number = found.replace_strict(self._number, return_dtype=pl.Int64).to_numpy()
        return number, np.searchsorted(_bytes_before(folded), offset.to_numpy())


def _joined(texts: pl.Series) -> str:
    return str(texts.str.join("\n").item() or "")


def _bytes_before(text: str) -> Ints:
    """(characters + 1,) the bytes in UTF-8 before each character, and of all."""
    if text.isascii():
        return np.arange(len(text) + 1)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    return np.concatenate([[0], np.cumsum(utf8_bytes(codes), dtype=np.int64)])
