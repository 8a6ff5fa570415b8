"""Budgets: exactly n pairs, nested over n, as they come or with every class in its turn."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import CLASSES, import_set, make_task

from headwater.curate.budget import draw, share_out
from headwater.errors import InputError, SetError
from headwater.recipe import Recipe
from headwater.steps.adapt import draw_lesson
from headwater.study import Study
from headwater.task import Task

LABELS = st.lists(st.sampled_from(["rose", "fern", "yew", "oak"]), min_size=1, max_size=60)
BUDGETS = st.sampled_from(["as_they_come", "balanced"])
SHARES = st.lists(st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 0.85, 1.0]), min_size=1, max_size=5)


def plain_turns(labels: list[str], seed: int) -> list[int]:
    """Every class deals its shuffled rows, one a turn; who comes first in a turn is shuffled."""
    random = np.random.default_rng(seed)
    shuffled, place = random.permutation(len(labels)), random.permutation(len(labels))
    hands = {label: [row for row in shuffled if labels[row] == label] for label in set(labels)}
    order: list[int] = []
    while any(hands.values()):
        dealt = [hand.pop(0) for hand in hands.values() if hand]
        order += sorted((int(row) for row in dealt), key=lambda row: place[row])
    return order


@given(LABELS, st.integers(0, 5))
def test_classes_take_turns_as_in_the_plain_version(labels: list[str], seed: int) -> None:
    drawn = draw(labels, len(labels), seed=seed, budget="balanced")
    assert drawn.tolist() == plain_turns(labels, seed)


@given(LABELS, st.integers(0, 5), st.data())
def test_balanced_counts_differ_by_one_while_classes_have_more(
    labels: list[str], seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(labels)))
    drawn = Counter(labels[row] for row in draw(labels, n, seed=seed, budget="balanced"))
    have = Counter(labels)
    most = max(drawn.values(), default=0)
    assert all(drawn[label] >= most - 1 or drawn[label] == have[label] for label in have)


@given(LABELS, BUDGETS, st.integers(0, 5), st.data())
def test_budgets_are_exact_nested_and_draw_no_pair_twice(
    labels: list[str], budget: str, seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(labels)))
    m = data.draw(st.integers(0, n))
    many = draw(labels, n, seed=seed, budget=budget)
    assert len(many) == n == len(set(many.tolist()))
    assert draw(labels, m, seed=seed, budget=budget).tolist() == many[:m].tolist()


def test_as_they_come_is_the_paper_s_permutation() -> None:
    expected = np.random.default_rng(3).permutation(50)[:10]
    assert draw(["rose"] * 50, 10, seed=3).tolist() == expected.tolist()


@pytest.mark.parametrize("budget", ["as_they_come", "balanced"])
def test_seeds_draw_different_pairs(budget: str) -> None:
    labels = ["rose", "yew"] * 500
    drawn = [set(draw(labels, 20, seed=seed, budget=budget).tolist()) for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_no_class_always_goes_first() -> None:
    labels = ["rose"] * 90 + ["yew"] * 10
    first = {labels[draw(labels, 1, seed=seed, budget="balanced")[0]] for seed in range(20)}
    assert first == {"rose", "yew"}


@pytest.mark.parametrize("n", [-1, 6])
def test_a_budget_beyond_the_set_is_refused(n: int) -> None:
    with pytest.raises(InputError, match=f"expected 0 to 5, saw {n}"):
        draw(["rose"] * 5, n, seed=0)


def test_an_unknown_budget_is_refused() -> None:
    with pytest.raises(InputError, match="expected as_they_come or balanced, saw fair"):
        draw(["rose"], 1, seed=0, budget="fair")


@given(SHARES, st.integers(0, 400))
def test_mixes_are_exact_nested_and_keep_to_their_shares(shares: list[float], n: int) -> None:
    sizes = [1000] * len(shares)
    now, more = share_out(n, shares, sizes), share_out(n + 1, shares, sizes)
    assert sum(now) == n
    assert all(before <= after for before, after in zip(now, more, strict=True))
    for count, share in zip(now, shares, strict=True):
        assert count <= np.ceil(share / sum(shares) * n - 1e-9)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 30))
def test_shares_that_come_out_even_are_met(parts: list[int], times: int) -> None:
    even = [part * times for part in parts]
    assert share_out(sum(even), [float(part) for part in parts], [300] * len(parts)) == even


def test_a_small_set_cannot_give_its_share() -> None:
    with pytest.raises(SetError, match="expected 3 pairs, saw 2"):
        share_out(5, [0.5, 0.5], [2, 10])
    assert share_out(None, [0.5, 0.5], [2, 10]) == [2, 10]


def recipe(**changes: Any) -> Recipe:
    told = {
        "format": 1,
        "name": "small",
        "task": "miniature",
        "learner": {"model": "tiny"},
        "pool": {"path": "pool"},
        "sources": {"drawn": {"retrieve": {"by": "random"}}, "made": {"import": "made"}},
        "arms": {
            "drawn": {"source": "drawn", "objective": "contrastive"},
            "made": {"source": "made"},
        },
        "scales": [10],
        "primary": {"arm": "made", "against": "off-the-shelf"},
    }
    return Recipe.model_validate(told | changes)


def test_a_recipe_s_budget_reaches_its_trials(tmp_path: Path) -> None:
    arms = {"made": {"source": "made"}}
    for told, expected in (({}, "as_they_come"), ({"budget": "balanced"}, "balanced")):
        study = Study(tmp_path, recipe(arms=arms, **told))
        assert study.heat("made", study.recipe.arms["made"], 10, 0).budget == expected


def test_what_has_no_labels_is_neither_balanced_nor_learned() -> None:
    assert recipe().budget == "as_they_come"
    with pytest.raises(ValidationError, match="arm drawn: drawn has no classes that a budget"):
        recipe(budget="balanced")
    with pytest.raises(ValidationError, match="arm drawn: drawn has no labels to learn"):
        recipe(arms={"drawn": {"mix": {"made": 1, "drawn": 1}}, "made": {"source": "made"}})


def test_pairs_without_a_class_cannot_take_turns(tmp_path: Path) -> None:
    made = import_set(tmp_path / "made", make_task(tmp_path), {"rose/1.png": 1, "fern/1.png": 2})
    other = Task.model_validate({"format": 1, "name": "other", "classes": ["rose"]})
    told = {"n": 2, "seed": 0}
    assert len(draw_lesson({made: 1.0}, other, tiny_clip().geometry, **told).targets) == 2
    with pytest.raises(SetError, match="expected a label in every pair, saw 1 pairs without"):
        draw_lesson({made: 1.0}, other, tiny_clip().geometry, budget="balanced", **told)


@pytest.mark.parametrize("budget", ["as_they_come", "balanced"])
def test_lessons_of_a_mix_are_nested(tmp_path: Path, budget: str) -> None:
    task = make_task(tmp_path)
    pictures = {
        f"{label}/{i}.png": 40 * i + (label == "fern") for label in CLASSES for i in range(5)
    }
    sets = {import_set(tmp_path / name, task, pictures): 1.0 for name in ("one", "two", "three")}
    lessons = [
        draw_lesson(sets, task, tiny_clip().geometry, n=n, seed=3, budget=budget) for n in range(31)
    ]
    drawn = [Counter(picture.tobytes() for picture in lesson.pixels) for lesson in lessons]
    assert [sum(pixels.values()) for pixels in drawn] == list(range(31))
    assert all(few <= more for few, more in pairwise(drawn))
