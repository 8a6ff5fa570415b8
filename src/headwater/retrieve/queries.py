"""What captions are searched for: labels and their queries, checked before anything is scanned.

A query is a plain text or an expression (`headwater.expression`); the mode says what a plain text
means. `boolean.py` decides expressions, `words.py` does the scan.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import polars as pl

from headwater.errors import QueryError
from headwater.expression import And, Expression, Node, Phrase, is_searchable, is_unicode
from headwater.retrieve.scan.tokens import tokenize

Query = str | Expression
Queries = Mapping[str, Query | Sequence[Query]]

MODES = ("phrase", "substring", "all", "reference")


def query_table(queries: Queries) -> pl.DataFrame:
    """Check queries and lay them out, one row each.

    Args:
        queries: for each class label its queries, or a single one.

    Returns:
        class: int64, the place of the label; label; rank: int64, the place in the class; query:
        text as given.

    Raises:
        QueryError: no class, a class without queries, a query that is no text or expression, or
            two labels that look the same.

    Example:
        >>> query_table({"rose": ["rose", "rosa"], "fig": "fig"}).rows()
        [(0, 'rose', 0, 'rose'), (0, 'rose', 1, 'rosa'), (1, 'fig', 0, 'fig')]
    """
    if not queries:
        raise QueryError("no class to search for", expected="at least one label with a query")
    _check_labels(list(queries))
    rows = [
        {"class": number, "label": label, "rank": rank, "query": str(query)}
        for number, (label, given) in enumerate(queries.items())
        for rank, query in enumerate(queries_of(label, given))
    ]
    return pl.DataFrame(rows)


def each_query(queries: Queries) -> list[Query]:
    """The queries themselves, in the order of `query_table`."""
    return [query for label, given in queries.items() for query in queries_of(label, given)]


def queries_of(label: str, given: Query | Sequence[Query]) -> list[Query]:
    """The queries of one class, however they were given.

    Raises:
        QueryError: none at all, or one that is no text or expression.
    """
    queries = [given] if isinstance(given, str | Expression) else list(given)
    if not queries:
        raise QueryError(f"the class {label!r} has no query", do="Give it at least one phrase.")
    for query in queries:
        if not isinstance(query, str | Expression):
            kind = type(query).__name__
            raise QueryError(
                f"a query of {label!r} is not text", expected="a phrase or parse_query(...)",
                seen=kind,
            )  # fmt: skip
        if not is_unicode(str(query)):
            raise QueryError(f"a query of {label!r} is not valid Unicode", seen=repr(query))
    return queries


def meaning(query: Query, *, mode: str) -> Node:
    """What a query looks for, as a tree of phrases (in mode "substring", of substrings).

    Raises:
        QueryError: nothing to search for.

    Example:
        >>> meaning("tiger shark", mode="all")
        And(parts=(Phrase(text='tiger', at=1), Phrase(text='shark', at=7)))
        >>> meaning("tiger-shark", mode="reference")
        Phrase(text='tiger-shark', at=1)
    """
    if isinstance(query, Expression):
        return query.root
    if not is_searchable(query):
        raise QueryError(
            "a query with nothing to search for", expected="at least one letter, digit or symbol",
            seen=repr(query),
        )  # fmt: skip
    # The reference code quotes names that FTS5 would not read otherwise, and no others.
    apart = mode == "all" or (mode == "reference" and not set(query) & set("-/"))
    return _words_anywhere(query) if apart else Phrase(query)


def _words_anywhere(query: str) -> Node:
    tokens = tokenize(pl.Series([query]))
    folded = [tokens.text[at:to] for at, to in zip(tokens.at, tokens.to, strict=True)]
    first = {word: i for i, word in reversed(list(enumerate(folded)))}
    raw = query.encode()
    spans = [(int(tokens.start[i]), int(tokens.end[i])) for i in sorted(first.values())]
    begin = int(tokens.first[0])
    words = [
        Phrase(raw[start - begin : end - begin].decode(), len(raw[: start - begin].decode()) + 1)
        for start, end in spans
    ]
    return words[0] if len(words) == 1 else And(tuple(words)) if words else Phrase(query)


def _check_labels(labels: list[str]) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        looks = unicodedata.normalize("NFC", " ".join(label.split()))
        if not looks or not is_unicode(label):
            raise QueryError("a label that cannot be shown", expected="text", seen=repr(label))
        if looks in seen:
            raise QueryError(
                "two classes have the same label", expected="labels that differ to the eye",
                seen=f"{seen[looks]!r} and {label!r}", do="Rename one, for example with a number.",
            )  # fmt: skip
        seen[looks] = label
