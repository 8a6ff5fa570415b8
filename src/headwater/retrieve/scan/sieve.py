"""A sieve in compiled code: lets through every caption that may hold a phrase, and few others.

It is one regular expression, the tree of how the phrases begin, so that its cost does not follow
their number. `phrases.py` searches exactly what passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

Phrase = tuple[bytes, ...]
Tree = dict[str, "Tree"]

# polars gives a regular expression 2 MB for its automaton, some 300 bytes a state. States that do
# not fit are made again and again, up to a hundred times slower; 5,000 places never did that.
PLACES = 5000
USEFUL = 8  # letters; shorter beginnings let most captions through
ENOUGH = 40  # letters; longer ones let hardly fewer through
END = "$"

_GAP = "[^0-9A-Za-z]+"
_EDGE = r"(?-u:\b)"
# "_" parts tokens but is part of a word for the regular expression; what is not ASCII may fold.
_LET_THROUGH = r"_|[\x{80}-\x{10FFFF}]"


class CaptionSieve:
    """Passes captions by how the phrases begin.

    Args:
        phrases: each a tuple of at least one folded token in UTF-8.

    Attributes:
        useful: False if there are so many phrases that too little of each fits.

    Example:
        >>> sieve = CaptionSieve([(b"tiger", b"shark"), (b"fig",)])
        >>> captions = ["Tiger -- SHARK", "tigers, sharks", "a fig", "figure", "café", "", None]
        >>> sieve.passing(pl.Series(captions)).to_list()
        [True, False, True, False, True, False, None]
    """

    def __init__(self, phrases: Sequence[Phrase], *, places: int = PLACES) -> None:
        texts = [b" ".join(phrase).decode() + END for phrase in phrases]
        texts = sorted({text for text in texts if text.isascii()})  # others fold from other letters
        longest = min(ENOUGH, max(map(len, texts), default=0))
        length = _longest_that_fits(texts, places, longest)
        self.useful = length >= min(USEFUL, longest)
        tree = _tree({text[:length] for text in texts})
        self._pattern = f"{_EDGE}{_pattern(tree)}|{_LET_THROUGH}" if tree else _LET_THROUGH
        if texts and not tree:
            self._pattern = ""  # nothing fits: everything passes

    def passing(self, captions: pl.Series) -> pl.Series:
        """Whether each caption passes; null stays null."""
        return captions.str.contains(self._pattern)


def _longest_that_fits(texts: list[str], places: int, longest: int) -> int:
    """How many letters of each text a tree of so many places can hold."""
    for length in range(1, longest + 1):
        places -= len({text[:length] for text in texts if len(text) >= length})
        if places < 0:
            return length - 1
    return longest


def _tree(beginnings: set[str]) -> Tree:
    root: Tree = {}
    for text in sorted(beginnings):
        node = root
        for letter in text:
            node = node.setdefault(letter, {})
    return root


def _pattern(tree: Tree) -> str:
    """The regular expression of a tree that has branches."""
    ways = [_letter(letter) + (_pattern(below) if below else "") for letter, below in tree.items()]
    return ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"


def _letter(letter: str) -> str:
    if letter == END:
        return _EDGE
    if letter == " ":
        return _GAP
    return f"[{letter}{letter.upper()}]" if letter.isalpha() else letter
