"""Which of a class's captions are shown, and how: drawn by hash, cut around the match.

A hash of class, shard and row orders the captions of a class at random, the same in every run and
for any number of workers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONTEXT = 90  # characters kept on each side of a match
LONGEST = 160  # characters kept of a match
ROOM = 4 * (CONTEXT + 1)  # bytes that hold one character more than CONTEXT, whatever it is


def scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes uniform over 64 bits: the output function of splitmix64.

    Example:
        >>> scramble(np.arange(2, dtype=np.uint64)).tolist()
        [0, 6238072747940578789]
    """
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return scrambled


def cut_caption(caption: bytes, start: int, end: int) -> tuple[str, str, str]:
    """What stands before a match, the match, and what stands behind, each cut to a line.

    Args:
        caption: in UTF-8; it may lack what lies more than ROOM bytes before or behind the match.
        start, end: the match, in bytes.

    Example:
        >>> cut_caption(b"a ripe fig on a plate", 7, 10)
        ('a ripe ', 'fig', ' on a plate')
        >>> before, match, after = cut_caption(b"x" * 500 + b" fig", 501, 504)
        >>> before[:3], len(before), match
        ('…xx', 91, 'fig')
    """
    parts = caption[max(start - ROOM, 0) : start], caption[start:end], caption[end : end + ROOM]
    before, match, after = (part.decode(errors="ignore") for part in parts)
    if len(before) > CONTEXT:
        before = "…" + before[-CONTEXT:]
    if len(match) > LONGEST:
        match = match[: LONGEST // 2] + " … " + match[-LONGEST // 2 :]
    if len(after) > CONTEXT:
        after = after[:CONTEXT] + "…"
    return before, match, after
