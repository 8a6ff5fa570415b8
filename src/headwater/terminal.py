"""What commands print: results as JSON for machines, or in a few plain lines for people.

Names and captions come from outside, so every text passes `plain`: nothing in it is markup and
no control character reaches the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headwater.errors import plain
from headwater.pairs import WAITING
from headwater.report.composition import sentence

LETTERS = 500  # of a caption that are shown; --json has all

Row = Mapping[str, Any]


def show(value: Any, as_json: bool, human: Callable[[Any], None]) -> None:
    """Print a result as JSON, or the way `human` prints it."""
    if as_json:
        print(json.dumps(value, indent=1, ensure_ascii=False, default=str))
    else:
        human(value)


ASIDES = {
    WAITING: "need download",
    "repeated": "captions repeated",
    "empty": "answers empty",
    "lost": "answers without their class",
    "unreadable": "images not described",
    "cut": "captions cut short",
    "halved": "blocks halved",
}
"""What is counted of a set beside its gates, and how it is said."""


def pairs(counts: Mapping[str, int]) -> None:
    """Pairs left after each gate, on one line."""
    gates = [f"{n:,} {gate}" for gate, n in counts.items() if gate not in ASIDES]
    asides = [f"{counts[key]:,} {said}" for key, said in ASIDES.items() if counts.get(key)]
    print("; ".join([" -> ".join(gates), *asides]))


def backgrounds(value: Row) -> None:
    """Where a task was written, and how many backgrounds its classes have."""
    counts = value["backgrounds"].values()
    print(plain(f"{value['task']}: {min(counts)} to {max(counts)} backgrounds a class"))


def curve(sets: Mapping[str, Mapping[str, int]]) -> None:
    """Pairs left after each gate, a line a set."""
    for name, counts in sets.items():
        print(f"{name}: ", end="")
        pairs(counts)


def facts(values: Row) -> None:
    """One line a fact, values aligned."""
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        print(f"{key:<{width}}  {text(value)}")


def rows(table: Sequence[Row]) -> None:
    """A table, columns aligned; numbers to the right."""
    if not table:
        print("nothing")
        return
    cells = [list(table[0]), *([text(value) for value in row.values()] for row in table)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    right = [isinstance(value, int | float) for value in table[0].values()]
    for row in cells:
        parts = [
            cell.rjust(width) if r else cell.ljust(width)
            for cell, width, r in zip(row, widths, right, strict=True)
        ]
        print("  ".join(parts).rstrip())


def rows_by_name(values: Mapping[str, Row]) -> None:
    """One line a name: its values, named."""
    for name, row in values.items():
        print(f"{plain(name)}: " + ", ".join(f"{key} {text(value)}" for key, value in row.items()))


def story(stories: Sequence[Row]) -> None:
    """What became of a pair, under each label: its fate, where it came from, its scores."""
    for number, told in enumerate(stories):
        if number:
            print()
        print(plain(_fate(told)))
        for name, value in _origin(told).items():
            print(f"    {name:<8} {plain(value)}")
        if told["scores"]:
            rows([_score_row(score) for score in told["scores"]])


def _fate(told: Row) -> str:
    fate = "kept" if told["kept"] else "dropped"
    reason = "" if told["kept"] else f": {told['reason']}"
    score = "" if told["score"] is None else f", score {text(told['score'])}"
    return (
        f"{told['id']} as {told['label'] or '(no label)'}: {fate} at {told['step']}{reason}{score}"
    )


def _origin(told: Row) -> dict[str, str]:
    """What is on record of a pair, in the order of its way; nothing stands there empty."""
    pair, image, copy = told["pair"] or {}, told["image"], told["copy"]
    span = f", bytes {pair['start']} to {pair['end']}" if told["match"] else ""
    query = f' with "{pair["query"]}"{span}' if pair.get("query") else ""
    facts = {
        "from": f"{told['pool']}, key {told['key']}",
        "url": pair.get("url"),
        "found by": f"{pair['found_by']}{query}" if pair.get("found_by") else "",
        "caption": _marked(told["match"]) if told["match"] else _short(pair.get("caption") or ""),
        "image": "{width} x {height} {codec}, as it came".format_map(image) if image else "",
        "passed": ", ".join(told["passed"]),
        "copy": _nearest(copy) if copy else "",
        "more": "" if pair else "nothing: all that the set has of it is this decision",
    }
    return {name: value for name, value in facts.items() if value}


def _nearest(copy: Row) -> str:
    limit = "" if copy["limit"] is None else f"; a copy is above {text(copy['limit'])}"
    return f"nearest is {copy['of']}, similarity {text(copy['similarity'])}{limit}"


def _marked(match: Row) -> str:
    """A caption with its match in brackets; of a long one what stands around it."""
    room = LETTERS // 2
    before, after = match["before"][-room:], match["after"][:room]
    ends = ["... " if before != match["before"] else "", " ..." if after != match["after"] else ""]
    return f"{ends[0]}{before}[{_short(match['match'])}]{after}{ends[1]}"


def _score_row(score: Row) -> Row:
    fates = {True: "passed", False: "fell", None: "not reached" if score["gate"] else None}
    return {
        "score": score["score"],
        "value": score["value"],
        "rank": None if score["rank"] is None else f"{score['rank']:,} of {score['of']:,}",
        "gate": fates[score["passed"]],
        "lowest kept": score["lowest_kept"],
        "cut": score["cut"],
    }


def task(value: Row) -> None:
    """Classes, queries, prompts and splits of a task."""
    print(f"{plain(value['name'])}: {len(value['classes'])} classes")
    for row in value["classes"]:
        queries = ", ".join([*row["queries"], *row["caption_query"]])
        print(plain(f"  {row['label']}: {row['name']}; queries: {queries}"))
    for kind, templates in value["prompts"].items():
        print(plain(f"  {kind} prompts: {' | '.join(templates)}"))
    print(plain("  splits: " + (", ".join(value["images"]) or "none, names only")))


def doctor(value: Row) -> None:
    """One line a class, then what was found, the most important first."""
    rows([_doctor_row(row) for row in value["classes"]])
    print()
    print(plain(value["sentence"]))
    for finding in value["findings"]:
        print(plain(f"- {finding['text']}"))
    print(f"{value['matched']:,} of {value['captions']:,} captions name a class.")


def composition(value: Row) -> None:
    """One line a class, the rarest first, then what is missing in a sentence."""
    rarest_first = sorted(value["classes"], key=lambda row: (row["captions"], row["label"]))
    heads = [plain(f"+ {attribute}") for attribute in value["attributes"]]
    rows(
        [
            {"class": row["label"], "captions": row["captions"]}
            | dict(zip(heads, row["with"], strict=True))
            for row in rarest_first
        ]
    )
    print()
    print(plain(sentence(value)))


def _doctor_row(row: Row) -> Row:
    inside = [f"{word['word']} {word['captions']:,}" for word in row["inside"][:3]]
    return {
        "class": row["label"],
        "captions": row["captions"],
        "shared": row["captions"] - row["alone"],
        "inside": row["rejected"],
        "+synonyms": row["with_synonyms"],
        "+all": row["with_all"],
        "longer words": ", ".join(inside) or None,
    }


def summary(value: Row) -> None:
    """A finished study: its funnels, its numbers, its answer, and where the report is."""
    for source, counts in value["funnels"].items():
        print(f"{plain(source)}: ", end="")
        pairs(counts)
    print()
    rows(value["results"])
    print()
    for note in value["notes"]:
        print(plain(f"note: {note}"))
    print(plain(value["verdict"]))
    print(plain(f"report: {value['report']}"))


def verdict(entries: Sequence[Row]) -> None:
    """Every comparison of a study, one line each."""
    names = ("metric", "scale", "arm", "against", "difference", "low", "high", "p_holm", "call")
    rows([{name: entry[name] for name in names} for entry in entries])


def _short(value: str) -> str:
    return value if len(value) <= LETTERS else f"{value[:LETTERS]} ... ({len(value):,} letters)"


def text(value: object) -> str:
    """A value as people read it.

    Example:
        >>> text(12345), text(0.123456), text(None)
        ('12,345', '0.1235', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value) or "-"
    return plain(str(value))
