"""The prefilter: which captions pass, against a plain version, and what is lost by it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from headwater.retrieve.prefilter import STOP_WORDS, WordFilter, recall, telling_words
from headwater.retrieve.scan.tokens import tokenize


def plain_filter(texts: list[str], captions: list[str | None]) -> list[bool]:
    """The filter in a few plain lines."""
    words = set().union(*map(telling_words, texts))
    return [bool(words & all_words(caption or "")) for caption in captions]


def all_words(text: str) -> set[str]:
    tokens = tokenize(pl.Series([text]))
    return {tokens.text[a:b].decode() for a, b in zip(tokens.at, tokens.to, strict=True)}


def test_captions_that_share_a_word_pass():
    texts = ["lily of the valley", "F-16A/B", "grasshopper sparrow", "日本"]
    captions = [
        "Lily", "of the hill", None, "", "a B side", "an f 16a", "GRASSHOPPERS",
        "grasshopper", "grasshopper's", "日本 in spring", "日本の", "VALLEY, café",
    ]  # fmt: skip
    passes = WordFilter(texts).passing(pl.Series(captions)).tolist()
    assert passes == plain_filter(texts, captions)
    assert passes == [1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 1]
    assert not WordFilter(texts).passing(pl.Series([], dtype=pl.String)).any()


def test_a_class_of_stop_words_only_keeps_them():
    assert telling_words("The Who") == {"the", "who"}
    assert telling_words("the rose") == {"rose"}
    assert telling_words("7") == {"7"}
    assert STOP_WORDS.isdisjoint({"dog", "red", "flower"})


def test_recall_is_what_the_nearest_of_a_sample_say():
    rng = np.random.default_rng(0)
    queries, sample = rng.normal(size=(3, 4)), rng.normal(size=(40, 4))
    sample[7] = np.nan
    passes = rng.random(40) < 0.5
    by_hand = []
    for query in queries:
        nearest = sorted((n for n in range(40) if n != 7), key=lambda n: -(sample[n] @ query))[:4]
        by_hand.append(np.mean([passes[n] for n in nearest]))
    assert recall(queries, sample, passes, share=0.1) == pytest.approx(np.mean(by_hand))
    assert recall(queries, sample * np.nan, passes, share=0.1) is None
