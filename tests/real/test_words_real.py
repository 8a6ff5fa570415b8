"""Phrase mode against SQLite's FTS5 over 349,125 real captions with five real class lists."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from pathlib import Path

import polars as pl
import pytest

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
        yield db


def class_queries(task):
    """Class names as phrases; where the task has a query of its own, the phrases it quotes."""
    facts = json.loads((DATA / "benchmarks" / f"{task}.json").read_text())
    quoted = {name: re.findall('"([^"]+)"', q) for name, q in facts["caption_query"].items()}
    return {name: quoted.get(name) or [name] for name in dict.fromkeys(facts["classes"])}


@pytest.mark.parametrize("task", TASKS)
def test_phrase_mode_finds_what_fts5_finds(task, captions, fts5):
    queries = class_queries(task)
    wanted = {
        (row, label)
        for label, phrases in queries.items()
        for phrase in phrases
        for (row,) in fts5.execute("select rowid from t where t match ?", [f'"{phrase}"'])
    }
    found = match_captions(captions, queries)
    assert found.height > 0
    assert set(found.select("row", "label").rows()) == wanted
