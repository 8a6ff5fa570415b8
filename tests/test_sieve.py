"""The sieve never loses a match, however little of the phrases fits."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.retrieve.scan.phrases import PhraseFinder
from headwater.retrieve.scan.sieve import CaptionSieve
from headwater.retrieve.scan.tokens import tokenize

texts = st.text("abcAB é\u212a_-.1", max_size=14)


def words_of(text):
    tokens = tokenize(pl.Series([text]))
    return tuple(tokens.text[at:to] for at, to in zip(tokens.at, tokens.to, strict=True))


@pytest.mark.parametrize("places", [1, 7, 5000])
@settings(max_examples=60, deadline=None)
@given(captions=st.lists(texts, min_size=1, max_size=8), names=st.lists(texts, max_size=6))
def test_what_holds_a_phrase_passes(places, captions, names):
    phrases = sorted({words_of(text) for text in [*names, captions[0]]} - {()})
    if phrases:
        passing = CaptionSieve(phrases, places=places).passing(pl.Series(captions)).to_list()
        plain = PhraseFinder(phrases)
        plain._passes.useful = False
        assert all(passing[row] for row in plain.hits(pl.Series(captions)).row)


def test_more_names_than_fit_are_said_to_be_of_no_use():
    names = [(f"{i:05d}flower".encode(),) for i in range(9000)]
    assert not CaptionSieve(names).useful
    assert CaptionSieve(names[:50]).useful
    assert CaptionSieve([(b"ox",)]).useful
