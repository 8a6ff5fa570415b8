"""The composition map: what it draws, that it is whole, escaped and the same every time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from headwater.report.composition import legend, level, render_composition, short, strip

HOSTILE = '<script>alert("x")</script>'


def facts(
    classes: dict[str, tuple[int, list[int]]], attributes: list[str], *, target: int = 50
) -> dict[str, Any]:
    rows = [
        {"label": label, "name": label, "captions": captions, "with": counts}
        for label, (captions, counts) in classes.items()
    ]
    cells = [n for row in rows for n in (row["with"] if attributes else [row["captions"]])]
    return {
        "task": "garden",
        "target": target,
        "captions": 1_234_567,
        "matched": 89_012,
        "attributes": attributes,
        "holes": sum(n < target for n in cells),
        "empty": cells.count(0),
        "classes": rows,
    }


GARDEN = facts({"rose": (9_000, [80, 0]), "fern": (3, [0, 3])}, ["in snow", "at night"])


def body(page: str) -> str:
    return page.partition("</style>")[2]


def test_the_rarest_class_comes_first_and_holes_are_marked() -> None:
    page = body(render_composition(GARDEN))
    assert page.index("<bdi>fern</bdi></th>") < page.index("<bdi>rose</bdi></th>")
    cells = re.findall(r'<td class="cell (\w+)">([^<]+)</td>', page)
    assert cells == [("h0", "0"), ("h1", "3"), ("f0", "80"), ("h0", "0")]
    assert "3 of 4 pairs of class and attribute have fewer than 50 captions" in page
    assert "1,234,567" in page


def test_the_strips_say_how_many_holes_an_attribute_has() -> None:
    page = body(render_composition(GARDEN))
    assert re.findall(r'aria-label="(\d+) holes of (\d+)"', page) == [
        ("1", "2"),
        ("1", "2"),
        ("2", "2"),
    ]


def test_without_attributes_classes_are_the_holes() -> None:
    page = body(render_composition(facts({"rose": (90, []), "fern": (3, [])}, [])))
    assert "1 of 2 classes has fewer than 50 captions in the pool." in page
    assert '<td class="cell' not in page


def test_every_count_is_in_exactly_one_step_of_the_legend() -> None:
    for target in (1, 2, 7, 10, 50, 1000):
        looks = [step["look"] for step in legend(target)]
        seen = [level(n, target=target) for n in range(5 * target)]
        assert list(dict.fromkeys(seen)) == looks[: len(set(seen))]
        assert looks == sorted(looks, key=lambda look: (look[0] == "f", look))


def test_the_legend_says_the_bounds_of_the_steps() -> None:
    for target in (1, 7, 50):
        for step in legend(target):
            first, *end = (int(n.replace(",", "")) for n in re.findall(r"[\d,]+", step["text"]))
            assert {level(n, target=target) for n in (first, *end)} == {step["look"]}
            assert first == 0 or level(first - 1, target=target) != step["look"]


def test_a_strip_is_drawn_whole() -> None:
    counts = np.random.default_rng(0).integers(0, 300, 200).tolist()
    drawn = strip("x", counts, target=50)
    looks = [look for _, length, look in drawn["runs"] for _ in range(length)]
    assert looks == [level(n, target=50) for n in counts]
    starts = [start for start, _, _ in drawn["runs"]]
    lengths = [length for _, length, _ in drawn["runs"]]
    assert starts == [sum(lengths[:i]) for i in range(len(lengths))]


@pytest.mark.parametrize("count", [0, 9, 999, 1000, 9_949, 9_951, 99_999, 999_499, 10**7, 10**9])
def test_a_short_number_is_near_and_short(count: int) -> None:
    text = short(count)
    unit = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
    assert abs(float(text.rstrip("kMG")) * unit - count) <= 0.051 * max(count, 1)
    assert len(text) <= 4


def test_a_thousand_classes_are_all_there_most_of_them_folded() -> None:
    classes = {f"class {i}": (i, [i // 2, i // 3]) for i in range(1000)}
    page = body(render_composition(facts(classes, ["in snow", "at night"])))
    assert len(re.findall(r"<th scope=\"row\">", page)) == 1000
    shown, _, folded = page.partition("<details>")
    assert shown.count('<th scope="row">') == 60
    assert "940 more classes" in folded
    assert len(page) < 400_000


def test_texts_are_escaped_and_nothing_is_loaded() -> None:
    page = render_composition(facts({HOSTILE: (3, [0])}, [HOSTILE]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert " style=" not in page


def test_the_same_counts_give_the_same_page() -> None:
    assert render_composition(GARDEN) == render_composition(GARDEN)
