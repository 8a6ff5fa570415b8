"""What captions are searched for: labels and their queries, checked before anything is scanned.

`words.py` does the scan.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import polars as pl

from headwater.errors import QueryError

Queries = Mapping[str, str | Sequence[str]]


def query_table(queries: Queries) -> pl.DataFrame:
    """Check queries and lay them out, one row each.

    Args:
        queries: for each class label its queries, or a single one.

    Returns:
        class: int64, the place of the label; label; rank: int64, the place in the class; query.

    Raises:
        QueryError: no class, a class without queries, a query that is not text, or two labels
            that look the same.

    Example:
        >>> query_table({"rose": ["rose", "rosa"], "fig": "fig"}).rows()
        [(0, 'rose', 0, 'rose'), (0, 'rose', 1, 'rosa'), (1, 'fig', 0, 'fig')]
    """
    if not queries:
        raise QueryError("no class to search for", expected="at least one label with a query")
    _check_labels(list(queries))
    rows = [
        {"class": number, "label": label, "rank": rank, "query": query}
        for number, (label, given) in enumerate(queries.items())
        for rank, query in enumerate(_texts(label, given))
    ]
    return pl.DataFrame(rows)


def _texts(label: str, given: str | Sequence[str]) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        raise QueryError(f"the class {label!r} has no query", do="Give it at least one phrase.")
    for text in texts:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise QueryError(f"a query of {label!r} is not text", expected="a phrase", seen=kind)
        if not _is_unicode(text):
            raise QueryError(f"a query of {label!r} is not valid Unicode", seen=repr(text))
    return texts


def _check_labels(labels: list[str]) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        looks = unicodedata.normalize("NFC", " ".join(label.split()))
        if not looks or not _is_unicode(label):
            raise QueryError("a label that cannot be shown", expected="text", seen=repr(label))
        if looks in seen:
            raise QueryError(
                "two classes have the same label", expected="labels that differ to the eye",
                seen=f"{seen[looks]!r} and {label!r}", do="Rename one, for example with a number.",
            )  # fmt: skip
        seen[looks] = label


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
