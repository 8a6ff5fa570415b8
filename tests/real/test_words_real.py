"""Phrases, mode all and expressions against SQLite's FTS5 over 349,125 real captions."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import polars as pl
import pytest

from headwater.expression import Expression, parse_query, phrases_of
from headwater.retrieve.scan.tokens import tokenize
from headwater.retrieve.words import match_captions

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[3] / "shared" / "data"))
TASKS = ["imagenet", "dtd", "fgvc_aircraft", "stanford_cars", "flowers102"]

pytestmark = pytest.mark.skipif(
    not (DATA / "captions").is_dir(),
    reason="no real captions here; point HEADWATER_DATA at the folder that has captions/",
)


@pytest.fixture(scope="module")
def captions():
    return pl.read_parquet(DATA / "captions" / "*.parquet")["caption"]


@pytest.fixture(scope="module")
def fts5(captions):
    with sqlite3.connect(":memory:") as db:
        db.execute("create virtual table t using fts5(c, tokenize='unicode61 remove_diacritics 2')")
        db.executemany("insert into t(rowid, c) values (?, ?)", enumerate(captions))
        yield lambda ask: {
            row for (row,) in db.execute("select rowid from t where t match ?", [ask])
        }


def facts(task):
    return json.loads((DATA / "benchmarks" / f"{task}.json").read_text())


def quote(phrase):
    return '"' + phrase.replace('"', '""') + '"'


def all_words(text):
    tokens = tokenize(pl.Series([text]))
    words = [tokens.text[at:to].decode() for at, to in zip(tokens.at, tokens.to, strict=True)]
    return " AND ".join(map(quote, words))


def in_fts5(query, mode):
    """What to ask FTS5; words without quotes, which it would not read, are quoted."""
    if isinstance(query, Expression):
        quoted = '"' in query.text
        return query.text if quoted else " ".join(quote(p.text) for p in phrases_of(query.root))
    apart = mode == "all" or (mode == "reference" and not set(query) & set("-/"))
    return all_words(query) if apart else quote(query)


def pairs(found):
    return set(found.select("row", "label").rows())


@pytest.mark.parametrize("mode", ["phrase", "all"])
@pytest.mark.parametrize("task", TASKS)
def test_class_names_find_what_fts5_finds(task, mode, captions, fts5):
    names = list(dict.fromkeys(facts(task)["classes"]))
    wanted = {(row, name) for name in names for row in fts5(in_fts5(name, mode))}
    assert wanted or task == "stanford_cars"  # nobody writes "Audi S6 Sedan 2011" in one go
    found = match_captions(captions, {name: name for name in names}, mode=mode)
    assert pairs(found) == wanted


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_queries_find_what_fts5_finds(task, captions, fts5):
    own = {name: parse_query(text) for name, text in facts(task)["caption_query"].items()}
    queries = {name: own.get(name, name) for name in dict.fromkeys(facts(task)["classes"])}
    wanted = {(row, n) for n, query in queries.items() for row in fts5(in_fts5(query, "reference"))}
    assert pairs(match_captions(captions, queries, mode="reference")) == wanted


@pytest.mark.parametrize(
    "text",
    [
        '"dog" NOT "cat"',
        '"dog" NOT "cat" AND "park" OR "frisbee"',
        '"man" "horse" NOT ("hat" OR "beach")',
        '("red" OR "blue") AND ("bus" OR "car") NOT "street"',
        'ball bat NOT catcher NOT "home plate"',
    ],
)
def test_expressions_find_what_fts5_finds(text, captions, fts5):
    found = match_captions(captions, {"x": parse_query(text)})
    assert found.height > 0
    assert set(found["row"]) == fts5(text)
