"""Every layout people have gives the same pairs through the same functions."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pytest
from tests.test_pool import add, make_webdataset, picture

from headwater.errors import PoolError
from headwater.pool import (
    LAYOUTS,
    PoolShard,
    count_rows,
    describe,
    has_images,
    iter_captions,
    open_pool,
    read_images,
    read_table,
    read_vectors,
)

KEYS = ["000", "001", "002", "003"]
CAPTIONS = ["a red rose", None, "größe", "two dogs"]
IMAGES = [picture(60 * i) for i in range(4)]
VECTORS = np.arange(8, dtype=np.float16).reshape(4, 2)


def table(**columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"key": KEYS, "caption": CAPTIONS, **columns})


def webdataset(folder: Path) -> None:
    table().write_parquet(folder / "00000.parquet")
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for key, image in zip(KEYS, IMAGES, strict=True):
            add(tar, f"{key}.jpg", image)
            add(tar, f"{key}.json", b"{}")


def parquet(folder: Path) -> None:
    table(jpg=IMAGES).write_parquet(folder / "00000.parquet")


def hub(folder: Path) -> None:
    structs = [{"bytes": image, "path": f"{k}.jpg"} for k, image in zip(KEYS, IMAGES, strict=True)]
    (folder / "data").mkdir()
    table(image=structs).write_parquet(folder / "data" / "train-00000-of-00001.parquet")


def files(folder: Path) -> None:
    table().write_parquet(folder / "00000.parquet")
    (folder / "00000").mkdir()
    for key, image in zip(KEYS, IMAGES, strict=True):
        (folder / "00000" / f"{key}.jpg").write_bytes(image)
        (folder / "00000" / f"{key}.txt").write_text("a caption")


def laion(folder: Path) -> None:
    for name in ("metadata", "img_emb", "text_emb"):
        (folder / name).mkdir()
    rows = {"SAMPLE_ID": KEYS, "TEXT": CAPTIONS, "URL": ["u"] * 4, "NSFW": ["UNSURE"] * 4}
    pl.DataFrame(rows).write_parquet(folder / "metadata" / "metadata_0000.parquet")
    np.save(folder / "img_emb" / "img_emb_0000.npy", VECTORS)
    np.save(folder / "text_emb" / "text_emb_0000.npy", -VECTORS)


def datacomp(folder: Path) -> None:
    pl.DataFrame({"uid": KEYS, "url": ["u"] * 4, "text": CAPTIONS}).write_parquet(
        folder / "0a.parquet"
    )
    np.savez(
        folder / "0a.npz", b32_img=VECTORS, b32_txt=-VECTORS, l14_img=2 * VECTORS, l14_txt=VECTORS
    )


def datasets_stream(folder: Path, split: str = ".") -> None:
    pa = pytest.importorskip("pyarrow")
    home = folder / split
    home.mkdir(exist_ok=True)
    structs = [{"bytes": image, "path": None} for image in IMAGES]
    rows = pa.table({"id": KEYS, "text": CAPTIONS, "image": structs})
    with pa.ipc.new_stream(str(home / "data-00000-of-00001.arrow"), rows.schema) as stream:
        stream.write_table(rows, max_chunksize=3)
    (home / "state.json").write_text("{}")


def imagefolder(folder: Path) -> None:
    (folder / "red" / "roses").mkdir(parents=True)
    for key, image in zip(KEYS, IMAGES, strict=True):
        (folder / "red" / "roses" / f"{key}.jpg").write_bytes(image)
    told = {f"red/roses/{k}.jpg": c for k, c in zip(KEYS, CAPTIONS, strict=True)}
    (folder / "captions.json").write_text(json.dumps(told))


MAKERS: dict[str, Callable[[Path], None]] = {
    "webdataset": webdataset,
    "parquet": parquet,
    "files": files,
    "laion": laion,
    "datacomp": datacomp,
    "datasets": datasets_stream,
    "imagefolder": imagefolder,
}
WITH_IMAGES = ["webdataset", "parquet", "files", "datasets", "imagefolder"]


def the_shard(maker: Callable[[Path], None], folder: Path) -> PoolShard:
    maker(folder)
    (shard,) = open_pool(folder).shards
    return shard


def test_every_layout_is_tried_here() -> None:
    assert set(MAKERS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", MAKERS)
def test_a_layout_is_told_by_its_files(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    pool = open_pool(tmp_path)
    assert (pool.layout, len(pool.shards), pool.left_out) == (layout, 1, ())


@pytest.mark.parametrize("layout", MAKERS)
def test_the_rows_are_the_same_in_every_layout(layout: str, tmp_path: Path) -> None:
    shard = the_shard(MAKERS[layout], tmp_path)
    assert count_rows(shard) == 4
    streamed = [(first, list(some)) for first, some in iter_captions(shard, batch_rows=3)]
    assert streamed == [(0, CAPTIONS[:3]), (3, CAPTIONS[3:])]
    whole = read_table(shard)
    assert whole["caption"].to_list() == CAPTIONS
    assert [key.removeprefix("red/roses/").removesuffix(".jpg") for key in whole["key"]] == KEYS
    some = read_table(shard, rows=np.array([3, 1]))
    assert some.columns == ["row", "key", "caption", "url", "nsfw", "punsafe", "sha256"]
    assert some["row"].to_list() == [1, 3]
    assert some["key"].to_list() == whole["key"][[1, 3]].to_list()


@pytest.mark.parametrize("maker", [*(MAKERS[layout] for layout in WITH_IMAGES), hub])
def test_the_images_are_the_same_in_every_layout(
    maker: Callable[[Path], None], tmp_path: Path
) -> None:
    shard = the_shard(maker, tmp_path)
    keys = read_table(shard)["key"].to_list()
    assert has_images(shard)
    found = list(read_images(shard, [keys[2], keys[0], "nowhere", "../000"]))
    assert found == [(keys[0], "000.jpg", IMAGES[0]), (keys[2], "002.jpg", IMAGES[2])]


@pytest.mark.parametrize("layout", ["laion", "datacomp"])
def test_layouts_of_vectors_have_no_images(layout: str, tmp_path: Path) -> None:
    shard = the_shard(MAKERS[layout], tmp_path)
    assert not has_images(shard)
    assert list(read_images(shard, KEYS)) == []


def test_datacomp_has_vectors_of_two_models_and_one_must_be_chosen(tmp_path: Path) -> None:
    shard = the_shard(datacomp, tmp_path)
    assert (read_vectors(shard, "image", model="l14")[:] == 2 * VECTORS).all()
    assert (read_vectors(shard, "text", model="b32")[1:3] == -VECTORS[1:3]).all()
    for model, seen in ((None, "none chosen"), ("h14", "h14")):
        with pytest.raises(PoolError, match=f"one of b32, l14, saw {seen}"):
            read_vectors(shard, "image", model=model)


def test_vectors_may_lie_beside_fewer_rows_than_another_pool_has(tmp_path: Path) -> None:
    laion(tmp_path)
    part = pl.read_parquet(tmp_path / "metadata" / "metadata_0000.parquet")[[1, 3]]
    part.write_parquet(tmp_path / "metadata" / "metadata_0000.parquet")
    np.save(tmp_path / "img_emb" / "img_emb_0000.npy", VECTORS[[1, 3]])
    shard = open_pool(tmp_path).shards[0]
    assert read_table(shard)["key"].to_list() == ["001", "003"]
    assert read_vectors(shard, "image")[:].tolist() == VECTORS[[1, 3]].tolist()
    with pytest.raises(PoolError, match=r"text_emb_0000\.npy is out of step"):
        read_vectors(shard, "text")


def test_an_image_that_is_only_named_is_no_image(tmp_path: Path) -> None:
    table(image=["https://example.org/1.jpg"] * 4).write_parquet(tmp_path / "a.parquet")
    shard = open_pool(tmp_path).shards[0]
    assert not has_images(shard)
    assert list(read_images(shard, KEYS)) == []


@pytest.mark.parametrize("layout", MAKERS)
def test_a_folder_may_have_any_name(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "pool [v1] *?" / "label=3" / "50% größe"
    folder.mkdir(parents=True)
    shard = the_shard(MAKERS[layout], folder)
    assert read_table(shard)["caption"].to_list() == CAPTIONS
    assert len(list(read_images(shard, read_table(shard)["key"].to_list()))) in (0, 4)


def test_shards_line_up_past_the_padding_of_their_numbers(tmp_path: Path) -> None:
    for kind in ("metadata", "img_emb"):
        (tmp_path / kind).mkdir()
    for number in (9999, 10000, 1000, 10001):
        rows = pl.DataFrame({"key": [number], "caption": ["x"]})
        rows.write_parquet(tmp_path / "metadata" / f"metadata_{number:04d}.parquet")
        np.save(tmp_path / "img_emb" / f"img_emb_{number:04d}.npy", np.full((1, 2), number, "f4"))
    shards = open_pool(tmp_path).shards
    assert [read_table(shard)["key"][0] for shard in shards] == ["1000", "9999", "10000", "10001"]
    assert [int(read_vectors(s, "image")[0:1][0, 0]) for s in shards] == [1000, 9999, 10000, 10001]


def test_a_folder_of_splits_is_one_pool(tmp_path: Path) -> None:
    for split in ("train", "test"):
        datasets_stream(tmp_path, split)
    names = [shard.name for shard in open_pool(tmp_path).shards]
    assert names == ["test/data-00000-of-00001", "train/data-00000-of-00001"]


def test_what_the_datasets_library_saves_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "text": ["a rose", "two dogs"],
        "image": [{"bytes": b, "path": None} for b in IMAGES[:2]],
    }
    features = datasets.Features(text=datasets.Value("string"), image=datasets.Image())
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    shard = open_pool(tmp_path / "saved").shards[0]
    keys = read_table(shard)["key"].to_list()
    assert read_table(shard)["caption"].to_list() == ["a rose", "two dogs"]
    assert [data for _, _, data in read_images(shard, keys)] == IMAGES[:2]


def test_captions_may_stand_beside_the_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.png").write_bytes(IMAGES[0])
    (tmp_path / "1.txt").write_text("a rose")
    assert read_table(open_pool(tmp_path).shards[0])["caption"].to_list() == ["a rose", None]


def test_an_image_folder_is_cut_into_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.pool.layouts.SHARD", 3)
    imagefolder(tmp_path)
    shards = open_pool(tmp_path).shards
    assert [count_rows(shard) for shard in shards] == [3, 1]
    assert [text for s in shards for _, some in iter_captions(s) for text in some] == CAPTIONS


@pytest.mark.parametrize("layout", ["files", "imagefolder"])
def test_no_image_is_read_from_outside_of_the_folder(layout: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(IMAGES[0])
    pool = tmp_path / "pool"
    pool.mkdir()
    MAKERS[layout](pool)
    place = next(pool.rglob("001.jpg"))
    place.unlink()
    place.symlink_to(secret)
    shard = open_pool(pool).shards[0]
    keys = read_table(shard)["key"].to_list()
    found = [key for key, _, _ in read_images(shard, [*keys, "../../secret", "../secret.jpg"])]
    assert [key.split("/")[-1].removesuffix(".jpg") for key in found] == ["000", "002", "003"]


def test_no_caption_is_read_from_outside_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    pool = tmp_path / "pool"
    pool.mkdir()
    for name in ("1", "2", "3"):
        (pool / f"{name}.png").write_bytes(IMAGES[0])
    (pool / "1.txt").write_text("a rose")
    (pool / "2.txt").symlink_to(tmp_path / "secret.txt")
    (pool / "3.txt").symlink_to(pool / "1.txt")
    captions = read_table(open_pool(pool).shards[0])["caption"].to_list()
    assert captions == ["a rose", None, "a rose"]


@pytest.mark.parametrize("layout", MAKERS)
def test_a_pool_may_lie_in_any_file_system(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    memory = fsspec.filesystem("memory")
    place = f"/{layout}-{tmp_path.name}"
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        memory.pipe(f"{place}/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    here, there = open_pool(tmp_path), open_pool(f"memory:/{place}")
    assert (here.layout, here.digest, here.bytes) == (there.layout, there.digest, there.bytes)
    near, far = here.shards[0], there.shards[0]
    keys = read_table(near)["key"].to_list()
    assert read_table(far).equals(read_table(near))
    assert list(read_images(far, keys)) == list(read_images(near, keys))
    if near.image_vectors:
        far_vectors = read_vectors(far, "image", model="b32")
        assert (far_vectors[1:] == VECTORS[1:]).all()
        assert (far_vectors[np.array([3, 0])] == VECTORS[[3, 0]]).all()
    memory.rm(place, recursive=True)


def test_unrelated_files_are_left_alone(tmp_path: Path) -> None:
    webdataset(tmp_path)
    plain = open_pool(tmp_path)
    for name in (
        "README.md",
        "_SUCCESS",
        ".00000.parquet.crc",
        "._00000.parquet",
        "00000_stats.json",
    ):
        (tmp_path / name).write_text("not a table")
    for name in ("_temporary", ".git", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "00009.parquet").write_text("not a table")
        (tmp_path / name / "00009.tar").write_text("not a tar")
    (tmp_path / "logs" / "00009.tar").unlink()
    (tmp_path / "00007.tar").write_text("no table beside")
    pool = open_pool(tmp_path)
    assert (pool.shards, pool.digest) == (plain.shards, plain.digest)
    assert pool.left_out == ("00007.tar", "logs/00009.parquet")


def test_a_pool_tells_what_it_is_and_what_is_wrong(tmp_path: Path) -> None:
    datacomp(tmp_path)
    pl.DataFrame({"uid": ["a"], "words": ["x"]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame(
        {"uid": [], "text": []}, schema={"uid": pl.String, "text": pl.String}
    ).write_parquet(tmp_path / "2.parquet")
    (tmp_path / "3.parquet").write_bytes((tmp_path / "0a.parquet").read_bytes()[:-30])
    pl.DataFrame({"uid": ["a"], "text": ["x"]}).write_parquet(tmp_path / "4.parquet")
    np.savez(tmp_path / "4.npz", b32_img=VECTORS)
    (tmp_path / "5.npz").write_text("no table beside")
    facts = describe(open_pool(tmp_path))
    assert (facts["layout"], facts["shards"], facts["pairs"]) == ("datacomp", 5, 5)
    assert facts["columns"] == ["uid (key)", "url (url)", "text (caption)"]
    assert facts["vectors"][:2] == ["b32 image 2 float16", "l14 image 2 float16"]
    assert (facts["captions_missing"], facts["images"], facts["safety_tags"]) == (1, False, False)
    assert facts["sample"] == ["a red rose", "größe", "two dogs", "x"]
    words = [
        "1 has no captions",
        "2 has no rows",
        "cannot read",
        "4.npz is out of step",
        "5.npz is not",
    ]
    assert all(any(word in problem for problem in facts["problems"]) for word in words)


def test_shards_are_each_read_by_their_own_columns(tmp_path: Path) -> None:
    pl.DataFrame({"key": [1], "TEXT": ["x"], "punsafe": [0.9]}).write_parquet(
        tmp_path / "a.parquet"
    )
    pl.DataFrame({"url": ["u"], "caption": [b"y"], "NSFW": ["NSFW"]}).write_parquet(
        tmp_path / "b.parquet"
    )
    first, second = (read_table(s, rows=np.array([0])) for s in open_pool(tmp_path).shards)
    assert first.select("key", "caption", "punsafe").row(0) == ("1", "x", 0.9)
    assert second.select("caption", "url", "nsfw", "punsafe").row(0) == ("y", "u", "NSFW", None)


def test_words_and_probabilities_of_being_unsafe_both_stay(tmp_path: Path) -> None:
    rows = {"caption": ["x", "y"], "NSFW": ["UNLIKELY", "NSFW"], "punsafe": [0.4, 0.1]}
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    table = read_table(open_pool(tmp_path).shards[0], rows=np.arange(2))
    assert table.select("nsfw", "punsafe").rows() == [("UNLIKELY", 0.4), ("NSFW", 0.1)]


def test_tars_may_have_folders_and_keys_may_have_slashes(tmp_path: Path) -> None:
    make_webdataset(tmp_path, shards=1, rows=2)
    keys = ["a/1", "b/1", "2", "../3", "4"]
    pl.DataFrame({"key": keys, "caption": keys}).write_parquet(tmp_path / "00000.parquet")
    names = ["a/1.jpg", "b/1.jpg", "deep/2.jpg", "../3.jpg", "x/../4.jpg", "2.jpg", "b/1.seg.jpg"]
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number, name in enumerate(names):
            add(tar, name, picture(number))
    found = list(read_images(open_pool(tmp_path).shards[0], keys))
    assert [(key, name) for key, name, _ in found] == [
        ("a/1", "1.jpg"), ("b/1", "1.jpg"), ("2", "2.jpg"),
    ]  # fmt: skip
    assert found[1][2] == picture(1)
