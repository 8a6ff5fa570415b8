"""Class prompts against embeddings, and the untargeted draw: toys, and a plain version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, PoolError
from headwater.retrieve import lookalikes
from headwater.retrieve.lookalikes import find_lookalikes, groups
from headwater.retrieve.neighbors import NEIGHBORS, search_neighbors
from headwater.retrieve.sample import random_rows
from headwater.retrieve.vector_queries import Queries, average_queries, example_queries
from headwater.rows import Rows

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
            "image+text" if len(seen) == 2 else next(iter(seen)),
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
        Queries(queries, prompts, labels),
        image_shards=np.split(images, [min(cut, n)]),
        text_shards=[texts],
        k=k,
    ).hits
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
        Queries(
            np.array([EAST, NORTHEAST, NORTH]),
            ["a rose", "roses", "a fig"],
            ["rose", "rose", "fig"],
        ),
        image_shards=[pool],
        text_shards=[pool],
        k=2,
    ).hits
    assert found.select("row", "label", "query").rows() == [
        (0, "rose", "a rose"),
        (1, "rose", "roses"),
        (1, "fig", "a fig"),
        (2, "rose", "roses"),
        (2, "fig", "a fig"),
    ]


def test_image_and_caption_each_find_their_own():
    found = search_neighbors(
        Queries(np.array([EAST]), ["a rose"], ["rose"]),
        image_shards=[np.array([EAST, NORTH])], text_shards=[np.array([NORTH, NORTHEAST])], k=1,
    )  # fmt: skip
    assert found.hits.select("row", "found_by", "image_score", "text_score").rows() == [
        (0, "image", 1.0, None),
        (1, "text", None, pytest.approx(0.6)),
    ]


def test_a_pool_without_image_embeddings_is_searched_by_caption():
    found = search_neighbors(
        Queries(np.array([EAST]), ["a rose"], ["rose"]),
        image_shards=[],
        text_shards=[np.eye(2)],
        k=1,
    )
    assert found.hits.rows() == [(0, "rose", "a rose", "text", None, 1.0)]


def test_embeddings_out_of_step_are_refused():
    with pytest.raises(PoolError, match="expected 3 rows each, saw 2 text rows"):
        search_neighbors(
            Queries(np.array([EAST]), ["a rose"], ["rose"]),
            image_shards=[np.ones((3, 2))], text_shards=[np.ones((2, 2))], k=1,
        )  # fmt: skip


def test_queries_out_of_step_are_refused():
    with pytest.raises(InputError, match="saw 1 queries, 1 prompts, 2 labels"):
        search_neighbors(
            Queries(np.array([EAST]), ["a rose"], ["rose", "fig"]),
            image_shards=[np.eye(2)], text_shards=[], k=1,
        )  # fmt: skip
    with pytest.raises(InputError, match="expected image or text shards"):
        search_neighbors(
            Queries(np.array([EAST]), ["a rose"], ["rose"]), image_shards=[], text_shards=[], k=1
        )


def plain_groups(vectors, threshold):
    """The first of each group, by walking from one vector to all that are alike, and on."""
    unit = [v / np.linalg.norm(v) for v in vectors]
    first = [None] * len(unit)
    for start in range(len(unit)):
        walk = [start] if first[start] is None else []
        while walk:
            here = walk.pop()
            first[here] = start
            alike = [n for n in range(len(unit)) if unit[here] @ unit[n] > threshold]
            walk += [n for n in alike if first[n] is None]
    return first


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 40), threshold=st.sampled_from([0.5, 0.9, 1]))
def test_groups_are_chains_of_what_is_alike(seed, n, threshold):
    vectors = np.random.default_rng(seed).normal(size=(n, 4))
    assert groups(vectors, threshold=threshold).tolist() == plain_groups(vectors, threshold)


def test_a_long_chain_is_one_group_and_blank_vectors_are_alone():
    angles = np.linspace(0, 3, 60)
    order = np.random.default_rng(0).permutation(60)
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1)[order]
    assert groups(chain, threshold=0.99).tolist() == [0] * 60
    blank = np.array([[np.nan, 1], [0, 0], [np.nan, 1], [0, 0], [1, 0]])
    assert groups(blank, threshold=0.94).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("gather_bytes", [1, 2**30])
def test_the_best_scored_of_a_group_stays_for_each_query(monkeypatch, gather_bytes):
    monkeypatch.setattr("headwater.retrieve.lookalikes.GATHER_BYTES", gather_bytes)
    rows = Rows([np.array([EAST, [0.99, 0.01]]), np.array([NORTH, [5.0, 0.2]])])
    ids = np.array([[3, 1, 2, 0], [0, 2, -1, -1], [-1, -1, -1, -1]])
    instead = find_lookalikes(ids, rows, threshold=0.94)
    assert instead.tolist() == [[-1, 3, -1, 3], [-1, -1, -1, -1], [-1, -1, -1, -1]]


def test_lookalikes_are_grouped_the_same_in_any_blocks(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(40, 3))
    whole = groups(vectors, threshold=0.9)
    for rows in (1, 7, 40):
        monkeypatch.setattr(lookalikes, "GATHER_BYTES", rows * len(vectors) * 4)
        assert groups(vectors, threshold=0.9).tolist() == whole.tolist()


def test_lookalikes_are_dropped_and_told_with_what_stays_instead():
    images = np.array([EAST, [0.999, 0.001], NORTHEAST, [0.59, 0.81]])
    texts = np.array([NORTH, NORTH, [0.1, 0.9], NORTH])
    asked = Queries(np.array([EAST, NORTHEAST]), ["a rose", "a fig"], ["rose", "fig"])
    shards = {"image_shards": [images[:3], images[3:]], "text_shards": [texts]}
    found = search_neighbors(asked, **shards, k=3, duplicates=0.94)
    # "a rose" finds 0 1 2 by image and, by captions that tie or nearly so, 2 0 1
    assert found.hits.filter(label="rose").select("row", "found_by").rows() == [
        (0, "image+text"),
        (2, "image+text"),
    ]
    # "a fig" finds 3 2 1 by image and 0 1 3 by caption: 1 is dropped there but kept here
    assert found.hits.filter(label="fig")["row"].to_list() == [0, 1, 3]
    assert found.lookalikes.rows() == [(1, "rose", 0), (2, "fig", 3)]


def test_a_pair_that_one_prompt_drops_and_another_keeps_stays():
    images = np.array([EAST, [0.98, 0.2], NORTH])
    asked = Queries(np.array([EAST, [0.98, 0.2]]), ["a rose", "roses"], ["rose", "rose"])
    found = search_neighbors(asked, image_shards=[images], text_shards=[], k=2, duplicates=0.94)
    assert found.hits.select("row", "query").rows() == [(0, "a rose"), (1, "roses")]
    assert found.lookalikes.is_empty()


def test_without_image_embeddings_captions_say_what_is_alike():
    texts = np.array([EAST, EAST, NORTH])
    asked = Queries(np.array([EAST]), ["a rose"], ["rose"])
    found = search_neighbors(asked, image_shards=[], text_shards=[texts], k=3, duplicates=0.94)
    assert found.hits["row"].to_list() == [0, 2]
    assert found.lookalikes.rows() == [(1, "rose", 0)]


def test_rows_without_an_embedding_are_counted_by_kind():
    images, texts = np.array([EAST, [np.nan, 0]]), np.array([[np.inf, 0], [0, np.nan]])
    asked = Queries(np.array([EAST]), ["a rose"], ["rose"])
    found = search_neighbors(asked, image_shards=[images], text_shards=[texts], k=2)
    assert found.blank == {"image": 1, "text": 2}
    assert found.hits.select("row", "found_by").rows() == [(0, "image")]


def test_the_mean_of_a_class_weighs_its_prompts_alike():
    asked = Queries(np.array([EAST, [0, 7], NORTH]), ["one", "two", "three"], ["yew", "yew", "fig"])
    mean = average_queries(asked)
    assert mean.features == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], NORTH]))
    assert (mean.names, mean.labels) == (["mean of 2: one, ...", "three"], ["yew", "fig"])
    assert average_queries(Queries(np.empty((0, 4)), [], [])).features.shape == (0, 4)


def test_examples_are_queries_of_their_own_or_one_a_class():
    features = np.array([[0, 2.0], [3, 4], [6, 8]], dtype=np.float16)
    asked = example_queries(features, ["fig", "yew", "yew"])
    assert asked.features.tolist() == [NORTH, NORTHEAST, NORTHEAST]
    assert list(asked.names) == ["example 1 of fig", "example 1 of yew", "example 2 of yew"]
    assert average_queries(asked).features == pytest.approx(np.array([NORTH, NORTHEAST]))
    found = search_neighbors(asked, image_shards=[np.array([EAST, NORTH])], text_shards=[], k=1)
    assert found.hits.select("row", "label", "query").rows() == [
        (1, "fig", "example 1 of fig"),
        (1, "yew", "example 1 of yew"),
    ]


@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        ([EAST, [0.0, 0.0]], ["fig", "yew"], "saw 'example 1 of yew' of length 0"),
        ([[np.nan, 1.0]], ["fig"], "saw 'example 1 of fig' of length nan"),
        ([EAST], ["fig", "yew"], r"saw features \(1, 2\), 2 names, 2 labels"),
    ],
)
def test_examples_of_the_wrong_kind(features, labels, says):
    with pytest.raises(InputError, match=says):
        example_queries(np.array(features), labels)


def test_prompts_that_cancel_out_have_no_mean():
    asked = Queries(np.array([EAST, [-1.0, 0.0]]), ["one", "two"], ["yew", "yew"])
    with pytest.raises(InputError, match=r"saw 'mean of 2: one, \.\.\.' of length 0"):
        average_queries(asked)


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
