"""`import`: captions beside the images, and nothing from outside of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_garden import save

from headwater.decode import MAX_BYTES, encode_png
from headwater.errors import InputError, SetError, TaskError
from headwater.pairs import read_decisions, read_pairs
from headwater.steps.importing import import_images, read_captions, samples
from headwater.steps.importing.samples import LOT_BYTES, lots_of
from headwater.store import read_step
from headwater.task import Task

TASK = Task.model_validate({"format": 1, "name": "garden", "classes": ["rose"]})


def test_a_caption_beside_an_image_is_read_unless_it_leads_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not yours")
    roses = tmp_path / "mine" / "rose"
    roses.mkdir(parents=True)
    for number, name in enumerate(("a", "b", "c", "d")):
        pixels = np.full((4, 4, 3), 50 * number, np.uint8)
        (roses / f"{name}.png").write_bytes(encode_png(pixels))
    (roses / "a.txt").write_text("a red rose")
    (roses / "b.txt").symlink_to(tmp_path / "secret")
    (roses / "c.txt").symlink_to(roses / "a.txt")
    import_images(tmp_path / "mine", TASK, tmp_path / "set", workers=1)
    captions = read_pairs(tmp_path / "set", ["caption"])["caption"].to_list()
    assert captions == ["a red rose", None, "a red rose", None]


def test_captions_are_texts(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    file.write_text('{"rose/a.png": "half a \\ud800 character", "rose/b.png": null}')
    assert read_captions(tmp_path) == {"rose/a.png": "half a ? character"}
    file.write_text('{"rose/a.png": {"en": "a rose"}}')
    with pytest.raises(SetError, match=r"expected a text, saw .*for rose/a.png"):
        read_captions(tmp_path)


def test_an_image_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine" / "rose").mkdir(parents=True)
    path = tmp_path / "mine" / "rose" / os.fsdecode(b"\xff.png")
    try:
        path.write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    except OSError:
        pytest.skip("a file system that takes only text for names")
    with pytest.raises(TaskError, match=r"name is no text: expected UTF-8, .*udcff.png"):
        import_images(tmp_path / "mine", TASK, tmp_path / "set", workers=1)


GARDEN = Task.model_validate({"format": 1, "name": "garden", "classes": ["rose", "fern"]})


def rows(folder: Path, *columns: str) -> list[tuple[object, ...]]:
    return read_pairs(folder, list(columns)).rows()


def test_captions_stand_in_one_file_in_metadata_or_beside(tmp_path: Path) -> None:
    names = ("rose/1.png", "rose/2.png", "rose/3.png", "fern/1.png")
    mine = save(tmp_path / "mine", dict(zip(names, range(4), strict=True)))
    (mine / "captions.json").write_text('{"rose/1.png": "one file"}')
    (mine / "rose" / "metadata.csv").write_text(
        "\ufefffile_name,prompt\n1.png,a row\n2.png,a row\n../fern/1.png,not read\n"
    )
    (mine / "rose" / "3.txt").write_bytes(b"beside\x1b[31m\n \xff it\n")
    (mine / "fern" / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a line"}\n\n')
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    captions = ["one file", "a row", "beside[31m \ufffd it", "a line"]
    assert [text for (text,) in rows(tmp_path / "set", "caption")] == captions


def test_metadata_may_tell_the_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = save(tmp_path / "mine", {f"images/{n}.png": n for n in range(4)})
    (mine / "metadata.csv").write_text(
        "file_name,label,caption\nimages/0.png,1,a\nimages/1.png,0,\nimages/1.png,1,b\n"
        "images/2.png,0,c\n/etc/passwd,0,d\n../../secret.png,0,e\n"
    )
    with pytest.raises(TaskError, match=r"class numbers without names.*classnames.txt"):
        import_images(mine, GARDEN, tmp_path / "set", workers=1)
    (mine / "classnames.txt").write_text("rose\nfern\n")
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    assert rows(tmp_path / "set", "id", "label", "caption") == [
        ("imported:images/1.png", "rose", None),
        ("imported:images/2.png", "rose", "c"),
        ("imported:images/0.png", "fern", "a"),
    ]
    said = capsys.readouterr().err
    assert "no image for 2 rows of metadata.csv" in said
    assert "1 row of metadata.csv for an image told of before; the first counts" in said
    assert "left out 1 image without a class" in said


def test_other_captions_make_another_set(tmp_path: Path) -> None:
    mine = save(tmp_path / "mine", {"rose/1.png": 1})
    import_images(mine, GARDEN, tmp_path / "bare", workers=1)
    for text in ("red", "blue"):
        (mine / "rose" / "1.txt").write_text(text)
        with pytest.raises(SetError, match=r"was made differently: expected inputs.texts"):
            import_images(mine, GARDEN, tmp_path / "bare", workers=1)
    inputs = read_step(tmp_path / "bare")["inputs"]
    assert inputs.keys() == {"images", "task"}  # as sets of folders have always had


def test_other_names_of_numbers_make_another_set(tmp_path: Path) -> None:
    mine = save(tmp_path / "mine", {"images/0.png": 0})
    (mine / "metadata.csv").write_text("file_name,label\nimages/0.png,0\n")
    (mine / "classnames.txt").write_text("rose\nfern\n")
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    (mine / "classnames.txt").write_text("fern\nrose\n")
    with pytest.raises(SetError, match=r"was made differently: expected inputs.texts"):
        import_images(mine, GARDEN, tmp_path / "set", workers=1)


def test_of_folders_named_after_splits_the_training_one_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{split}/rose/1.png": n for n, split in enumerate(("Train", "val", "test"))}
    mine = save(tmp_path / "mine", files)
    (mine / "val" / "metadata.csv").write_text("file_name,label\nrose/1.png,fern\n")
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    assert rows(tmp_path / "set", "id", "label") == [("imported:Train/rose/1.png", "rose")]
    assert "the training split is read; left alone: test, val" in capsys.readouterr().err
    (mine / "Train").rename(tmp_path / "elsewhere")
    with pytest.raises(SetError, match=r"which split .* saw test and val"):
        import_images(mine, GARDEN, tmp_path / "other", workers=1)


def test_what_is_no_image_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = save(tmp_path / "mine", {"rose/1.png": 1, "grid.png": 2})
    for name in ("rose/1.txt", "rose/2.txt", "rose/a.xmp", "rose/b.XMP", "rose/raw", ".DS_Store"):
        (mine / name).write_text("x")
    (mine / "fern").symlink_to(tmp_path)
    (mine / "rose" / "loop").symlink_to(mine)
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    assert [id for (id,) in rows(tmp_path / "set", "id")] == ["imported:rose/1.png"]
    said = capsys.readouterr().err
    assert "left out 4 other files: 2 .xmp, 1 .txt, 1 without a suffix" in said
    assert "left out 2 links, never followed" in said
    assert "left out 1 image without a class" in said


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>", "not an image"),
        (encode_png(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))[:-30], "broken image"),
        (b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + b"\xff\xff\0\0" * 2 + b"\1\0\x18" + bytes(25),
         "too many pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_a_decision(tmp_path: Path, data: bytes, reason: str) -> None:
    mine = save(tmp_path / "mine", {"rose/1.png": 1})
    (mine / "rose" / "2.png").write_bytes(data)
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    decisions = read_decisions(tmp_path / "set").select("id", "kept", "reason").rows()
    assert decisions[1] == ("imported:rose/2.png", False, reason)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no images in .*: expected one folder a class, saw an empty folder"),
        (
            {"all.zip": "x"},
            r"no images .* saw left out 1 other file: 1 .zip\. Unpack all.zip first",
        ),
        ({"rose/metadata.jsonl": "{"}, r"cannot read line 1 of rose/metadata.jsonl: expected JSON"),
        ({"metadata.parquet": "x"}, "cannot read metadata.parquet: expected Parquet"),
        ({"captions.json": "[]"}, "captions.json is not a mapping"),
        ({"metadata.csv": 'file_name,text\n"' + "x" * 2**21}, "cannot read metadata.csv"),
        ({"rose/1.png/x": ""}, "no images"),
    ],
)
def test_a_bad_folder_is_told_in_a_line(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in files.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    with pytest.raises(InputError, match=message):
        import_images(mine, GARDEN, tmp_path / "set", workers=1)


def test_a_set_among_its_own_images_is_refused(tmp_path: Path) -> None:
    images = save(tmp_path / "mine", {"fern/1.png": 1})
    task = Task.model_validate({"format": 1, "name": "garden", "classes": ["fern"]})
    for out in (images, images / "set", tmp_path / "other" / ".." / "mine" / "set"):
        with pytest.raises(SetError, match="lies among the images"):
            import_images(images, task, out)
    assert [path.name for path in images.iterdir()] == ["fern"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetError, match=r"cannot read .*gone.png: saw No such file"):
        samples.digest_files([("gone.png", tmp_path / "gone.png")])
    with pytest.raises(SetError, match=r"cannot read .*gone.png: saw No such file"):
        samples.read_bytes(tmp_path / "gone.png")


def test_linked_images_are_not_followed_and_it_is_said(tmp_path: Path) -> None:
    away = save(tmp_path / "away", {"1.png": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rose").symlink_to(away)
    told = r"saw left out 1 link, never followed. .* copy the files into it"
    with pytest.raises(SetError, match=told):
        import_images(tmp_path / "mine", GARDEN, tmp_path / "set", workers=1)


@given(st.lists(st.integers(0, 2 * LOT_BYTES), max_size=30))
def test_lots_are_whole_and_fit(sizes: list[int]) -> None:
    cuts = list(lots_of(sizes))
    assert [size for cut in cuts for size in sizes[cut]] == sizes
    for cut in cuts:
        held = [min(size, MAX_BYTES) for size in sizes[cut]]
        assert held
        assert sum(held) <= LOT_BYTES or len(held) == 1


def test_large_folders_are_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = save(tmp_path / "mine", {f"rose/{n}.png": n for n in range(5)})
    import_images(mine, GARDEN, tmp_path / "one", workers=1)
    monkeypatch.setattr(samples, "LOT_IMAGES", 2)
    import_images(mine, GARDEN, tmp_path / "many", workers=2)
    assert len(list((tmp_path / "many" / "data").iterdir())) == 3
    assert read_pairs(tmp_path / "many").equals(read_pairs(tmp_path / "one"))
