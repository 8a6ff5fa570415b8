"""Modes and boolean queries over captions: toys, and SQLite's FTS5 as oracle."""

from __future__ import annotations

import pickle
import sqlite3

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import QueryError
from headwater.expression import parse_query
from headwater.retrieve.scan.tokens import tokenize
from headwater.retrieve.words import CaptionMatcher, match_captions

quickly = settings(max_examples=80, deadline=None)

MARKS = "".join(map(chr, [*range(0x300, 0x305), *range(0x306, 0x30D)]))
LETTERS = "abcAéÉ中の1 "  # few, so that things meet
WIDE = st.one_of(
    st.sampled_from("".join(map(chr, range(1, 0x180))) + MARKS),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FCC),
)
texts = st.one_of(
    st.text("abc ", max_size=10),
    st.text(LETTERS + "-_\u0301", max_size=10),
    st.text(WIDE, max_size=8),
)


def has_token(text):
    return len(tokenize(pl.Series([text]))) > 0


def quote(phrase):
    return '"' + phrase.replace('"', '""') + '"'


def combine(inner):
    """Bigger expressions from smaller ones, with and without parentheses."""
    return st.one_of(
        st.tuples(inner, st.sampled_from([" AND ", " OR ", " NOT "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
    )


phrases = texts.filter(has_token).map(quote)
side_by_side = st.lists(phrases, min_size=1, max_size=3).map(" ".join)
expressions = st.recursive(side_by_side, combine, max_leaves=6)


def fts5(captions, ask):
    """Rows of the captions that FTS5 finds."""
    with sqlite3.connect(":memory:") as db:
        db.execute("create virtual table t using fts5(c, tokenize='unicode61 remove_diacritics 2')")
        db.executemany("insert into t(rowid, c) values (?, ?)", enumerate(captions))
        return [row for (row,) in db.execute("select rowid from t where t match ?", [ask])]


@quickly
@given(st.lists(texts, max_size=8), expressions)
def test_expressions_find_what_fts5_finds(captions, text):
    found = match_captions(captions, {"x": [parse_query(text)]})
    assert found["row"].to_list() == fts5(captions, text)


@quickly
@given(st.lists(texts, max_size=8), texts.filter(has_token))
def test_mode_all_finds_what_fts5_finds(captions, query):
    tokens = tokenize(pl.Series([query]))
    words = [tokens.text[at:to].decode() for at, to in zip(tokens.at, tokens.to, strict=True)]
    found = match_captions(captions, {"x": [query]}, mode="all")
    assert found["row"].to_list() == fts5(captions, " AND ".join(map(quote, words)))


@quickly
@given(st.lists(texts, max_size=8), st.lists(expressions, min_size=2, max_size=4))
def test_many_expressions_at_once_are_each_on_its_own(captions, asked):
    queries = {f"class {i}": parse_query(text) for i, text in enumerate(asked)}
    alone = [match_captions(captions, {label: query}) for label, query in queries.items()]
    together = match_captions(captions, queries)
    assert sorted(together.rows()) == sorted(row for table in alone for row in table.rows())


@quickly
@given(st.lists(texts, max_size=8), expressions)
def test_an_expression_of_substrings_is_python_in(captions, text):
    ascii_captions = [caption for caption in captions if caption.isascii()]
    query = parse_query(text)
    found = match_captions(ascii_captions, {"x": query}, mode="substring")["row"].to_list()
    assert found == [i for i, c in enumerate(ascii_captions) if holds(query.root, c.lower())]


def holds(node, caption):
    match type(node).__name__:
        case "Phrase":
            return node.text.lower() in caption
        case "Not":
            return holds(node.keep, caption) and not any(holds(d, caption) for d in node.drops)
        case "And":
            return all(holds(part, caption) for part in node.parts)
    return any(holds(part, caption) for part in node.parts)


def span(caption, query, mode="phrase"):
    found = match_captions([caption], {"x": query}, mode=mode)
    return [caption.encode()[start:end].decode() for start, end in found["start", "end"].rows()]


def test_the_span_goes_from_the_first_to_the_last_positive_phrase():
    caption = "Café: a rose, red, and a tulip by the sea; a rose"
    assert span(caption, parse_query('"tulip" AND "rose"')) == ["rose, red, and a tulip"]
    assert span(caption, parse_query('"lily" OR "tulip"')) == ["tulip"]
    assert span(caption, parse_query('"rose" NOT "lily"')) == ["rose"]
    assert span(caption, parse_query('("lily" AND "cafe") OR ("sea" AND "red")')) == [
        "red, and a tulip by the sea"
    ]
    assert span(caption, "tulip a café", mode="all") == ["Café: a rose, red, and a tulip"]


def test_not_is_false_where_the_other_is_there():
    query = parse_query('"orange" NOT ("juice" OR "county")')
    found = match_captions(["an orange", "orange juice", "Orange County", None], {"x": query})
    assert found.rows() == [(0, "x", '"orange" NOT ("juice" OR "county")', 3, 9)]


def test_a_plain_text_is_never_an_expression():
    captions = ["kite (bird of prey)", "a bird of prey, a kite", "salt AND pepper", "pepper, salt"]
    queries = {"kite": "kite (bird of prey)", "pots": "salt AND pepper"}
    assert match_captions(captions, queries)["row"].to_list() == [0, 2]


def labels(caption, mode, *queries):
    return match_captions([caption], {str(q): [q] for q in queries}, mode=mode)["label"].to_list()


def test_reference_is_a_phrase_with_a_dash_or_slash_and_else_all():
    names = ["F-16A/B", "fire lily", "baluster / handrail", "Cessna 172"]
    assert labels("lily on fire, 172nd Cessna", "reference", *names) == ["fire lily"]
    assert labels("b 16a f and a handrail, a baluster", "reference", *names) == []
    assert labels("an F 16A B; baluster handrail", "reference", *names) == [names[0], names[2]]
    query = parse_query('"fire lily" OR "flame lily"')
    assert labels("lily on fire", "reference", query) == []
    assert labels("a flame-lily", "reference", query) == [str(query)]


def test_quoted_phrases_stay_phrases_in_mode_all_and_are_substrings_in_substring():
    query = parse_query('"tree frog"')
    assert labels("a frog in a tree", "all", query, "tree frog") == ["tree frog"]
    assert labels("tree frogs", "phrase", query) == []
    assert labels("tree frogs", "substring", query) == ['"tree frog"']


def test_the_first_query_of_a_class_that_matches_is_named():
    query = parse_query('"rosa" AND "plant"')
    found = match_captions(["a plant, rosa", "rosa, rose"], {"rose": ["rose", query]})
    assert found["query"].to_list() == ['"rosa" AND "plant"', "rose"]


def test_mode_all_takes_a_repeated_word_once():
    assert labels("new york", "all", "New York New York") == ["New York New York"]


@pytest.mark.parametrize("mode", ["phrase", "all", "reference", "substring"])
def test_a_matcher_travels_and_is_used_again(mode):
    queries = {"rose": ["red rose", parse_query('"rosa" NOT "wine"')], "lily": "lily"}
    matcher = pickle.loads(pickle.dumps(CaptionMatcher(queries, mode=mode)))
    for _ in range(2):
        assert matcher.match(["a red rose", "rosa wine", "Rosa"])["row"].to_list() == [0, 2]
        assert matcher.match(["lily"])["label"].to_list() == ["lily"]


@pytest.mark.parametrize("mode", ["phrase", "all", "reference"])
def test_a_symbol_is_found_by_substring_only(mode):
    with pytest.raises(QueryError, match="nothing to search for"):
        match_captions(["🤖"], {"robot": parse_query('"robot" OR "🤖"')}, mode=mode)
    with pytest.raises(QueryError, match="nothing to search for"):
        match_captions(["🤖"], {"robot": "🤖"}, mode=mode)
    assert labels("a 🤖", "substring", "🤖") == ["🤖"]
