"""Class names in captions: toys, SQLite's FTS5 as oracle, and a plain version for the offsets."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, QueryError
from headwater.pool import iter_captions, open_pool
from headwater.retrieve import words
from headwater.retrieve.scan.phrases import Vocabulary
from headwater.retrieve.scan.tokens import tokenize
from headwater.retrieve.words import CaptionMatcher, match_captions
from headwater.steps.hits import caption_hits


def one_to_one(character, folds=(str.casefold, str.lower)):
    return next((f(character) for f in folds if len(f(character)) == 1), character)


def plain_tokens(text):
    """[(folded token, start, end)] with byte offsets, one character at a time."""
    tokens, offset, open_ = [], 0, False
    for character in text:
        kind, size = unicodedata.category(character), len(character.encode())
        if kind[0] in "LN" or kind == "Co":
            small = one_to_one(character)
            base = unicodedata.normalize("NFD", small)[0].lower()
            word, start = tokens.pop()[:2] if open_ else ("", offset)
            tokens.append((word + (base if base.isascii() else small), start, offset + size))
            open_ = True
        elif kind[0] == "M" and open_:
            tokens.append((*tokens.pop()[:2], offset + size))
        else:
            open_ = False
        offset += size
    return tokens


def plain_phrase(caption, query):
    tokens, wanted = plain_tokens(caption), [word for word, *_ in plain_tokens(query)]
    for i in range(len(tokens) - len(wanted) + 1):
        if [word for word, *_ in tokens[i : i + len(wanted)]] == wanted:
            return tokens[i][1], tokens[i + len(wanted) - 1][2]
    return None


def plain_substring(caption, query):
    at = "".join(map(one_to_one, caption)).find("".join(map(one_to_one, query)))
    if at < 0:
        return None
    return len(caption[:at].encode()), len(caption[: at + len(query)].encode())


def plain_match(captions, queries, find):
    rows = []
    for row, caption in enumerate(captions):
        for label, phrases in queries.items():
            spans = [(phrase, find(caption, phrase)) for phrase in phrases if caption is not None]
            rows += [(row, label, phrase, *span) for phrase, span in spans if span][:1]
    return rows


quickly = settings(max_examples=60, deadline=None)

MARKS = "".join(map(chr, [*range(0x300, 0x305), *range(0x306, 0x30D)]))
LATIN = "".join(map(chr, range(1, 0x180)))
CJK = "".join(map(chr, [*range(0x3001, 0x3004), *range(0x3041, 0x3097), *range(0x30A1, 0x30FB)]))
HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FCC)
FEW = "aAeEéÉkK\u0130\u0131\u017fsß _-/'1²\u0301\u030c\n中の"  # few, so that things meet

oracle_text = st.one_of(
    st.text(FEW, max_size=12),
    st.text(st.one_of(st.sampled_from(LATIN + MARKS + CJK), HAN), max_size=12),
)
any_text = st.one_of(
    st.text(FEW, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text("ab ", max_size=40),  # long words with common beginnings
)


@st.composite
def captions_and_queries(draw, text):
    captions = draw(st.lists(st.one_of(st.none(), text), max_size=6))
    cut = draw(st.tuples(st.integers(0, 12), st.integers(0, 12)))
    slices = [caption[min(cut) : max(cut)] for caption in captions if caption]
    found = st.sampled_from(slices) if slices else text
    phrases = st.one_of(text, found).filter(plain_tokens)
    queries = draw(st.lists(st.lists(phrases, min_size=1, max_size=3), min_size=1, max_size=4))
    return captions, {f"class {i}": phrases for i, phrases in enumerate(queries)}


def fts5_match(captions, queries):
    with sqlite3.connect(":memory:") as db:
        db.execute("create virtual table t using fts5(c, tokenize='unicode61 remove_diacritics 2')")
        db.executemany("insert into t(rowid, c) values (?, ?)", enumerate(captions))
        ask = "select rowid from t where t match ?"
        return {
            (row, label)
            for label, phrases in queries.items()
            for phrase in phrases
            for (row,) in db.execute(ask, ['"' + phrase.replace('"', '""') + '"'])
        }


@quickly
@given(captions_and_queries(oracle_text))
def test_phrase_mode_finds_what_fts5_finds(case):
    captions, queries = case
    found = match_captions(captions, queries)
    assert set(found.select("row", "label").rows()) == fts5_match(captions, queries)


@quickly
@given(captions_and_queries(any_text))
def test_phrase_mode_equals_the_plain_version(case):
    captions, queries = case
    assert match_captions(captions, queries).rows() == plain_match(captions, queries, plain_phrase)


@quickly
@given(captions_and_queries(any_text))
def test_substring_mode_equals_the_plain_version(case):
    captions, queries = case
    found = match_captions(captions, queries, mode="substring")
    assert found.rows() == plain_match(captions, queries, plain_substring)


@quickly
@given(captions_and_queries(any_text))
def test_offsets_point_at_the_query(case):
    captions, queries = case
    for row, _, query, start, end in match_captions(captions, queries).rows():
        cut = captions[row].encode()[start:end].decode()
        assert [t for t, *_ in plain_tokens(cut)] == [t for t, *_ in plain_tokens(query)]


@pytest.mark.parametrize("mode", ["phrase", "substring"])
@quickly
@given(case=captions_and_queries(any_text))
def test_blocks_do_not_matter(mode, case):
    captions, queries = case
    captions = ["\n".join(filter(None, captions)), *captions]
    find = {"phrase": plain_phrase, "substring": plain_substring}[mode]
    matcher = CaptionMatcher(queries, mode=mode)
    matcher._block_bytes = 7
    with small_bites():
        assert matcher.match(captions).rows() == plain_match(captions, queries, find)


@contextmanager
def small_bites():
    """What is done to captions of megabytes, done to toys."""
    with (
        patch("headwater.retrieve.scan.substrings.WINDOW", 3),
        patch("headwater.retrieve.scan.phrases.AT_ONCE", 1),
        patch("headwater.retrieve.scan.phrases.PhraseFinder.tokens_bytes", 5),
        patch("headwater.retrieve.scan.hits.MANY", 1),
    ):
        yield


def labels(caption, *names, mode="phrase"):
    return match_captions([caption], {n: [n] for n in names}, mode=mode)["label"].to_list()


def test_a_phrase_is_whole_words_in_a_row():
    assert labels("an f 16a b at the show", "F-16A/B") == ["F-16A/B"]
    assert labels("a figure", "fig") == []
    assert labels("shark, white and great", "great white shark") == []
    assert labels("Great  white--SHARK!", "great white shark") == ["great white shark"]
    assert labels("rose_garden", "rose") == ["rose"]


def test_case_and_diacritics_are_folded():
    assert labels("CAFÉ crème", "cafe creme") == ["cafe creme"]
    assert labels("a cafe\u0301", "café") == ["café"]
    assert labels("rose🤖", "rose") == ["rose"]
    assert labels("мой сад", "мои") == []  # й is a letter, as for FTS5


def test_substring_is_literal_but_for_case():
    assert labels("A FIGURE", "fig", mode="substring") == ["fig"]
    assert labels("f 16a b", "F-16A/B", mode="substring") == []
    assert labels("ÉCLAIR", "éclair", "eclair", mode="substring") == ["éclair"]
    assert labels("smile 🤖", "🤖", mode="substring") == ["🤖"]


def test_the_table_says_row_label_query_and_bytes():
    found = match_captions(
        ["ein Éclair", None, "", "rosa, rose"],
        {"flower": ["rose", "rosa"], "cake": "eclair", "also a flower": ["ROSE"]},
    )
    assert found.schema == words.MATCHES
    assert found.rows() == [
        (0, "cake", "eclair", 4, 11),
        (3, "flower", "rose", 6, 10),
        (3, "also a flower", "ROSE", 6, 10),
    ]


def test_a_match_does_not_run_from_one_caption_into_the_next():
    assert match_captions(["a tiger", "shark", "a\nb"], {"x": "tiger shark"}).is_empty()
    assert match_captions(["a\nb"], {"x": "a b"}).height == 1
    queries = {"x": "a\nb", "one": "a", "other": "b"}
    found = match_captions(["a", "b", "a\nb"], queries, mode="substring")
    assert found["row", "label"].rows() == [(0, "one"), (1, "other"), *((2, q) for q in queries)]


@pytest.mark.parametrize("captions", [[], [None, None], pl.Series([None]), [""]])
@pytest.mark.parametrize("mode", ["phrase", "substring"])
def test_nothing_in_nothing_out(captions, mode):
    found = match_captions(captions, {"rose": ["rose"]}, mode=mode)
    assert found.is_empty()
    assert found.schema == words.MATCHES


def test_many_words_with_common_beginnings_are_told_apart():
    rng = np.random.default_rng(0)
    names = sorted({"grasshopper" + "ab"[n % 2] * (n % 17) + str(n) for n in range(4000)})
    listed = {name.encode(): i for i, name in enumerate(names[::2])}
    text = rng.permutation(names).tolist()
    found = Vocabulary(list(listed)).find(tokenize(pl.Series(text)), np.arange(len(text)))
    assert found.tolist() == [listed.get(name.encode(), -1) for name in text]


def test_a_huge_caption_and_a_huge_query():
    caption = "rose " * 300_000 + "thorn"
    assert match_captions([caption], {"x": ["rose thorn"]}).rows() == [
        (0, "x", "rose thorn", 5 * 299_999, len(caption))
    ]
    assert labels("a" * 100_000, "a" * 100_000, "a" * 99_999) == ["a" * 100_000]


@pytest.mark.parametrize("mode", ["phrase", "substring"])
@pytest.mark.parametrize("letter", ["a", "\u00e9"])
def test_a_caption_with_half_a_million_hits(letter, mode):
    size = len(letter.encode()) + 1
    caption = f"{letter} " * 600_000 + "f\u00e9e"
    queries = {"one": letter, "two": f"{letter} {letter}", "last": f"{letter} f\u00e9e"}
    found = match_captions([caption], queries, mode=mode)["start", "end"].rows()
    last = size * 599_999
    assert found == [(0, size - 1), (0, 2 * size - 1), (last, last + size + 4)]


@pytest.mark.parametrize("mode", ["phrase", "substring"])
@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ({}, "no class to search for"),
        ({"rose": []}, "the class 'rose' has no query"),
        ({"rose": [""]}, "a query with nothing to search for"),
        ({"rose": ["rose", "?!"]}, "saw '?!'"),
        (
            {"rose": [7]},
            "a query of 'rose' is not text: expected a phrase or parse_query(...), saw int",
        ),
        ({"rose": ["\ud800"]}, "not valid Unicode"),
        ({"": ["rose"]}, "a label that cannot be shown"),
        ({"caf\u00e9": ["a"], "cafe\u0301": ["b"]}, "two classes have the same label"),
        ({"red fox": ["a"], "red  fox ": ["b"]}, "two classes have the same label"),
    ],
)
def test_queries_that_cannot_be_searched(queries, says, mode):
    with pytest.raises(QueryError, match=re.escape(says)):
        match_captions(["a rose"], queries, mode=mode)


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        ("a rose", "saw one string"),
        (["a rose", 7], "saw int"),
        (pl.Series([1.5]), "saw Float64"),
        (["\udcff"], "lone surrogate"),
    ],
)
def test_captions_that_are_not_text(captions, says):
    with pytest.raises(InputError, match=says):
        match_captions(captions, {"rose": ["rose"]})


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(
        InputError, match="expected phrase or substring or all or reference, saw 'fuzzy'"
    ):
        match_captions(["a rose"], {"rose": ["rose"]}, mode="fuzzy")


@pytest.mark.parametrize("mode", ["phrase", "all", "reference", "substring"])
def test_odd_captions_have_a_defined_result(mode):
    marks = "ros\u00e9" + "\u0301" * 5000
    huge = "x " * 5_000_000 + "rose"
    captions = ["وردة rose حمراء", marks, None, "\u202erose", huge]
    found = match_captions(captions, {"flower": "rose", "rose": "rose"}, mode=mode)
    rows = [0, 3, 4] if mode == "substring" else [0, 1, 3, 4]
    assert found["row"].to_list() == [row for row in rows for _ in range(2)]
    assert found["label"].to_list() == ["flower", "rose"] * len(rows)  # two classes, one name
    assert found["start", "end"].rows()[-1] == (10_000_000, 10_000_004)


def test_bytes_are_not_text():
    with pytest.raises(InputError, match="expected a column of strings, saw Binary"):
        match_captions(pl.Series([b"\xff rose"]), {"rose": "rose"})


@pytest.mark.parametrize("batch_rows", [1, 3, 4, 20])
def test_rows_of_a_shard_are_counted_over_its_batches(tmp_path, batch_rows):
    captions = ["a rose", None, "fig", "rose, fig"] * 3
    pl.DataFrame({"caption": captions}).write_parquet(tmp_path / "a.parquet")
    shard = open_pool(tmp_path).shards[0]
    matcher = CaptionMatcher({"rose": "rose", "fig": "fig"})
    with patch("headwater.steps.hits.iter_captions", partial(iter_captions, batch_rows=batch_rows)):
        found = caption_hits(shard, matcher)
    told = ["row", "label", "query", "start", "end"]
    assert found.select(told).equals(matcher.match(captions))
    assert found["found_by"].unique().to_list() == ["captions"]
