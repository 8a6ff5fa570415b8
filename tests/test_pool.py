"""Pools of toys: what is read of them, and that whatever is broken is one clear line."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from headwater.decode import encode_jpeg
from headwater.errors import PoolError
from headwater.pool import (
    count_rows,
    describe,
    find_rows,
    has_images,
    iter_captions,
    open_pool,
    read_images,
    read_table,
    read_vectors,
)
from headwater.pool.sources import ParquetSource

Floats = NDArray[np.float32]


def picture(value: int) -> bytes:
    return encode_jpeg(np.full((8, 8, 3), value, np.uint8))


def make_webdataset(folder: Path, shards: int = 2, rows: int = 3, caption: str = "caption") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        keys = [f"{shard:05d}{row:04d}" for row in range(rows)]
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row, key in enumerate(keys):
                add(tar, f"{key}.jpg", picture(40 * row))
                add(tar, f"{key}.txt", f"picture {row}".encode())
        pl.DataFrame(
            {
                "key": keys,
                caption: [f"picture {row}" for row in range(rows)],
                "url": [f"https://example.org/{key}.jpg" for key in keys],
                "NSFW": ["UNLIKELY"] * (rows - 1) + ["NSFW"],
            }
        ).write_parquet(folder / f"{shard:05d}.parquet")


def embedded(folder: Path, *, table: pl.DataFrame, image: Floats, text: Floats) -> None:
    """One shard in clip-retrieval's layout."""
    for name in ("metadata", "img_emb", "text_emb"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb" / "img_emb_0000.npy", image.astype(np.float16))
    np.save(folder / "text_emb" / "text_emb_0000.npy", text.astype(np.float16))
    table.write_parquet(folder / "metadata" / "metadata_0000.parquet")


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def test_img2dataset_tars_are_detected_and_read(tmp_path: Path) -> None:
    make_webdataset(tmp_path / "pool")
    pool = open_pool(tmp_path / "pool", name="toys")
    assert (pool.layout, len(pool.shards), pool.name) == ("webdataset", 2, "toys")
    table = read_table(pool.shards[1])
    assert table["key"].to_list() == ["000010000", "000010001", "000010002"]
    assert table["nsfw"].to_list() == ["UNLIKELY", "UNLIKELY", "NSFW"]
    found = list(read_images(pool.shards[1], ["000010002", "nowhere"]))
    assert [(key, name) for key, name, _ in found] == [("000010002", "000010002.jpg")]
    assert found[0][2] == picture(80)


@pytest.mark.parametrize("caption", ["TEXT", "text", "caption"])
def test_columns_are_known_by_their_aliases(tmp_path: Path, caption: str) -> None:
    make_webdataset(tmp_path / "pool", caption=caption)
    table = read_table(open_pool(tmp_path / "pool").shards[0])
    assert table["caption"].to_list() == ["picture 0", "picture 1", "picture 2"]


CAPTIONS = ["a rose", None, "größe", "a\u0308", "ورد"]


@pytest.mark.parametrize("batch_rows", [1, 2, 5, 100])
def test_captions_come_in_batches_with_the_number_of_the_first_row(
    tmp_path: Path, batch_rows: int
) -> None:
    pl.DataFrame({"TEXT": CAPTIONS}).write_parquet(tmp_path / "a.parquet", row_group_size=2)
    batches = list(iter_captions(open_pool(tmp_path).shards[0], batch_rows=batch_rows))
    assert [first for first, _ in batches] == list(range(0, 5, batch_rows))
    assert [text for _, captions in batches for text in captions] == CAPTIONS


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Binary, pl.Enum(["a rose", "größe"])])
def test_captions_may_be_stored_as_other_things_than_text(tmp_path: Path, dtype: Any) -> None:
    captions = pl.Series("TEXT", ["a rose", None, "größe"])
    pl.DataFrame(captions.cast(dtype)).write_parquet(tmp_path / "a.parquet")
    shard = open_pool(tmp_path).shards[0]
    ((_, streamed),) = iter_captions(shard)
    assert streamed.equals(captions.alias("caption"))
    assert read_table(shard)["caption"].equals(streamed)


def test_a_caption_of_ten_megabytes_passes(tmp_path: Path) -> None:
    long = "rose " * 2_000_000
    pl.DataFrame({"TEXT": ["a", long, None]}).write_parquet(tmp_path / "a.parquet")
    ((_, captions),) = iter_captions(open_pool(tmp_path).shards[0])
    assert captions[1] == long
    assert len(describe(open_pool(tmp_path))["sample"][1]) == 200


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    pl.DataFrame(schema={"key": pl.String, "TEXT": pl.String}).write_parquet(tmp_path / "a.parquet")
    shard = open_pool(tmp_path).shards[0]
    assert list(iter_captions(shard)) == []
    assert read_table(shard).height == count_rows(shard) == 0
    assert list(read_images(shard, ["a"])) == []


def test_a_caption_that_is_not_utf8_is_null_and_the_others_stay(tmp_path: Path) -> None:
    pl.DataFrame({"TEXT": [b"a rose", b"\xff\xfe", "größe".encode()]}).write_parquet(
        tmp_path / "a.parquet"
    )
    ((_, captions),) = iter_captions(open_pool(tmp_path).shards[0])
    assert captions.to_list() == ["a rose", None, "größe"]


def test_wanted_rows_are_those_of_the_whole_table(tmp_path: Path) -> None:
    n = 1000
    pl.DataFrame(
        {"key": range(n), "TEXT": [f"caption {i}" for i in range(n)], "punsafe": [0.25] * n}
    ).write_parquet(tmp_path / "a.parquet", row_group_size=70)
    shard = open_pool(tmp_path).shards[0]
    some = read_table(shard, rows=np.array([999, 3, 70, 3]))
    assert some["row"].to_list() == [3, 70, 999]
    assert some["punsafe"].to_list() == [0.25] * 3
    whole = read_table(shard)[[3, 70, 999]]
    assert some.select("key", "caption", "url").equals(whole.select("key", "caption", "url"))
    assert read_table(shard, rows=np.empty(0, np.int64)).columns == some.columns


def test_only_what_is_wanted_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.pool.tables.BATCH_ROWS", 10)
    asked: list[tuple[list[str], int]] = []
    read = ParquetSource.read

    def spy(source: ParquetSource, columns: list[str], first: int, size: int) -> pl.DataFrame:
        asked.append((list(columns), first))
        return read(source, columns, first, size)

    monkeypatch.setattr(ParquetSource, "read", spy)
    rows = {"id": range(35), "TEXT": ["x"] * 35, "url": ["u"] * 35, "other": ["y"] * 35}
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    shard = open_pool(tmp_path).shards[0]
    list(iter_captions(shard, batch_rows=20))
    assert asked == [(["TEXT"], 0), (["TEXT"], 20)]
    asked.clear()
    assert read_table(shard, rows=np.array([31, 2, 3]))["row"].to_list() == [2, 3, 31]
    assert [first for _, first in asked[1:]] == [0, 30]
    assert all("other" not in columns for columns, _ in asked)


def test_rows_are_found_by_their_keys(tmp_path: Path) -> None:
    rows = {"uid": ["a", None, "c"], "TEXT": ["x", "y", "z"], "jpg": [b"1", b"2", b"3"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    shard = open_pool(tmp_path).shards[0]
    made = read_table(shard)["key"][1]
    assert made == "a/1"
    assert find_rows(shard, ["c", made, "nowhere"]).rows() == [(1, made), (2, "c")]
    assert [data for _, _, data in read_images(shard, ["c", made])] == [b"2", b"3"]
    assert find_rows(shard, []).rows() == []


def test_of_rows_with_one_key_the_first_is_found(tmp_path: Path) -> None:
    pl.DataFrame({"key": ["a", "b", "a"], "TEXT": ["x", "y", "z"]}).write_parquet(
        tmp_path / "a.parquet"
    )
    shard = open_pool(tmp_path).shards[0]
    assert read_table(shard, rows=np.array([0, 2]))["key"].to_list() == ["a", "a"]
    assert find_rows(shard, ["a", "b"]).rows() == [(0, "a"), (1, "b")]


def test_parquet_with_images_inside(tmp_path: Path) -> None:
    rows = {"TEXT": ["a", None], "jpg": [picture(1), None], "uid": ["x", "y"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "part.parquet")
    shard = open_pool(tmp_path).shards[0]
    assert has_images(shard)
    assert [key for key, _, _ in read_images(shard, ["x", "y"])] == ["x"]


def test_pairs_without_a_key_get_a_stable_one(tmp_path: Path) -> None:
    pl.DataFrame({"URL": ["u", "v"], "TEXT": ["a", "b"]}).write_parquet(tmp_path / "p.parquet")
    first = read_table(open_pool(tmp_path).shards[0])["key"].to_list()
    assert first == read_table(open_pool(tmp_path).shards[0])["key"].to_list()
    assert len(set(first)) == 2
    assert first[0] == hashlib.sha256(b"u\x1fa").hexdigest()
    assert not has_images(open_pool(tmp_path).shards[0])


def test_the_same_pool_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    make_webdataset(tmp_path / "here")
    make_webdataset(tmp_path / "deep" / "down" / "there")
    make_webdataset(tmp_path / "other", rows=4)
    digest = open_pool(tmp_path / "here").digest
    assert digest == open_pool(tmp_path / "deep" / "down" / "there").digest
    assert digest != open_pool(tmp_path / "other").digest


def test_vectors_come_back_as_clip_retrieval_lays_them(tmp_path: Path) -> None:
    table = pl.DataFrame({"key": ["a", "b"], "caption": ["x", "y"]})
    image = np.array([[1, 0], [0, 1]], np.float32)
    embedded(tmp_path / "v", table=table, image=image, text=-image)
    pool = open_pool(tmp_path / "v")
    assert pool.layout == "laion"
    vectors = read_vectors(pool.shards[0], "text")
    assert vectors.dtype == np.float16
    assert (vectors == -image).all()


def test_a_pool_tells_what_it_is(tmp_path: Path) -> None:
    make_webdataset(tmp_path / "pool")
    facts = describe(open_pool(tmp_path / "pool"))
    assert (facts["pairs"], facts["images"], facts["safety_tags"]) == (6, True, True)


def test_a_tar_is_read_no_further_than_to_the_last_wanted_image(tmp_path: Path) -> None:
    make_webdataset(tmp_path, shards=1)
    path = tmp_path / "00000.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"000000002.jpg")
    data[at : at + 512] = b"?" * 512
    path.write_bytes(data)
    shard = open_pool(tmp_path).shards[0]
    assert [key for key, _, _ in read_images(shard, ["000000001"])] == ["000000001"]
    with pytest.raises(PoolError, match="is broken"):
        list(read_images(shard, ["000000002"]))


def test_any_fsspec_path_will_do(tmp_path: Path) -> None:
    make_webdataset(tmp_path / "pool")
    pool = open_pool(f"file://{tmp_path / 'pool'}")
    assert len(list(read_images(pool.shards[0], ["000000001"]))) == 1


def vectors_out_of_step(folder: Path) -> None:
    table = pl.DataFrame({"key": ["a", "b"], "caption": ["x", "y"]})
    vectors = np.zeros((3, 4), np.float32)
    embedded(folder, table=table, image=vectors, text=vectors)
    read_vectors(open_pool(folder).shards[0], "image")


def vectors_cut_short(folder: Path) -> None:
    table = pl.DataFrame({"key": ["a", "b"], "caption": ["x", "y"]})
    vectors = np.zeros((2, 400), np.float32)
    embedded(folder, table=table, image=vectors, text=vectors)
    path = folder / "img_emb" / "img_emb_0000.npy"
    path.write_bytes(path.read_bytes()[:200])
    read_vectors(open_pool(folder).shards[0], "image")


def empty_folder(folder: Path) -> None:
    folder.mkdir()
    open_pool(folder)


def unrelated_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "holiday.mov").write_text("x")
    open_pool(folder)


def a_file(folder: Path) -> None:
    folder.mkdir()
    pl.DataFrame({"caption": ["x"]}).write_parquet(folder / "a.parquet")
    open_pool(folder / "a.parquet")


def a_row_too_far(folder: Path) -> None:
    make_webdataset(folder, rows=3)
    read_table(open_pool(folder).shards[0], rows=np.array([0, 3]))


def captions_in_lists(folder: Path) -> None:
    folder.mkdir()
    pl.DataFrame({"caption": [["a"], ["b"]]}).write_parquet(folder / "a.parquet")
    list(iter_captions(open_pool(folder).shards[0]))


def text_that_is_not_utf8(folder: Path) -> None:
    """Declared as text, so that polars refuses the whole column."""
    folder.mkdir()
    pl.DataFrame({"caption": ["QQQQ", "rose"]}).write_parquet(
        folder / "a.parquet", compression="uncompressed", statistics=False
    )
    data = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(data.replace(b"QQQQ", b"\xff\xfe\xff\xfe"))
    list(iter_captions(open_pool(folder).shards[0]))


def no_bytes_at_all(folder: Path) -> None:
    make_webdataset(folder, shards=1)
    (folder / "00000.parquet").write_bytes(b"")
    read_table(open_pool(folder).shards[0])


def parquet_cut_short(folder: Path) -> None:
    make_webdataset(folder, shards=1)
    path = folder / "00000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    list(iter_captions(open_pool(folder).shards[0]))


def captions_that_are_not_json(folder: Path) -> None:
    folder.mkdir()
    (folder / "1.png").write_bytes(picture(0))
    (folder / "captions.json").write_text("[" * 100_000)
    list(iter_captions(open_pool(folder).shards[0]))


def captions_in_a_list(folder: Path) -> None:
    folder.mkdir()
    (folder / "1.png").write_bytes(picture(0))
    (folder / "captions.json").write_text('["a rose"]')
    list(iter_captions(open_pool(folder).shards[0]))


def no_such_kind_of_vectors(folder: Path) -> None:
    make_webdataset(folder, shards=1)
    read_vectors(open_pool(folder).shards[0], "image")


def captions_of_numbers(folder: Path) -> None:
    folder.mkdir()
    pl.DataFrame({"caption": [1, 2], "key": ["a", "b"]}).write_parquet(folder / "a.parquet")
    read_table(open_pool(folder).shards[0])


def no_captions(folder: Path) -> None:
    folder.mkdir()
    pl.DataFrame({"key": ["a", "b"]}).write_parquet(folder / "a.parquet")
    read_table(open_pool(folder).shards[0])


def truncated_tar(folder: Path) -> None:
    make_webdataset(folder, shards=1)
    path = folder / "00000.tar"
    path.write_bytes(path.read_bytes()[:2000])
    list(read_images(open_pool(folder).shards[0], ["000000000", "000000001", "000000002"]))


def two_tars_in_one(folder: Path) -> None:
    make_webdataset(folder, shards=2)
    path = folder / "00000.tar"
    path.write_bytes(path.read_bytes() + (folder / "00001.tar").read_bytes())
    list(read_images(open_pool(folder).shards[0], ["000010000"]))


def broken_parquet(folder: Path) -> None:
    make_webdataset(folder, shards=1)
    (folder / "00000.parquet").write_bytes(b"PAR1 and nothing else")
    read_table(open_pool(folder).shards[0])


def missing(folder: Path) -> None:
    open_pool(folder)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (missing, "no such pool"),
        (empty_folder, "saw an empty folder"),
        (unrelated_files, "saw 1 other files"),
        (a_file, "saw a file. Give the folder it is in"),
        (a_row_too_far, "a row that is not there: expected rows below 3, saw 0 to 3"),
        (captions_in_lists, r"caption is not text: expected strings, saw List\(String\)"),
        (text_that_is_not_utf8, "expected a whole Parquet file, texts in UTF-8"),
        (no_bytes_at_all, "cannot read"),
        (parquet_cut_short, "cannot read"),
        (captions_that_are_not_json, "cannot read captions.json: expected JSON like"),
        (captions_in_a_list, "captions.json is not a mapping: expected JSON like"),
        (no_such_kind_of_vectors, "has no image embeddings"),
        (captions_of_numbers, "caption is not text: expected strings, saw Int64"),
        (no_captions, "has no captions"),
        (truncated_tar, "00000.tar is broken"),
        (two_tars_in_one, "00000.tar is broken: .* more behind the end"),
        (broken_parquet, "cannot read"),
        (vectors_out_of_step, "out of step with metadata_0000.parquet: expected 2 rows"),
        (vectors_cut_short, "cannot read img_emb_0000.npy"),
    ],
)
def test_trouble_is_one_clear_line(tmp_path: Path, trouble: object, words: str) -> None:
    with pytest.raises(PoolError, match=words) as caught:
        trouble(tmp_path / "pool")  # type: ignore[operator]
    assert "\n" not in str(caught.value)
