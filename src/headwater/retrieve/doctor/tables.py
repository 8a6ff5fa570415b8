"""Tables: what a chart counted, as one row a class and one a pair of classes.

All here are plain dicts, lists, texts and numbers; what they mean is said by `diagnosis.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from headwater.retrieve.doctor.chart import Chart
from headwater.retrieve.doctor.examine import Doctor
from headwater.retrieve.queries import Query

WORDS_TOLD = 5  # longer words that hold a class's queries
TOGETHER = "together"  # classes in the same captions whose queries have nothing to do with it

Json = dict[str, Any]


def class_rows(doctor: Doctor, chart: Chart, names: Mapping[str, str]) -> list[Json]:
    """What was counted of each class, in the order of the queries."""
    found, alone, rejected, synonymous, all_words = (
        dict(table.iter_rows())
        for table in (
            chart.found, chart.alone, chart.rejected, chart.synonymous, chart.all_words,
        )
    )  # fmt: skip
    by_query, by_synonym = _ranked(chart.queries), _ranked(chart.synonyms)
    words, samples = _grouped(chart.inside), _grouped(chart.samples.drop("hash"))
    return [
        {
            "label": label,
            "name": names[label],
            "captions": found.get(i, 0),
            "alone": alone.get(i, 0),
            "queries": _counted("query", doctor.queries[i], by_query.get(i, {})),
            "rejected": rejected.get(i, 0),
            "inside": words.get(i, [])[:WORDS_TOLD],
            "plural": _plural(doctor.queries[i], words.get(i, [])),
            "with_synonyms": synonymous.get(i, 0) if doctor.synonyms[i] else None,
            "synonyms": _counted("synonym", doctor.synonyms[i], by_synonym.get(i, {})),
            "with_all": all_words.get(i, 0) if doctor.loosened[i] else None,
            "samples": samples.get(i, []),
        }
        for i, label in enumerate(doctor.labels)
    ]


def pair_rows(doctor: Doctor, chart: Chart) -> list[Json]:
    """Pairs of classes with captions in common, the most first; of nested names `a` is shorter."""
    found = dict(chart.found.iter_rows())
    kinds = {(a, b): kind for a, b, kind, _ in doctor.relations.iter_rows()}
    rows = []
    for a, b, captions, only in chart.shared.iter_rows():
        inner, outer = (b, a) if (b, a) in kinds and (a, b) not in kinds else (a, b)
        rows.append(
            {
                "a": doctor.labels[inner],
                "b": doctor.labels[outer],
                "kind": kinds.get((inner, outer), TOGETHER),
                "captions": captions,
                "of_a": found[inner],
                "of_b": found[outer],
                "only": only,
            }
        )
    return sorted(rows, key=lambda row: (-row["captions"], row["a"], row["b"]))


def _ranked(table: pl.DataFrame) -> dict[int, dict[int, int]]:
    counts: dict[int, dict[int, int]] = {}
    for number, rank, captions in table.iter_rows():
        counts.setdefault(number, {})[rank] = captions
    return counts


def _grouped(table: pl.DataFrame) -> dict[int, list[Json]]:
    rows: dict[int, list[Json]] = {}
    for row in table.iter_rows(named=True):
        rows.setdefault(row.pop("class"), []).append(row)
    return rows


def _counted(kind: str, queries: Sequence[Query], counts: Mapping[int, int]) -> list[Json]:
    return [{kind: str(query), "captions": counts.get(i, 0)} for i, query in enumerate(queries)]


def _plural(queries: Sequence[Query], words: list[Json]) -> Json | None:
    """The commonest word that looks like an English plural of a query."""
    texts = [str(query).lower() for query in queries]
    forms = {text + "s" for text in texts} | {text + "es" for text in texts}
    forms |= {text[:-1] + "ies" for text in texts if text.endswith("y")}
    return next((word for word in words if word["word"] in forms), None)
