"""Class prompts against embeddings, and the untargeted draw: toys, and a plain version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, PoolError
from headwater.retrieve.neighbors import NEIGHBORS, search_neighbors
from headwater.retrieve.sample import random_rows

EAST, NORTH, NORTHEAST = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]


def plain_neighbors(queries, prompts, labels, images, texts, k):
    """{(row, label): (prompt, found_by, image score, text score)}, one prompt after another."""
    best = {}
    for kind, rows in (("image", images), ("text", texts)):
        for query, prompt, label in zip(queries, prompts, labels, strict=True):
            scores = rows @ query
            for row in sorted(range(len(rows)), key=lambda row: (-scores[row], row))[:k]:
                seen = best.setdefault((row, label), {})
                if kind not in seen or scores[row] > seen[kind][0]:
                    seen[kind] = (scores[row], prompt)
    return {
        key: (
            seen.get("image", seen.get("text"))[1],
            "both" if len(seen) == 2 else next(iter(seen)),
            seen.get("image", (None,))[0],
            seen.get("text", (None,))[0],
        )
        for key, seen in best.items()
    }


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    labels=st.lists(st.sampled_from(["rose", "fig", "yew"]), max_size=6),
    n=st.integers(0, 12),
    k=st.integers(1, 15),
    cut=st.integers(0, 12),
)
def test_equals_the_plain_version(seed, labels, n, k, cut):
    rng = np.random.default_rng(seed)
    queries = rng.integers(-4, 5, (len(labels), 3)) / 4  # coarse, so that scores tie
    images, texts = rng.integers(-4, 5, (2, n, 3)) / 4
    prompts = [f"prompt {i}" for i in range(len(labels))]
    found = search_neighbors(
        queries,
        prompts,
        labels,
        image_shards=np.split(images, [min(cut, n)]),
        text_shards=[texts],
        k=k,
    )
    wanted = plain_neighbors(queries, prompts, labels, images, texts, k)
    order = list(dict.fromkeys(labels))
    assert found.schema == NEIGHBORS
    assert found.rows() == [
        (row, label, *wanted[row, label])
        for row, label in sorted(wanted, key=lambda key: (key[0], order.index(key[1])))
    ]


def test_a_pair_counts_once_a_class_and_once_for_each_class():
    pool = np.array([EAST, NORTH, NORTHEAST])
    found = search_neighbors(
        np.array([EAST, NORTHEAST, NORTH]),
        ["a rose", "roses", "a fig"],
        ["rose", "rose", "fig"],
        image_shards=[pool],
        text_shards=[pool],
        k=2,
    )
    assert found.select("row", "label", "query").rows() == [
        (0, "rose", "a rose"),
        (1, "rose", "roses"),
        (1, "fig", "a fig"),
        (2, "rose", "roses"),
        (2, "fig", "a fig"),
    ]


def test_image_and_caption_each_find_their_own():
    found = search_neighbors(
        np.array([EAST]), ["a rose"], ["rose"],
        image_shards=[np.array([EAST, NORTH])], text_shards=[np.array([NORTH, NORTHEAST])], k=1,
    )  # fmt: skip
    assert found.select("row", "found_by", "image_score", "text_score").rows() == [
        (0, "image", 1.0, None),
        (1, "text", None, pytest.approx(0.6)),
    ]


def test_a_pool_without_image_embeddings_is_searched_by_caption():
    found = search_neighbors(
        np.array([EAST]), ["a rose"], ["rose"], image_shards=[], text_shards=[np.eye(2)], k=1
    )
    assert found.rows() == [(0, "rose", "a rose", "text", None, 1.0)]


def test_embeddings_out_of_step_are_refused():
    with pytest.raises(PoolError, match="expected 3 rows each, saw 2 text rows"):
        search_neighbors(
            np.array([EAST]), ["a rose"], ["rose"],
            image_shards=[np.ones((3, 2))], text_shards=[np.ones((2, 2))], k=1,
        )  # fmt: skip


def test_queries_out_of_step_are_refused():
    with pytest.raises(InputError, match="saw 1 queries, 1 prompts, 2 labels"):
        search_neighbors(
            np.array([EAST]), ["a rose"], ["rose", "fig"],
            image_shards=[np.eye(2)], text_shards=[], k=1,
        )  # fmt: skip
    with pytest.raises(InputError, match="expected image or text shards"):
        search_neighbors(
            np.array([EAST]), ["a rose"], ["rose"], image_shards=[], text_shards=[], k=1
        )


@given(n_rows=st.integers(0, 50), n=st.integers(0, 60), seed=st.integers(0, 99))
def test_random_rows_are_distinct_rows_in_order(n_rows, n, seed):
    rows = random_rows(n_rows, n, seed=seed).tolist()
    assert len(rows) == min(n, n_rows)
    assert rows == sorted(set(rows))
    assert set(rows) <= set(range(n_rows))
    assert rows == random_rows(n_rows, n, seed=seed).tolist()


def test_random_rows_favor_no_row():
    counts = sum(np.isin(np.arange(10), random_rows(10, 3, seed=seed)) for seed in range(1000))
    assert abs(counts - 300).max() < 60  # four standard deviations


def test_random_rows_cannot_be_negative():
    with pytest.raises(InputError, match="saw -1 of 5"):
        random_rows(5, -1, seed=0)
