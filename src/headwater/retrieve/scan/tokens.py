"""Captions as folded tokens, as SQLite's FTS5 (`unicode61 remove_diacritics 2`) sees them.

Letters, numbers and private-use characters make tokens; a mark inside a token continues it and is
dropped; case and the diacritics of Latin letters are folded. All captions of a block are cut at
once, as arrays over their joined text, so that nothing here loops over captions. `phrases.py`
searches the tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.uint32]

SEPARATOR = 0x20
MARK = 0x01  # a control character, so no token holds it
UNKNOWN = 0xFFFFFFFF

CHUNK = 8  # bytes of a token compared at once, as one integer
_EACH_BYTE = 0x0101010101010101
_FIRST_BYTES = np.array([(1 << (8 * n)) - 1 for n in range(CHUNK + 1)], dtype=np.uint64)
_FOLD_ASCII = bytes(ord(chr(c).lower()) if chr(c).isalnum() and c < 128 else 32 for c in range(256))


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of some captions, in reading order.

    Attributes:
        text: the folded captions in UTF-8; tokens are separated by at least one space.
        at, to: (tokens,) where each token begins and ends in `text`.
        start, end: (tokens,) the same in the original captions, joined.
        first: (captions,) where each caption begins in the original captions, joined.
    """

    text: bytes
    at: Ints
    to: Ints
    start: Ints
    end: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.at)

    def rows(self, which: Ints) -> Ints:
        """The caption that each of the tokens `which` stands in, counted from 0."""
        return np.searchsorted(self.first, self.start[which], side="right") - 1

    def chunks(self, which: Ints, number: int) -> NDArray[np.uint64]:
        """Bytes 8 * number up to 8 * number + 8 of each token, as integers, zero past its end.

        A token has no zero byte, so its chunks together with their number are the token.
        """
        at = self.at.take(which) + CHUNK * number
        left = np.clip(self.to.take(which) - at, 0, CHUNK)
        chunks: NDArray[np.uint64] = self._windows()[at]
        chunks &= _FIRST_BYTES.take(left)
        return chunks

    def beginnings(self) -> NDArray[np.uint64]:
        """`chunks` number 0 of all tokens, faster.

        All in registers, without `to`: a byte of `odd` is zero where a space stands, and the
        highest bit of the lowest such byte is the lowest bit of `space`.
        """
        beginnings: NDArray[np.uint64] = self._windows()[self.at]
        odd = beginnings ^ np.uint64(SEPARATOR * _EACH_BYTE)
        space = odd - np.uint64(_EACH_BYTE)
        space &= ~odd
        space &= np.uint64(0x80 * _EACH_BYTE)
        space &= -space
        space >>= np.uint64(7)
        space -= np.uint64(1)
        beginnings &= space
        return beginnings

    def _windows(self) -> NDArray[np.uint64]:
        """The eight bytes from each place of the text on, as integers."""
        shape = (len(self.text) - CHUNK + 1,)
        return np.ndarray(shape, dtype="<u8", buffer=self.text, strides=(1,))


def cut(captions: pl.Series, size: int) -> list[slice]:
    """Consecutive rows in parts alike in bytes of text, about `size` at most, or one row.

    Example:
        >>> cut(pl.Series(["rose", "tulip", None, "fig"]), 8)
        [slice(0, 1, None), slice(1, 4, None)]
    """
    after = captions.str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum().to_numpy()
    total = int(after[-1]) if len(after) else 0
    parts = -(-total // size)
    inner = np.searchsorted(after, np.arange(1, parts) * (total / max(parts, 1)), side="right")
    cuts = [0, *inner.tolist(), len(captions)]
    return [slice(start, stop) for start, stop in pairwise(cuts) if stop > start]


def split_words(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The folded tokens of each text; for a few texts, such as queries.

    Example:
        >>> split_words(["F-16A/B", "Rosé", "?"])
        [('f', '16a', 'b'), ('rose',), ()]
    """
    tokens = tokenize(pl.Series(texts, dtype=pl.String))
    words: list[list[str]] = [[] for _ in texts]
    rows = tokens.rows(np.arange(len(tokens)))
    for row, at, to in zip(rows.tolist(), tokens.at, tokens.to, strict=True):
        words[row].append(tokens.text[at:to].decode())
    return [tuple(each) for each in words]


def tokenize(captions: pl.Series) -> Tokens:
    """Cut captions into folded tokens.

    Captions that are all ASCII take a path several times faster; sort them apart beforehand.

    Args:
        captions: strings without nulls.

    Example:
        >>> tokens = tokenize(pl.Series(["Café: a rosé", "F-16A/B"]))
        >>> [tokens.text[a:b].decode() for a, b in zip(tokens.at, tokens.to)]
        ['cafe', 'a', 'rose', 'f', '16a', 'b']
        >>> tokens.rows(np.arange(6)).tolist()
        [0, 0, 0, 1, 1, 1]
    """
    lengths = captions.str.len_bytes().to_numpy().astype(np.int64)
    first = np.cumsum(lengths + 1) - lengths  # each caption comes after one separator
    joined = captions.str.join("\n").item() or ""
    if joined.isascii():
        return _tokenize_ascii(joined.encode(), first)
    return _tokenize_unicode(np.frombuffer(joined.encode("utf-32-le"), dtype="<u4"), first)


def _tokenize_ascii(joined: bytes, first: Ints) -> Tokens:
    text = b" " + joined.translate(_FOLD_ASCII) + b" " * CHUNK
    at, to = _runs(np.frombuffer(text, dtype=np.uint8) != SEPARATOR)
    return Tokens(text, at, to, at, to, first)


def _tokenize_unicode(joined: Codes, first: Ints) -> Tokens:
    edge = np.array([SEPARATOR], dtype=np.uint32)
    codes = np.concatenate([edge, joined, edge])
    folded = _fold(codes)
    mark = folded == MARK
    begins, ends = _runs(_inside(folded, mark))
    kept = np.where(mark, 0, utf8_bytes(folded))
    text = folded[~mark].tobytes().decode("utf-32-le").encode() + b" " * CHUNK
    return Tokens(
        text,
        *_positions(kept, begins, ends),
        *_positions(utf8_bytes(codes), begins, ends),
        first,
    )


def _inside(folded: Codes, mark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True for the characters of tokens: a mark belongs to what stands before it."""
    solid: NDArray[np.bool_] = (folded != SEPARATOR) & ~mark
    if not mark.any():
        return solid
    carrier = np.maximum.accumulate(np.where(mark, 0, np.arange(len(folded))))
    inside: NDArray[np.bool_] = solid[carrier]
    return inside


def _runs(inside: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Begin and end of each run of True in an array that begins and ends with False."""
    # Two passes are faster than one for both and its halves: their branches are foreseen better.
    begins = np.flatnonzero(inside[1:] > inside[:-1])
    ends = np.flatnonzero(inside[1:] < inside[:-1])
    begins += 1
    ends += 1
    return begins, ends


def _positions(sizes: NDArray[np.uint8], begins: Ints, ends: Ints) -> tuple[Ints, Ints]:
    after = np.cumsum(sizes, dtype=np.int64)
    return after[begins - 1], after[ends - 1]


def utf8_bytes(codes: Codes) -> NDArray[np.uint8]:
    """How many bytes each character takes in UTF-8."""
    sizes = 1 + (codes >= 0x80).astype(np.uint8)
    sizes += codes >= 0x800
    sizes += codes >= 0x10000
    return sizes


def _fold(codes: Codes) -> Codes:
    """Each character folded: SEPARATOR, MARK, or the token character it counts as."""
    table = _fold_table()
    folded = table[codes]
    unknown = folded == UNKNOWN
    if unknown.any():
        for code in set(codes[unknown].tolist()):
            table[code] = _fold_one(code)
        folded = table[codes]
    return folded


@cache
def _fold_table() -> Codes:
    return np.full(0x110000, UNKNOWN, dtype=np.uint32)  # filled as characters turn up


def _fold_one(code: int) -> int:
    kind = unicodedata.category(chr(code))
    if kind[0] == "M":
        return MARK
    if kind[0] not in "LN" and kind != "Co":
        return SEPARATOR
    small = fold_case(chr(code))
    # FTS5 strips diacritics of the letters a to z only: "й" and "ά" are letters of their own.
    base = unicodedata.normalize("NFD", small)[0].lower()
    return ord(base if base.isascii() else small)


def fold_case(text: str) -> str:
    """Text with case folded character by character, so that its length stays the same.

    Example:
        >>> fold_case("ÉCLAIR Straße")
        'éclair straße'
    """
    return "".join(map(_fold_character, text))


@cache
def _fold_character(character: str) -> str:
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character
