"""Exact search against a float64 brute force, for every split into shards and every block size."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headwater import candidates, topk
from headwater.errors import InputError, PoolError
from headwater.rows import Rows
from headwater.topk import search, top_k

quickly = settings(max_examples=80, deadline=None)


def brute_force(queries, rows, k):
    """Every score in float64; falling, ties by lower id, rows that are not finite left out."""
    scores = np.full((len(queries), k), -np.inf)
    ids = np.full((len(queries), k), -1)
    sound = np.flatnonzero(np.isfinite(rows).all(axis=1))
    for i, query in enumerate(queries.astype(np.float64)):
        exact = (rows[sound].astype(np.float64) * query).sum(axis=1)
        order = np.lexsort((sound, -exact))[:k]
        scores[i, : len(order)], ids[i, : len(order)] = exact[order], sound[order]
    return scores, ids


def split(rows, cuts):
    return np.split(rows, sorted(min(cut, len(rows)) for cut in cuts))


@contextmanager
def bounds(*, small, held):
    """Floors that rise from the first row on, if `small`; rows held for so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(topk, "spare", lambda k: 0)
            patch.setattr(candidates, "spare", lambda k: 0)
            patch.setattr(topk, "FIRST_ROWS", 1)
        patch.setattr(topk, "HELD_BYTES", held)
        yield


DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
QUARTERS = st.integers(-8, 8).map(lambda n: n / 4)  # sums of their products are exact: true ties
SPOILED = st.one_of(QUARTERS, st.sampled_from([np.nan, np.inf, -np.inf]))
COUNTS, SIZES = st.integers(1, 12), st.integers(1, 31)
CUTS = st.lists(st.integers(0, 30), max_size=4)


@st.composite
def small_pools(draw):
    d = draw(st.integers(1, 5))
    queries = draw(arrays(np.float32, (draw(st.integers(1, 4)), d), elements=QUARTERS))
    rows = draw(arrays(np.float64, (draw(st.integers(0, 30)), d), elements=SPOILED))
    return queries, rows.astype(draw(DTYPES))


@quickly
@given(
    pool=small_pools(),
    cuts=CUTS,
    k=COUNTS,
    block_rows=SIZES,
    small=st.booleans(),
    held=st.sampled_from([1, 100, 2**20]),
)
def test_equals_brute_force_for_any_shards_and_blocks(pool, cuts, k, block_rows, small, held):
    queries, rows = pool
    with bounds(small=small, held=held):
        found = search(queries, split(rows, cuts), k, block_rows=block_rows)
    wanted_scores, wanted_ids = brute_force(queries, rows, k)
    assert (found.scores.dtype, found.ids.dtype) == (np.float32, np.int64)
    assert np.array_equal(found.ids, wanted_ids)
    assert np.array_equal(found.scores, wanted_scores.astype(np.float32))
    assert found.blank == (~np.isfinite(rows).all(axis=1)).sum()


@quickly
@given(
    seed=st.integers(0, 10_000),
    dtype=DTYPES,
    cuts=CUTS,
    k=COUNTS,
    block_rows=SIZES,
    length=st.sampled_from([0, 30, 1000]),
    small=st.booleans(),
)
def test_near_ties_are_settled_in_float64(seed, dtype, cuts, block_rows, k, length, small):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(3, 33))
    # float32 cannot rank these, and some are long in a direction that no query has
    rows = rng.normal(size=33) / 6 + rng.normal(size=(30, 33)) * 1e-8
    away = np.linalg.svd(queries)[2][3:]
    rows[::2] += length * rng.normal(size=(15, len(away))) @ away
    rows = rows.astype(dtype)
    with bounds(small=small, held=2**20):
        scores, ids = top_k(queries, split(rows, cuts), k, block_rows=block_rows)
    wanted_scores, wanted_ids = brute_force(queries, rows, k)
    assert np.array_equal(ids, wanted_ids)
    assert np.array_equal(scores, wanted_scores.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block_rows", [100, 999, 5000])
def test_equals_brute_force_on_vectors_like_clips(dtype, block_rows):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)
    rows[1000:2000] = rows[:1000]  # a pool repeats itself
    queries = rng.normal(size=(20, 64)).astype(np.float32)
    _, ids = top_k(queries, split(rows, [1500, 1501]), 100, block_rows=block_rows)
    assert np.array_equal(ids, brute_force(queries, rows, 100)[1])


def test_a_score_that_float32_cannot_tell_apart():
    rows = np.array([[1, 0], [1, 2**-30], [1, 2**-31]], dtype=np.float32)
    assert top_k(np.ones((1, 2), np.float32), [rows], 3)[1].tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("block_rows", [64, 1000, 5000])
def test_a_pool_of_one_picture_gives_the_first_ids(block_rows):
    rows = np.tile(np.float32([0.1, 0.7, 0.3]), (4000, 1))
    rows[3000] *= 2
    queries = np.float32([[0.3, 0.3, 0.9], [-1, -1, -1]])
    _, ids = top_k(queries, [rows], 3, block_rows=block_rows)
    assert ids.tolist() == [[3000, 0, 1], [0, 1, 2]]


def test_many_queries_and_candidates_stay_within_bounds(monkeypatch):
    monkeypatch.setattr(topk, "STATE_BYTES", 24 * 7 * 3)  # three queries a pass
    monkeypatch.setattr(topk, "spare", lambda k: 0)
    monkeypatch.setattr(candidates, "spare", lambda k: 0)
    monkeypatch.setattr(topk, "SCORES", 100)  # 33 rows a block
    monkeypatch.setattr(topk, "HELD_BYTES", 4096)
    monkeypatch.setattr(candidates, "PAIRS", 5)
    rng = np.random.default_rng(1)
    rows, queries = rng.integers(-2, 3, (500, 3)) / 2, rng.integers(-2, 3, (10, 3)) / 2
    scores, ids = top_k(queries, [rows], 7, block_rows=50)
    wanted_scores, wanted_ids = brute_force(queries, rows, 7)
    assert np.array_equal(ids, wanted_ids)
    assert np.array_equal(scores, wanted_scores)


def test_a_very_long_row_does_not_blur_the_others():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(3000, 8)).astype(np.float32)
    rows[[5, 2500]] *= [[1e6], [-1e6]]
    queries = rng.normal(size=(5, 8)).astype(np.float32)
    _, ids = top_k(queries, [rows], 50, block_rows=700)
    assert np.array_equal(ids, brute_force(queries, rows, 50)[1])


@pytest.mark.parametrize("exponent", [-1000, -300, -140, -80, -30, 60])
def test_scale_does_not_matter(exponent):
    rng = np.random.default_rng(4)
    queries = rng.normal(size=(3, 8))
    rows = rng.normal(size=8) + 1e-8 * rng.normal(size=(400, 8))  # near ties
    wanted = brute_force(queries, rows, 9)[1]
    assert np.array_equal(top_k(queries, [rows * 2.0**exponent], 9, block_rows=50)[1], wanted)
    assert np.array_equal(top_k(queries * 2.0**exponent, [rows], 9, block_rows=50)[1], wanted)


def test_one_tiny_value_among_large_ones_still_decides():
    rows = np.array([[1, 0], [1, 2.0**-120], [1, 2.0**-130]])
    query = np.array([[0, 1.0]])
    assert top_k(query, [rows], 3)[1].tolist() == [[1, 2, 0]]
    assert top_k(query * 2.0**900, [rows], 3)[1].tolist() == [[1, 2, 0]]


@quickly
@given(seed=st.integers(0, 10_000), cuts=CUTS, block_rows=SIZES, k=COUNTS, mixed=st.booleans())
def test_copies_in_other_shards_tie_and_the_first_wins(seed, cuts, block_rows, k, mixed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(10, 40)).astype(np.float16)[rng.integers(0, 10, 30)]
    kinds = [np.float64, np.float16, np.float32]
    shards = [
        part.astype(kinds[n % 3]) if mixed else part for n, part in enumerate(split(rows, cuts))
    ]
    queries = rng.normal(size=(2, 40))
    _, ids = top_k(queries, shards, k, block_rows=block_rows)
    assert np.array_equal(ids, brute_force(queries, rows, k)[1])


def test_a_query_of_zeros_ties_with_all():
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(5000, 4)).astype(np.float32)
    queries = np.array([[0.0, 0, 0, 0], [1, 2, 3, 4]])
    scores, ids = top_k(queries, [rows], 3, block_rows=400)
    assert ids[0].tolist() == [0, 1, 2]
    assert scores[0].tolist() == [0, 0, 0]
    assert np.array_equal(ids[1:], brute_force(queries[1:], rows, 3)[1])


@pytest.mark.parametrize("order", [1, -1])
def test_rows_that_come_in_order_of_their_score(order):
    rng = np.random.default_rng(6)
    query = rng.normal(size=(1, 16))
    rows = rng.normal(size=(6000, 16)).astype(np.float16)
    rows = rows[np.argsort(rows.astype(np.float64) @ query[0])][::order]
    _, ids = top_k(query, [rows], 20, block_rows=500)
    assert np.array_equal(ids, brute_force(query, rows, 20)[1])


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_a_precision_that_the_caller_set_is_not_used_and_stays(precision):
    import torch

    before = torch.get_float32_matmul_precision()
    rng = np.random.default_rng(7)
    rows, queries = rng.normal(size=(4000, 96)).astype(np.float32), rng.normal(size=(40, 96))
    try:
        torch.set_float32_matmul_precision(precision)
        _, ids = top_k(queries, [rows], 50)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(ids, brute_force(queries, rows, 50)[1])


def test_blank_rows_are_counted_and_told(capsys):
    rows = np.eye(4)
    rows[1, 2], rows[3, 3] = np.nan, np.inf
    found = search(np.ones((2, 4)), [rows[:2], rows[2:]], 4)
    assert found.blank == 2
    assert found.ids.tolist() == [[0, 2, -1, -1]] * 2
    assert capsys.readouterr().err == ""
    top_k(np.ones((2, 4)), [rows], 4)
    assert capsys.readouterr().err == "2 rows of vectors are not finite: they are in no result\n"


def test_the_same_bytes_however_the_rows_are_cut():
    rng = np.random.default_rng(8)
    rows, queries = rng.normal(size=(3000, 24)).astype(np.float16), rng.normal(size=(7, 24))
    once = top_k(queries, [rows], 60)
    for cuts, block_rows in [([], 64), ([1, 2, 3], 1000), (range(0, 3000, 100), 37)]:
        again = top_k(queries, split(rows, cuts), 60, block_rows=block_rows)
        assert [part.tobytes() for part in again] == [part.tobytes() for part in once]


def test_files_memmaps_and_arrays_are_the_same_pool(tmp_path):
    rng = np.random.default_rng(3)
    parts = [rng.normal(size=(n, 4)).astype(np.float16) for n in (5, 0, 7, 3)]
    for number, part in enumerate(parts):
        np.save(tmp_path / f"img_emb_{number}.npy", part)
    paths = [tmp_path / f"img_emb_{number}.npy" for number in range(4)]
    mixed = [paths[0], str(paths[1]), np.load(paths[2], mmap_mode="r"), parts[3]]
    queries = rng.normal(size=(2, 4)).astype(np.float32)
    for shards in (paths, mixed):
        scores, ids = top_k(queries, shards, 6)
        assert np.array_equal(ids, brute_force(queries, np.concatenate(parts), 6)[1])
        assert np.array_equal(scores, top_k(queries, [np.concatenate(parts)], 6)[0])
    assert len(Rows(paths)) == 15


def test_shards_are_left_as_they_were():
    rows = np.array([[np.nan, 1], [1, 1]], dtype=np.float32)
    top_k(np.ones((1, 2), np.float32), [rows], 1)
    assert np.isnan(rows).tolist() == [[True, False], [False, False]]


def test_no_rows_and_no_queries():
    scores, ids = top_k(np.ones((2, 3), np.float32), [], 2)
    assert scores.tolist() == [[-np.inf] * 2] * 2
    assert ids.tolist() == [[-1] * 2] * 2
    assert top_k(np.ones((0, 3), np.float32), [np.ones((4, 3))], 2)[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("queries", "k", "says"),
    [
        (np.ones(3), 1, r"saw shape \(3,\)"),
        (np.ones((1, 3), int), 1, "int64"),
        (np.array([[1.0, 0, 0], [0, np.nan, 0]]), 1, "saw query 1 with NaN"),
        (np.ones((1, 3)), 0, "k is too small"),
    ],
)
def test_queries_of_the_wrong_kind(queries, k, says):
    with pytest.raises(InputError, match=says):
        top_k(queries, [np.ones((2, 3))], k)


def test_shards_of_the_wrong_kind(tmp_path):
    cut = tmp_path / "cut.npy"
    np.save(cut, np.ones((100, 3)))
    cut.write_bytes(cut.read_bytes()[:500])
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}]), allow_pickle=True)
    for shard, says in [
        (np.ones((2, 4)), "the vectors number 0 do not fit: expected 3 dimensions, saw 4"),
        (np.ones((2, 3), int), "wrong kind in number 0"),
        (cut, "the vectors cut.npy cannot be read"),
        (pickled, "the vectors pickled.npy cannot be read"),
        (tmp_path / "gone.npy", "the vectors gone.npy cannot be read"),
    ]:
        with pytest.raises(PoolError, match=says):
            top_k(np.ones((1, 3)), [shard], 1)
