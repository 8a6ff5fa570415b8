"""The prefilter: pairs whose caption shares a word with a class, where a pool is too large.

Two billion images are out of reach for most, the few million that any class is named in are not.
What is lost by it is measured, on a sample that is embedded whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.errors import QueryError
from headwater.retrieve.scan.phrases import Vocabulary
from headwater.retrieve.scan.tokens import split_words, tokenize

_CLOSED_CLASSES = """
a about above after against all also an and any are as at be been before behind being below
beneath beside between but by can did do does down during each for from had has have he her here
his how i if in inside into is it its like me more most my near next no not of off on one onto or
other our out outside over s she so some such t than that the their them then there these they
this those through to too under until up upon was we were what when where which while who with
within without you your
"""
STOP_WORDS = frozenset(_CLOSED_CLASSES.split())
"""English articles, pronouns, prepositions, conjunctions, auxiliaries and the like: words that are
in captions of anything. A list of closed classes of words, not the frequent words of the pool, of
which "dog" may well be one."""


class WordFilter:
    """Lets through captions that share a word with any of some texts.

    Words are the folded tokens of `tokens.py`: "roses" is not "rose", and a text without spaces,
    such as Chinese, is one word. Stop words and single letters do not count, unless a text has no
    other word.

    Args:
        texts: class names and queries.

    Raises:
        QueryError: no word in any of them.

    Example:
        >>> captions = pl.Series(["A ROSÉ by the sea", "house of the sun", None, "rosebud"])
        >>> WordFilter(["rose of the desert"]).passing(captions).tolist()
        [True, False, False, False]
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in telling_words(text)})
        if not self.words:
            raise QueryError("no word to filter captions by", expected="class names with letters")
        self._vocabulary = Vocabulary([word.encode() for word in self.words])

    def passing(self, captions: pl.Series) -> NDArray[np.bool_]:
        """Which captions share a word: (n,); a null shares none."""
        filled = captions.fill_null("")
        ascii_only = filled.str.len_bytes() == filled.str.len_chars()
        passes = np.zeros(len(filled), np.bool_)
        for which in (ascii_only, ~ascii_only):  # the first is several times faster by itself
            rows = which.arg_true().to_numpy()
            passes[rows[self._rows(filled.filter(which))]] = True
        return passes

    def _rows(self, captions: pl.Series) -> NDArray[np.int64]:
        if not len(captions):
            return np.empty(0, np.int64)
        tokens = tokenize(captions)
        word = self._vocabulary.find(tokens, np.arange(len(tokens)))
        return tokens.rows(np.flatnonzero(word >= 0))


def telling_words(text: str) -> set[str]:
    """The words of a text that tell what it is about.

    Example:
        >>> sorted(telling_words("Lily of the valley")), telling_words("The Who") == {"the", "who"}
        (['lily', 'valley'], True)
    """
    words = {*split_words([text])[0]}
    telling = {w for w in words if w not in STOP_WORDS and not (w.isascii() and len(w) == 1)}
    return telling or words


def recall(
    queries: NDArray[np.floating],
    vectors: NDArray[np.floating],
    passes: NDArray[np.bool_],
    *,
    share: float,
) -> float | None:
    """How much of what lies nearest a prefilter keeps, measured on a sample.

    Args:
        queries: (q, d) encoded prompts.
        vectors: (n, d) of the sample, image or caption; rows with NaN do not count.
        passes: (n,) whether each of the sample passes the filter.
        share: of the sample that counts as nearest, at least one row.

    Returns:
        The mean over prompts of the share of their nearest rows that pass; None without rows.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> recall(vectors[:1], vectors, np.array([True, False, True]), share=0.6)
        0.5
    """
    there = ~np.isnan(vectors).any(axis=1)
    if not there.any():
        return None
    scores = queries.astype(np.float32) @ vectors[there].astype(np.float32).T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, : math.ceil(share * there.sum())]
    return float(passes[there][nearest].mean())
