"""`pool embed`: rows in step, what cannot be decoded, what a prefilter keeps, and going on."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.tiny_clip import tinted_images, tiny_clip

from headwater.clip import Clip
from headwater.clip.encoder import Encoder
from headwater.clip.feed import CHUNK
from headwater.clip.precision import computing
from headwater.decode import decode_rgb, encode_png
from headwater.errors import InputError, PoolError, RunError
from headwater.pool import metadata_path, open_pool, read_vectors
from headwater.steps.embed import embed, embed_shard
from headwater.steps.hits import neighbor_hits
from headwater.steps.settings import Retrieval
from headwater.store import read_json
from headwater.task import Task

CAPTIONS = ["a red rose", None, "two ferns in a pot", "ROSÉ of the sea", "x" * 10_000_000]
TASK = Task(format=1, name="garden", classes=["rose", "tree fern"])


def png(number: int) -> bytes:
    return encode_png(tinted_images(1, seed=number)[0][0])


def write_pool(folder: Path, images: list[list[bytes]], captions: list[list[str | None]]) -> Path:
    """A webdataset with one shard a list of images."""
    folder.mkdir(parents=True)
    for number, (own, texts) in enumerate(zip(images, captions, strict=True)):
        keys = [f"{number}-{row}" for row in range(len(own))]
        table = pl.DataFrame({"key": keys, "caption": pl.Series(texts, dtype=pl.String)})
        table.write_parquet(folder / f"{number:05d}.parquet")
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for key, data in zip(keys, own, strict=True):
                member = tarfile.TarInfo(f"{key}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture
def pool(tmp_path) -> Path:
    images = [[png(n) for n in range(5)], [png(5), b"<html>404</html>", png(7)]]
    return write_pool(tmp_path / "pool", images, [CAPTIONS, ["rose", "fern", "a house"]])


def vectors(folder: Path, kind: str) -> np.ndarray:
    return np.concatenate([s[:] for s in shards(folder, kind)]).astype(np.float32)


def shards(folder: Path, kind: str) -> list:
    return [read_vectors(shard, kind) for shard in open_pool(folder).shards]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "step.json"
    }


def test_rows_are_what_the_model_says_of_each_pair(pool, tmp_path):
    clip = tiny_clip()
    counts = embed(pool, tmp_path / "v", clip=clip, workers=0)
    images = [decode_rgb(png(n)) for n in (0, 1, 2, 3, 4, 5, 7)]
    found = vectors(tmp_path / "v", "image")
    assert np.isnan(found[6]).all()
    np.testing.assert_allclose(np.delete(found, 6, 0), clip.encode_images(images), atol=1e-3)
    texts = [caption or "" for caption in [*CAPTIONS, "rose", "fern", "a house"]]
    np.testing.assert_allclose(
        vectors(tmp_path / "v", "text"), clip.encode_texts(texts, normalize=True), atol=1e-3
    )
    assert counts | {"pairs": 8, "images": 7, "captions": 8, "undecodable": 1} == counts
    assert counts["images_per_second"] > 0
    assert read_json(tmp_path / "v" / "step.json")["counts"] == counts
    keys = pl.read_parquet(metadata_path(tmp_path / "v", 1))["key"].to_list()
    assert keys == ["1-0", "1-1", "1-2"]


def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    images = [png(n) for n in range(2 * CHUNK + 5)]
    images[3] = images[CHUNK] = b"broken"
    pool = write_pool(tmp_path / "pool", [images], [[f"number {n}" for n in range(len(images))]])
    for workers in (0, 2):
        embed(pool, tmp_path / str(workers), clip=tiny_clip(), workers=workers, batch_size=16)
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


def test_a_killed_run_goes_on_with_the_shards_that_are_missing(pool, tmp_path, monkeypatch):
    clip = tiny_clip()
    embed(pool, tmp_path / "whole", clip=clip, workers=0)
    begun, killed = [], []

    def dying(shard, *args, **kwargs):
        begun.append(shard.number)
        for part in embed_shard(shard, *args, **kwargs):
            if shard.number == 1 and not killed and part.rows:
                killed.append(shard.number)
                raise RunError("killed")
            yield part

    monkeypatch.setattr("headwater.steps.embed.embed_shard", dying)
    with pytest.raises(RunError):
        embed(pool, tmp_path / "again", clip=clip, workers=0)
    embed(pool, tmp_path / "again", clip=clip, workers=0)
    assert begun == [0, 1, 1]
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


@pytest.mark.parametrize("only", ["images", "captions"])
def test_one_kind_alone_is_the_same_as_both(pool, tmp_path, only):
    kind = {"images": "image", "captions": "text"}[only]
    for name, asked in (("both", None), ("one", only)):
        embed(pool, tmp_path / name, clip=tiny_clip(), only=asked, workers=0)
    np.testing.assert_array_equal(vectors(tmp_path / "one", kind), vectors(tmp_path / "both", kind))
    assert len(list((tmp_path / "one").glob("*_emb"))) == 1
    with pytest.raises(InputError, match="images or captions"):
        embed(pool, tmp_path / "none", clip=tiny_clip(), only="sounds")


def test_a_pool_of_captions_and_urls_has_no_images_to_embed(tmp_path):
    (tmp_path / "pool").mkdir()
    table = pl.DataFrame({"key": ["a"], "caption": ["a rose"], "url": ["http://127.0.0.1/a.jpg"]})
    table.write_parquet(tmp_path / "pool" / "part.parquet")
    with pytest.raises(PoolError, match="--only captions"):
        embed(tmp_path / "pool", tmp_path / "v", clip=tiny_clip(), workers=0)
    assert not (tmp_path / "v").exists()
    embed(tmp_path / "pool", tmp_path / "v", clip=tiny_clip(), only="captions", workers=0)
    assert vectors(tmp_path / "v", "text").shape == (1, 16)


def test_bf16_is_within_a_hundredth_of_float32_and_on_record(pool, tmp_path):
    for precision in ("float32", "bf16"):
        embed(pool, tmp_path / precision, clip=tiny_clip(), precision=precision, workers=0)
        step = json.loads((tmp_path / precision / "step.json").read_text())
        assert step["arguments"]["precision"] == precision
    for kind in ("image", "text"):
        exact, half = (vectors(tmp_path / p, kind) for p in ("float32", "bf16"))
        assert not np.array_equal(exact, half, equal_nan=True)
        assert np.nanmin((exact * half).sum(1)) > 1 - 1e-2
    with pytest.raises(InputError, match="float32"):
        embed(pool, tmp_path / "x", clip=tiny_clip(), precision="fp8")


def test_a_batch_of_nothing_is_refused(pool, tmp_path):
    for wrong in ({"batch_size": 0}, {"workers": -1}):
        with pytest.raises(InputError, match="1 or more"):
            embed(pool, tmp_path / "v", clip=tiny_clip(), **wrong)
    assert not (tmp_path / "v").exists()


def test_float32_is_float32_whatever_a_caller_has_set():
    square = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # on some CPUs bfloat16: off by 0.05
    try:
        with computing("float32", torch.device("cpu")):
            product = square @ square
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(product, square.double() @ square.double(), atol=1e-4)


def test_switches_of_torch_are_as_they_were():
    before = torch.backends.cudnn.allow_tf32
    list(Encoder(tiny_clip(), workers=0, precision="bf16").captions([(0, "a rose")]))
    assert torch.backends.cudnn.allow_tf32 == before
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()


def test_vectors_out_of_step_are_found_when_read(pool, tmp_path):
    clip = tiny_clip()
    embed(pool, tmp_path / "v", clip=clip, workers=0)
    how = Retrieval(by="neighbors", k=2)
    hits = neighbor_hits(open_pool(pool), TASK, clip, how, embedded=open_pool(tmp_path / "v"))
    assert len(hits)
    path = metadata_path(tmp_path / "v", 0)
    table = pl.read_parquet(path)
    table.with_columns(key=pl.lit("other-") + pl.col("key")).write_parquet(path)
    with pytest.raises(PoolError, match="out of step"):
        neighbor_hits(open_pool(pool), TASK, clip, how, embedded=open_pool(tmp_path / "v"))
    table.head(3).write_parquet(path)
    with pytest.raises(PoolError, match="out of step"):
        shards(tmp_path / "v", "image")


def test_only_pairs_that_share_a_word_are_embedded(pool, tmp_path, capsys):
    clip = tiny_clip()
    embed(pool, tmp_path / "all", clip=clip, workers=0)
    counts = embed(pool, tmp_path / "some", clip=clip, prefilter=TASK, sample=8, workers=0)
    kept = [pl.read_parquet(metadata_path(tmp_path / "some", n))["key"].to_list() for n in (0, 1)]
    assert kept == [["0-0", "0-3"], ["1-0", "1-1"]]
    for kind in ("image", "text"):
        np.testing.assert_allclose(
            vectors(tmp_path / "some", kind), vectors(tmp_path / "all", kind)[[0, 3, 5, 6]],
            atol=1e-3,
        )  # fmt: skip
    assert counts["pool_pairs"] == counts["sample"] == 8
    assert counts["pairs"] == counts["sample_passing"] == 4
    for kind in ("images", "captions"):
        assert counts[f"recall_by_{kind}"] in (0, 0.5, 1)
    assert "kept 4 of 8 pairs" in capsys.readouterr().err
    assert not (tmp_path / "some" / "work").exists()
    assert rows_found(pool, tmp_path / "some", clip) == {0, 3, 5, 6}


def rows_found(pool: Path, embedded: Path, clip: Clip) -> set[int]:
    """The rows of the pool that neighbors finds, however far they are, among what was embedded."""
    how = Retrieval(by="neighbors", k=100)
    hits = neighbor_hits(open_pool(pool), TASK, clip, how, embedded=open_pool(embedded))
    return set(hits["row"])


def test_a_shard_of_which_nothing_passes_is_an_empty_one(pool, tmp_path):
    task, clip = Task(format=1, name="pots", classes=["pot"]), tiny_clip()
    counts = embed(pool, tmp_path / "v", clip=clip, prefilter=task, sample=0, workers=0)
    assert counts["sample"] == 0
    assert [len(s) for s in shards(tmp_path / "v", "image")] == [1, 0]
    assert rows_found(pool, tmp_path / "v", clip) == {2}


def test_of_pairs_that_share_a_key_the_first_is_embedded(tmp_path):
    pool = write_pool(tmp_path / "pool", [[png(n) for n in range(3)]], [["one", "two", "three"]])
    path = pool / "00000.parquet"
    table = pl.read_parquet(path)
    table.with_columns(key=pl.Series(["0-0", "0-0", "0-2"])).write_parquet(path)
    counts = embed(pool, tmp_path / "v", clip=tiny_clip(), workers=0)
    assert (counts["pairs"], counts["repeated_keys"]) == (2, 1)
    captions = pl.read_parquet(metadata_path(tmp_path / "v", 0))["caption"].to_list()
    assert captions == ["one", "three"]
    images = [decode_rgb(png(n)) for n in (0, 2)]
    np.testing.assert_allclose(
        vectors(tmp_path / "v", "image"), tiny_clip().encode_images(images), atol=1e-3
    )
