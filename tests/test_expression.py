"""Boolean caption queries: toys, and precedence held against SQLite's FTS5 in test_boolean.py."""

from __future__ import annotations

import pickle

import pytest

from headwater.errors import QueryError
from headwater.expression import MAX_DEPTH, And, Expression, Not, Or, Phrase, parse_query


def shape(node):
    """A tree as nested lists with the operator first."""
    if isinstance(node, Phrase):
        return node.text
    parts = (node.keep, *node.drops) if isinstance(node, Not) else node.parts
    return [type(node).__name__.lower(), *map(shape, parts)]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('"rose"', "rose"),
        ("rose", "rose"),
        ('"rose" AND "flower"', ["and", "rose", "flower"]),
        ("a OR b AND c", ["or", "a", ["and", "b", "c"]]),
        ("a AND b NOT c", ["and", "a", ["not", "b", "c"]]),
        ("a NOT b c", ["not", "a", ["and", "b", "c"]]),
        ("a b NOT c", ["not", ["and", "a", "b"], "c"]),
        ("a NOT b NOT c", ["not", "a", "b", "c"]),
        ("a NOT (b OR c)", ["not", "a", ["or", "b", "c"]]),
        ("(a OR b) AND c", ["and", ["or", "a", "b"], "c"]),
        ("((a))", "a"),
        ("a and b", ["and", "a", "and", "b"]),
        ('"a"AND"b"', ["and", "a", "b"]),
        ('"6"" pot"', '6" pot'),
        ('"a (b) AND c"', "a (b) AND c"),
        ("black-handed monkey", ["and", "black-handed", "monkey"]),
        ("a\n\tOR\r\nb", ["or", "a", "b"]),
    ],
)
def test_what_binds_what(text, tree):
    assert shape(parse_query(text).root) == tree


@pytest.mark.parametrize(
    ("text", "character", "says"),
    [
        ("", 1, 'expected a phrase or "(", saw the end'),
        ("   ", 4, 'expected a phrase or "(", saw the end'),
        ('"rose" AND OR "tulip"', 12, 'expected a phrase or "(", saw OR'),
        ("NOT rose", 1, 'expected a phrase or "(", saw NOT'),
        ("rose NOT", 9, 'expected a phrase or "(", saw the end'),
        ("()", 2, 'expected a phrase or "(", saw )'),
        ("(a OR b", 8, 'expected AND, OR, NOT or the ")" of character 1, saw the end'),
        ("a)", 2, "expected AND, OR, NOT or the end, saw )"),
        ("(a) b", 5, "expected AND, OR, NOT or the end, saw 'b'"),
        ('"rose', 6, "expected the closing quote of character 1, saw the end"),
        ('a "b""', 7, "expected the closing quote of character 3, saw the end"),
        ('a OR ""', 6, "expected a phrase with a letter, digit or symbol, saw ''"),
        ('"?!"', 1, "expected a phrase with a letter, digit or symbol, saw '?!'"),
        ("rose*", 5, "saw a prefix (*)"),
        ("caption:rose", 8, "saw a column (:)"),
        ("rose -wine", 6, "expected NOT between two phrases, saw a leading -"),
        ("\u201crose\u201d", 1, "saw a curly quote"),
        ("(" * (MAX_DEPTH + 1) + "a", MAX_DEPTH + 1, f"expected at most {MAX_DEPTH} parentheses"),
    ],
)
def test_a_mistake_is_one_line_that_points(text, character, says):
    with pytest.raises(QueryError) as caught:
        parse_query(text)
    line = str(caught.value)
    assert f"cannot be read at character {character}: " in line
    assert says in line
    assert "\n" not in line


def test_the_mistake_shows_the_expression_around_it():
    long = " OR ".join(f"name{i}" for i in range(100))
    with pytest.raises(QueryError, match=r'"rose" AND \[here\] OR "tulip"'):
        parse_query('"rose" AND OR "tulip"')
    with pytest.raises(
        QueryError, match=r"^the query \.\.\..{30,50} \[here\] \) OR .{20,40}\.\.\. "
    ):
        parse_query(f"{long} ) OR {long}")


def test_a_bomb_of_parentheses_is_a_mistake_and_long_chains_are_not():
    with pytest.raises(QueryError, match="parentheses"):
        parse_query("(" * 1_000_000)
    deep = "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH
    assert parse_query(deep).root == Phrase("a", MAX_DEPTH + 1)
    chain = parse_query(" OR ".join(["a"] * 20_000)).root
    assert isinstance(chain, Or)
    assert len(chain.parts) == 20_000
    assert len(pickle.dumps(parse_query(" NOT ".join("abc" * 500)))) > 0


def test_an_expression_is_its_text():
    query = parse_query('"rose" AND "flower"')
    assert str(query) == query.text == '"rose" AND "flower"'
    assert query == parse_query(query.text) != parse_query("rose")
    assert len({query, parse_query(query.text)}) == 1
    again = pickle.loads(pickle.dumps(query))
    assert isinstance(again, Expression)
    assert again.root == query.root == And((Phrase("rose"), Phrase("flower", 12)))


def test_what_is_no_text_is_no_query():
    with pytest.raises(QueryError, match="expected text, saw int"):
        parse_query(7)
    with pytest.raises(QueryError, match="not valid Unicode"):
        parse_query("ros\ud800e")
