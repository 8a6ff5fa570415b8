"""Many phrases searched in many captions at once: the exact scan behind phrase mode.

A phrase hangs on its longest word. One pass finds those words among all tokens of a block (most
tokens fall through a sieve on their first eight bytes); only there is the rest of the phrase
compared. So the cost follows the captions and the matches, not the number of classes. Everything
is exact: tokens are compared by their bytes, never by a hash alone. `tokens.py` makes the tokens,
`words.py` turns hits into a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.retrieve.scan.hits import Hits, first_hits_of
from headwater.retrieve.scan.sieve import CaptionSieve
from headwater.retrieve.scan.tokens import CHUNK, Ints, Tokens, cut, tokenize

Phrase = tuple[bytes, ...]
Chunks = NDArray[np.uint64]

NOWHERE = -1
AT_ONCE = 1 << 16  # tokens looked at, so that a caption full of names does not fill the memory
_SPREAD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: Fibonacci hashing


class PhraseFinder:
    """Finds where each of some phrases stands first, its tokens consecutive.

    Args:
        phrases: distinct, each a tuple of at least one folded token in UTF-8.

    Example:
        >>> finder = PhraseFinder([(b"tiger", b"shark"), (b"tiger",)])
        >>> hits = finder.hits(pl.Series(["a tiger-shark", "shark"]))
        >>> [array.tolist() for array in hits]
        [[0, 0], [0, 1], [2, 2], [13, 7]]
    """

    block_bytes = 1 << 23  # polars warms the sieve up anew for each block
    tokens_bytes = 1 << 20  # arrays made of so much text stay in the processor's cache

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self._passes = CaptionSieve(phrases)
        words = sorted({word for phrase in phrases for word in phrase})
        number = {word: i for i, word in enumerate(words)}
        self._vocabulary = Vocabulary(words)
        self._size = np.array([len(phrase) for phrase in phrases], dtype=np.int64)
        self._words = np.full((len(phrases), self._size.max()), NOWHERE, dtype=np.int64)
        for i, phrase in enumerate(phrases):
            self._words[i, : len(phrase)] = [number[word] for word in phrase]
        # The longest word is most often the rarest.
        self._anchor = np.array([max(range(len(p)), key=lambda i: len(p[i])) for p in phrases])
        anchors = self._words[np.arange(len(phrases)), self._anchor]
        self._sieve = Sieve([words[i] for i in set(anchors.tolist())])
        self._by_anchor = np.argsort(anchors, kind="stable")
        # One entry more than words: NOWHERE, which is -1, then has no phrases.
        self._count = np.bincount(anchors, minlength=len(words) + 1)
        self._begin = np.cumsum(self._count) - self._count

    def hits(self, captions: pl.Series) -> Hits:
        """The first hit of each phrase in each caption of a block without nulls."""
        block = pl.DataFrame({"row": np.arange(len(captions)), "caption": captions})
        if self._passes.useful:
            block = block.filter(self._passes.passing(captions))
        ascii_only = block["caption"].str.len_bytes() == block["caption"].str.len_chars()
        parts = [block.filter(each) for each in (ascii_only, ~ascii_only)]  # ASCII is faster apart
        return first_hits_of(chain.from_iterable(map(self._in_part, parts)), len(self._size))

    def _in_part(self, part: pl.DataFrame) -> Iterator[Hits]:
        """Every hit in the captions of a table, some of them at a time."""
        for piece in cut(part["caption"], self.tokens_bytes):
            rows = part["row"].to_numpy()[piece]
            tokens = tokenize(part["caption"][piece])
            which, beginnings = self._sieve.passing(tokens)
            for at in range(0, len(which), AT_ONCE):
                some = slice(at, at + AT_ONCE)
                phrase, first, last = self._matches(tokens, which[some], beginnings[some])
                row = tokens.rows(first)
                begins = tokens.first[row]
                start, end = tokens.start[first] - begins, tokens.end[last] - begins
                yield Hits(rows[row], phrase, start, end)

    def find(self, tokens: Tokens) -> tuple[Ints, Ints, Ints]:
        """Every match, as three (matches,) arrays: phrase, its first token, its last token."""
        return self._matches(tokens, *self._sieve.passing(tokens))

    def _matches(self, tokens: Tokens, which: Ints, beginnings: Chunks) -> tuple[Ints, Ints, Ints]:
        """Those matches whose anchor is one of the tokens `which`."""
        phrase, first = self._candidates(tokens, which, beginnings)
        for j in range(self._size[phrase].max(initial=0)):
            todo = np.flatnonzero((self._size[phrase] > j) & (self._anchor[phrase] != j))
            seen = self._vocabulary.find(tokens, first[todo] + j)
            wrong = todo[seen != self._words[phrase[todo], j]]
            phrase, first = np.delete(phrase, wrong), np.delete(first, wrong)
        last = first + self._size[phrase] - 1
        whole = tokens.rows(first) == tokens.rows(last)
        return phrase[whole], first[whole], last[whole]

    def _candidates(self, tokens: Tokens, which: Ints, beginnings: Chunks) -> tuple[Ints, Ints]:
        """Phrases whose anchor is there, each with the token at which it would begin."""
        word = self._vocabulary.find(tokens, which, beginnings)
        which, word = which[word != NOWHERE], word[word != NOWHERE]
        count = self._count[word]
        nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        phrase = self._by_anchor[np.repeat(self._begin[word], count) + nth]
        first = np.repeat(which, count) - self._anchor[phrase]
        fits = (first >= 0) & (first + self._size[phrase] <= len(tokens))
        return phrase[fits], first[fits]


class Sieve:
    """Lets through the tokens that begin like one of the words, and hardly any other."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self._slot = _Slots(4 * len(words))
        self._open = np.zeros(self._slot.count, dtype=np.bool_)
        self._open[self._slot(_chunks(words, 0))] = True

    def passing(self, tokens: Tokens) -> tuple[Ints, Chunks]:
        """The tokens that pass, in order, and how each begins."""
        beginnings = tokens.beginnings()
        which = np.flatnonzero(self._open.take(self._slot(beginnings)))
        return which, beginnings.take(which)


class _Slots:
    """A hash from integers to one of `count` slots, 16 or more for each of `size` entries."""

    def __init__(self, size: int) -> None:
        bits = (16 * size).bit_length()
        self.count = 1 << bits
        self._shift = np.uint64(64 - bits)

    def __call__(self, values: Chunks) -> Ints:
        return ((values * np.uint64(_SPREAD)) >> self._shift).view(np.int64)


class _Places:
    """Looks integers up in a sorted array: by hash, and by bisection where two share a slot."""

    def __init__(self, ordered: Chunks) -> None:
        self._ordered = ordered
        self._slot = _Slots(len(ordered))
        self._place = np.full(self._slot.count, NOWHERE, dtype=np.int32)
        self._place[self._slot(ordered)] = np.arange(len(ordered))

    def __len__(self) -> int:
        return len(self._ordered)

    def find(self, values: Chunks) -> Ints:
        """The place of each value, or NOWHERE."""
        place = self._place.take(self._slot(values)).astype(np.int64)
        other = np.flatnonzero(
            (self._ordered.take(place, mode="wrap") != values) & (place != NOWHERE)
        )
        nearest = np.searchsorted(self._ordered, values[other])
        nearest[nearest == len(self)] = 0
        place[other] = np.where(self._ordered[nearest] == values[other], nearest, NOWHERE)
        return place


@dataclass(frozen=True, slots=True)
class _Level:
    """One chunk of all words: from a node of the level above to a node of this one."""

    chunks: _Places
    edges: _Places  # of parent node * len(chunks) + place of the chunk
    words: Ints  # the word that ends at each node, or NOWHERE
    is_first: bool  # all come from one node: the edge's place is the chunk's

    def step(self, node: Ints, chunk: Chunks) -> Ints:
        """The node that a chunk leads to, or NOWHERE."""
        place = self.chunks.find(chunk)
        if self.is_first:
            return place
        node = self.edges.find((node * len(self.chunks) + place).astype(np.uint64))
        node[place == NOWHERE] = NOWHERE
        return node


class Vocabulary:
    """Looks tokens up in a list of words: a tree whose branches are eight bytes long.

    Example:
        >>> tokens = tokenize(pl.Series(["Great grasshopper, grasshoppers!"]))
        >>> Vocabulary([b"grasshopper", b"great"]).find(tokens, np.arange(3)).tolist()
        [1, 0, -1]
    """

    def __init__(self, words: Sequence[bytes]) -> None:
        self._levels: list[_Level] = []
        left = np.arange(len(words))
        node = np.zeros(len(words), dtype=np.int64)
        while len(left):
            number = len(self._levels)
            rest = [words[i] for i in left.tolist()]
            chunks, place = np.unique(_chunks(rest, number), return_inverse=True)
            edges, node = np.unique(node * len(chunks) + place, return_inverse=True)
            ends = np.array([len(word) <= CHUNK * (number + 1) for word in rest])
            ending = np.full(len(edges), NOWHERE, dtype=np.int64)
            ending[node[ends]] = left[ends]
            places = _Places(chunks), _Places(edges.astype(np.uint64))
            self._levels.append(_Level(*places, ending, is_first=number == 0))
            left, node = left[~ends], node[~ends]

    def find(self, tokens: Tokens, which: Ints, chunk: Chunks | None = None) -> Ints:
        """The index of the word that each of the tokens `which` is, or NOWHERE.

        Args:
            tokens: of some captions.
            which: which of them to look up.
            chunk: the first one of each, if known already.
        """
        found = np.full(len(which), NOWHERE, dtype=np.int64)
        left = np.arange(len(which))
        node = np.zeros(len(which), dtype=np.int64)
        size = tokens.to[which] - tokens.at[which]
        for number, level in enumerate(self._levels):
            if not len(left):
                break
            if number > 0 or chunk is None:
                chunk = tokens.chunks(which[left], number)
            node = level.step(node, chunk)
            left, node = left[node != NOWHERE], node[node != NOWHERE]
            ends = size[left] <= CHUNK * (number + 1)
            found[left[ends]] = level.words[node[ends]]
            left, node = left[~ends], node[~ends]
        return found


def _chunks(words: Sequence[bytes], number: int) -> Chunks:
    """Each word's bytes 8 * number up to 8 * number + 8, as `Tokens.chunks` gives them."""
    parts = (word[CHUNK * number : CHUNK * (number + 1)] for word in words)
    return np.array([int.from_bytes(part, "little") for part in parts], dtype=np.uint64)
