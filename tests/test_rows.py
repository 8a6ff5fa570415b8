"""Shards end to end: whatever they are made of, the rows are the same, and each is read once."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.rows import Rows, ahead
from headwater.topk import top_k


class OneWay:
    """A shard that can only be read forwards, as a compressed file: it notes what was asked."""

    def __init__(self, rows):
        self._rows, self.asked = rows, []
        self.shape, self.dtype = rows.shape, rows.dtype

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, which):
        self.asked.append(which)
        return self._rows[which]


LENGTHS = st.lists(st.integers(0, 9), max_size=5)


def numbered(lengths):
    """Shards whose values are the running number of the row."""
    numbers = np.arange(sum(lengths), dtype=np.float64)[:, None] * [[1, 10]]
    return np.split(numbers, np.cumsum(lengths)[:-1]) if lengths else []


@given(lengths=LENGTHS, size=st.integers(1, 12), least=st.none() | st.integers(1, 4))
def test_blocks_are_all_rows_in_order(lengths, size, least):
    seen = list(Rows(numbered(lengths)).blocks(size, least=least))
    firsts = [first for first, _ in seen]
    numbers = [block[:, 0].tolist() for _, block in seen]
    assert list(chain(*numbers)) == list(range(sum(lengths)))
    assert firsts == [block[0] for block in numbers]
    assert all(0 < len(block) <= size for block in numbers)


def test_blocks_begin_small_and_grow():
    rows = Rows(numbered([3, 20]))
    assert [len(block) for _, block in rows.blocks(8, least=2)] == [2, 1, 3, 6, 8, 3]


@given(lengths=LENGTHS, data=st.data())
def test_take_gives_any_rows_in_the_order_asked(lengths, data):
    total = sum(lengths)
    ids = data.draw(st.lists(st.integers(0, total - 1), max_size=9)) if total else []
    shards = [OneWay(shard) for shard in numbered(lengths)]
    taken = Rows(shards).take(np.array(ids, dtype=np.int64))
    assert taken.dtype == np.float32
    assert taken[:, :1].tolist() == [[number] for number in ids]
    for shard in shards:  # one sweep each: sorted, distinct, all at once
        assert len(shard.asked) <= 1
        assert all((np.diff(which) > 0).all() for which in shard.asked)


def test_a_shard_that_only_reads_forwards_is_searched_in_one_sweep():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 5)).astype(np.float16) for n in (700, 0, 1500)]
    shards = [OneWay(part) for part in parts]
    queries = rng.normal(size=(3, 5))
    wanted = top_k(queries, parts, 40)
    found = top_k(queries, shards, 40, block_rows=100)
    assert np.array_equal(found[1], wanted[1])
    for shard, part in zip(shards, parts, strict=True):
        covered = [row for which in shard.asked for row in range(*which.indices(len(part)))]
        assert covered == list(range(len(part)))


@pytest.mark.parametrize("dtype", [">f4", ">f2", np.longdouble])
def test_foreign_numbers_are_read(dtype, tmp_path):
    rows = np.arange(12, dtype=np.float64).reshape(6, 2)
    np.save(tmp_path / "a.npy", rows.astype(dtype))
    assert top_k(np.array([[1.0, 0.0]]), [tmp_path / "a.npy"], 2)[1].tolist() == [[5, 4]]


def test_every_other_column_of_a_file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24, dtype=np.float32).reshape(4, 6))
    wide = np.load(tmp_path / "a.npy", mmap_mode="r")[:, ::2]
    assert Rows([wide]).take(np.array([1])).tolist() == [[6, 8, 10]]
    assert top_k(np.ones((1, 3)), [wide], 1)[0].tolist() == [[60.0]]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
def test_what_was_read_of_a_file_does_not_stay_in_memory(tmp_path):
    path = tmp_path / "pool.npy"
    np.save(path, np.ones((40_000, 64), dtype=np.float16))
    shard = np.load(path, mmap_mode="r")
    rows = Rows([shard])
    for _, block in rows.blocks(1000):
        assert block[-1, -1] == 1
    assert resident(path) > 4000
    rows.forget()
    assert resident(path) == 0
    assert shard[39_999, 63] == 1  # and comes back when asked for


def resident(path):
    """Kilobytes of a mapped file that count as this process's memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.endswith(str(path)))
    return int(next(line for line in lines[start:] if line.startswith("Rss:")).split()[1])


def test_ahead_makes_one_more_than_is_used_and_passes_on_what_goes_wrong():
    made = []

    def items():
        for number in range(5):
            made.append(number)
            yield number
        raise OSError("the disk is gone")

    coming = ahead(items())
    assert next(coming) == 0
    assert [next(coming) for _ in range(4)] == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(coming)
