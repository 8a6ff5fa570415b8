"""What a chart means: findings in sentences, the most important first.

`examine.py` makes the chart, `tables.py` lays it out. All here are plain dicts, lists, texts and
numbers, for JSON, terminal and page alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from headwater.retrieve.doctor.chart import CROWD, Chart
from headwater.retrieve.doctor.examine import Doctor
from headwater.retrieve.doctor.relations import NESTED, SAME
from headwater.retrieve.doctor.tables import TOGETHER, WORDS_TOLD, Json, class_rows, pair_rows
from headwater.retrieve.scan.tokens import fold_case

FEW = 10  # curation keeps three in ten: of fewer captions hardly an image would stay
TOLD = 10  # findings of a kind told one by one; the rest are in the tables
SHARE_TOLD = 0.1  # of the smaller class; less than that is chance company


def diagnose(doctor: Doctor, chart: Chart, *, names: Mapping[str, str], has_vectors: bool) -> Json:
    """What was found, for each class and each pair, and what to think of it.

    Args:
        doctor: who made the chart.
        chart: of the whole pool.
        names: the display name of each label.
        has_vectors: whether the pool can be searched by neighbors.

    Returns:
        sentence: the whole in one; captions, missing, matched, crowds as in the chart; classes: one
        dict each, in the order of the queries; shared: pairs of classes, the most shared captions
        first; findings: {kind, labels, text}, the most important first.

    Example:
        >>> import polars as pl
        >>> from headwater.retrieve.doctor.examine import Block
        >>> doctor = Doctor({"fig": "fig"})
        >>> chart = doctor.examine([Block("0", 0, pl.Series(["figure 1", "figs"]))])
        >>> told = diagnose(doctor, chart, names={"fig": "fig"}, has_vectors=False)
        >>> told["findings"][0]["text"]
        '1 of 1 classes has no caption: fig.'
    """
    classes = class_rows(doctor, chart, names)
    shared = pair_rows(doctor, chart)
    told = {
        "mode": doctor.mode,
        "seed": doctor.seed,
        "captions": chart.captions,
        "missing": chart.missing,
        "matched": chart.matched,
        "crowds": chart.crowds,
        "few": FEW,
        "vectors": has_vectors,
        "classes": classes,
        "shared": shared,
    }
    findings = list(_findings(told, doctor, names))
    return {"sentence": _sentence(classes), **told, "findings": findings}


def _sentence(classes: list[Json]) -> str:
    """The state of the whole task."""
    empty = sum(not row["captions"] for row in classes)
    few = sum(0 < row["captions"] < FEW for row in classes)
    total = f"{len(classes):,} " + ("class" if len(classes) == 1 else "classes")
    if empty and few:
        return f"{empty:,} of {total} {_have(empty)} no caption, {few:,} fewer than {FEW}."
    if empty or few:
        what = "no caption" if empty else f"fewer than {FEW} captions"
        return f"{empty or few:,} of {total} {_have(empty or few)} {what}."
    least = min(row["captions"] for row in classes)
    return f"Each of {total} has {least:,} captions or more."


def _findings(told: Json, doctor: Doctor, names: Mapping[str, str]) -> Iterator[Json]:
    classes = told["classes"]
    empty = [row for row in classes if not row["captions"]]
    few = [row for row in classes if 0 < row["captions"] < FEW]
    yield from _thin(empty, len(classes), "no caption", "nothing")
    yield from _thin(few, len(classes), f"fewer than {FEW} captions", "few")
    if empty or few:
        yield _finding("neighbors", empty + few, _neighbors(told["vectors"]))
    yield from _same_queries(told["shared"], doctor)
    yield from _same_names(names)
    yield from _nested(told["shared"])
    yield from _together(told["shared"])
    yield from _plurals(classes)
    yield from _inside(classes)
    yield from _about_captions(told)


def _finding(kind: str, rows: Sequence[Json], text: str) -> Json:
    return {"kind": kind, "labels": _labels(rows), "text": text}


def _labels(rows: Sequence[Json]) -> list[str]:
    return [row["label"] for row in rows]


def _thin(rows: list[Json], total: int, what: str, kind: str) -> Iterator[Json]:
    """Classes with too few captions: all of them, then those for which something would help."""
    if not rows:
        return
    number = f"{len(rows):,} of {total:,} classes {_have(len(rows))} {what}"
    yield _finding(kind, rows, f"{number}: {_list(_labels(rows))}.")
    helped = sorted(filter(_help, rows), key=lambda row: -_most(row))
    for row in helped[:TOLD]:
        now = f"{_quoted(row['label'])} has {_captions(row['captions'])}"
        yield _finding(kind, [row], f"{now}. More would be found: {'; '.join(_help(row))}.")
    if len(helped) > TOLD:
        yield _finding(kind, helped[TOLD:], f"The same helps {len(helped) - TOLD:,} more of them.")
    left = [row for row in rows if not _help(row)]
    if left:
        tried = _list([*_tried(left), "plurals"])
        text = f"{tried[0].upper()}{tried[1:]} find no more of {_list(_labels(left))}."
        yield _finding(kind, left, text)


def _help(row: Json) -> list[str]:
    """What would find more captions of a class, in numbers of this pool."""
    ways = []
    if row["with_synonyms"]:
        named = sorted(row["synonyms"], key=lambda s: -s["captions"])
        ways.append(f"{row['with_synonyms']:,} with the synonyms ({_tally(named, 'synonym')})")
    if row["with_all"]:
        ways.append(f"{row['with_all']:,} with mode all")
    if row["plural"]:
        ways.append(f"{row['plural']['captions']:,} with {_quoted(row['plural']['word'])}")
    return ways


def _most(row: Json) -> int:
    plural: int = row["plural"]["captions"] if row["plural"] else 0
    return max(row["with_synonyms"] or 0, row["with_all"] or 0, plural)


def _tried(rows: list[Json]) -> list[str]:
    ways = {"with_synonyms": "the synonyms given", "with_all": "mode all"}
    return [name for way, name in ways.items() if any(row[way] is not None for row in rows)]


def _neighbors(has_vectors: bool) -> str:
    if has_vectors:
        return (
            "Neighbors need no caption: the pool has vectors, `retrieve --by neighbors` uses them."
        )
    return "Neighbors need no caption, but this pool has no vectors: `pool embed` makes them."


def _same_queries(shared: list[Json], doctor: Doctor) -> Iterator[Json]:
    counts = {frozenset((row["a"], row["b"])): row["captions"] for row in shared}
    for a, b, _, text in doctor.relations.filter(kind=SAME).head(TOLD).iter_rows():
        pair = [doctor.labels[a], doctor.labels[b]]
        number = counts.get(frozenset(pair), 0)
        yield {
            "kind": SAME,
            "labels": pair,
            "text": f"{_list(pair)} ask for the same words ({text}): "
            f"{_captions(number)} would go to both. Give each words of its own.",
        }


def _same_names(names: Mapping[str, str]) -> Iterator[Json]:
    labels: dict[str, list[str]] = {}
    for label, name in names.items():
        labels.setdefault(" ".join(fold_case(name).split()), []).append(label)
    for pair in [group for group in labels.values() if len(group) > 1][:TOLD]:
        text = f"{_list(pair)} have the same name ({names[pair[0]]}): no prompt tells them apart."
        yield {"kind": "name", "labels": pair, "text": text}


def _nested(shared: list[Json]) -> Iterator[Json]:
    rows = sorted((row for row in shared if row["kind"] == NESTED), key=lambda row: -row["only"])
    for row in [row for row in rows if row["only"]][:TOLD]:
        share = f"{row['only']:,} of the {row['of_a']:,} captions of {_quoted(row['a'])}"
        text = (
            f"{_quoted(row['a'])} stands inside {_quoted(row['b'])}: {share} "
            f"({_percent(row['only'], row['of_a'])}) name only {_quoted(row['b'])}."
        )
        yield {"kind": NESTED, "labels": [row["a"], row["b"]], "text": text}


def _together(shared: list[Json]) -> Iterator[Json]:
    """Pairs that share more than chance company."""
    rows = (row for row in shared if row["kind"] == TOGETHER and row["captions"] >= FEW)
    smaller = ((row, *min((row["of_a"], row["a"]), (row["of_b"], row["b"]))) for row in rows)
    strong = [each for each in smaller if each[0]["captions"] >= SHARE_TOLD * each[1]]
    for row, size, less in strong[:TOLD]:
        text = (
            f"{_quoted(row['a'])} and {_quoted(row['b'])} share {_captions(row['captions'])}, "
            f"{_percent(row['captions'], size)} of those of {_quoted(less)}."
        )
        yield {"kind": TOGETHER, "labels": [row["a"], row["b"]], "text": text}


def _plurals(classes: list[Json]) -> Iterator[Json]:
    many = (row for row in classes if row["captions"] >= FEW and row["plural"])
    rows = [row for row in many if row["plural"]["captions"] >= FEW]
    for row in sorted(rows, key=lambda row: -row["plural"]["captions"])[:TOLD]:
        word, number = row["plural"]["word"], row["plural"]["captions"]
        text = (
            f"{_captions(number)} {'says' if number == 1 else 'say'} {_quoted(word)} and not "
            f"{_quoted(row['label'])}, which {row['captions']:,} do: add it as a query."
        )
        yield _finding("plural", [row], text)


def _inside(classes: list[Json]) -> Iterator[Json]:
    rows = [row for row in classes if row["rejected"] >= FEW]
    for row in sorted(rows, key=lambda row: -row["rejected"])[:TOLD]:
        who = _quoted(row["label"])
        text = (
            f"{who if len(row['queries']) == 1 else f'A query of {who}'} stands inside longer "
            f"words in {_captions(row['rejected'])} "
            f"({_tally(row['inside'], 'word')}), which are left out; {row['captions']:,} are in."
        )
        yield _finding("inside", [row], text)


def _about_captions(told: Json) -> Iterator[Json]:
    if told["crowds"]:
        lists, verb = _captions(told["crowds"]), "names" if told["crowds"] == 1 else "name"
        text = f"{lists} {verb} more than {CROWD} classes: lists of words, not descriptions."
        yield {"kind": "crowd", "labels": [], "text": text}
    if told["missing"]:
        share = _percent(told["missing"], told["captions"])
        text = f"{told['missing']:,} of {told['captions']:,} pairs ({share}) have no caption."
        yield {"kind": "missing", "labels": [], "text": text}


def _captions(number: int) -> str:
    return "1 caption" if number == 1 else f"{number:,} captions" if number else "no caption"


def _tally(rows: Sequence[Json], kind: str) -> str:
    return ", ".join(f"{row[kind]} {row['captions']:,}" for row in rows[:WORDS_TOLD])


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _quoted(label: str) -> str:
    return f'"{label}"'


def _list(labels: Sequence[str]) -> str:
    if len(labels) > TOLD:
        return ", ".join(labels[:TOLD]) + f" and {len(labels) - TOLD:,} more"
    return " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(whole, 1)
    return f"{share:.0f} %" if share >= 1 or not part else "under 1 %"
