"""The feed: what workers make ready, in which order, and when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_clip import tinted_images, tiny_clip

from headwater.clip.feed import CHUNK, Feed, Ready, in_batches
from headwater.decode import decode_rgb, encode_jpeg, encode_png
from headwater.errors import PoolError, RunError


def test_images_come_resized_in_their_order_without_the_broken_ones():
    images = tinted_images(CHUNK + 3)[0]
    jobs = [(7 * row, encode_png(image)) for row, image in enumerate(images)]
    jobs[2] = (14, b"broken")
    ready = list(Feed(tiny_clip(), workers=0).prepare(jobs))
    assert [len(part.rows) for part in ready] == [CHUNK - 1, 3]
    rows = np.concatenate([part.rows for part in ready])
    assert rows.tolist() == [row for row, _ in jobs if row != 14]
    np.testing.assert_array_equal(np.concatenate([p.batch for p in ready]), images[rows // 7])


def test_large_jpegs_are_decoded_whole_where_pixels_must_be_those_of_the_model():
    clip, large = tiny_clip(), np.asarray(tinted_images(1)[0][0]).repeat(8, 0).repeat(8, 1)
    data = encode_jpeg(large)
    (fast,) = Feed(clip, workers=0).prepare([(0, data)])
    (whole,) = Feed(clip, workers=0, whole=True).prepare([(0, data)])
    np.testing.assert_array_equal(whole.batch, clip.resize([decode_rgb(data)]))
    assert (fast.batch != whole.batch).any()


def test_a_chunk_of_broken_images_is_an_empty_one():
    ready = Feed(tiny_clip(), workers=0).prepare((row, b"") for row in range(CHUNK + 1))
    assert list(in_batches(ready, 4)) == []


def test_captions_come_as_the_tokens_of_the_model():
    clip, texts = tiny_clip(), ["a rose", "", "x" * 10**6]
    (ready,) = Feed(clip, workers=0).prepare(enumerate(texts))
    np.testing.assert_array_equal(ready.batch, clip.tokens(texts))


def test_one_feed_serves_shard_after_shard():
    feed = Feed(tiny_clip(), workers=0)
    for text in ("rose", "fern"):
        (ready,) = feed.prepare([(3, text)])
        assert ready.rows.tolist() == [3]
        np.testing.assert_array_equal(ready.batch, tiny_clip().tokens([text]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 7))
def test_batches_are_the_same_rows_in_the_same_order(sizes, size):
    edges = np.cumsum([0, *sizes])
    parts = [Ready(np.arange(a, b), torch.arange(a, b)) for a, b in pairwise(edges)]
    batches = list(in_batches(parts, size))
    assert [row for batch in batches for row in batch.rows] == list(range(edges[-1]))
    assert all(batch.rows.tolist() == batch.batch.tolist() for batch in batches)
    assert all(len(batch.rows) == size for batch in batches[:-1])
    assert all(len(batch.rows) for batch in batches)


def test_a_broken_pool_is_told_as_itself():
    def jobs():
        yield 0, encode_jpeg(tinted_images(1)[0][0])
        raise PoolError("00000.tar is broken")

    with pytest.raises(PoolError, match="is broken"):
        list(Feed(tiny_clip(), workers=0).prepare(jobs()))


def test_a_killed_worker_is_one_line(monkeypatch):
    feed = Feed(tiny_clip(), workers=0)

    def lost(_):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(type(feed._loader), "__iter__", lost)
    with pytest.raises(RunError, match="fewer --workers"):
        list(feed.prepare([]))


ENDLESS = """
from itertools import count
from tests.tiny_clip import tiny_clip
from headwater.clip.feed import Feed
if __name__ == "__main__":
    feed = Feed(tiny_clip(), workers=1)
    for ready in feed.prepare((row, "a rose") for row in count()):
        print(*[worker.pid for worker in feed._loader._iterator._workers], flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_workers_end_with_their_parent(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    root = Path(__file__).parents[1]
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "endless.py"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        assert parent.stdout is not None
        worker = Path("/proc") / parent.stdout.readline().strip()
        assert worker.exists()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    for _ in range(100):
        if not worker.exists():
            return
        time.sleep(0.1)
    pytest.fail("a worker outlived its parent")
