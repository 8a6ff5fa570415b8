"""WebDataset tars as a set: what a sample is, what tells its class, and what hostile tars do."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tiny_garden import picture, save

from headwater.errors import InputError, TaskError
from headwater.pairs import read_decisions, read_pairs
from headwater.steps.importing import import_images, samples
from headwater.steps.importing.tars import iter_members, member_key
from headwater.task import Task

GARDEN = Task.model_validate({"format": 1, "name": "garden", "classes": ["rose", "fern"]})
Rows = list[tuple[object, ...]]


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            raw = data.encode() if isinstance(data, str) else data
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def imported(place: Path, out: Path, **how: object) -> Rows:
    import_images(place, GARDEN, out, workers=1, **how)  # type: ignore[arg-type]
    return read_pairs(out, ["id", "label", "caption"]).rows()


def test_class_and_caption_stand_beside_the_image_under_one_key(tmp_path: Path) -> None:
    place = write_tar(
        tmp_path / "mine.tar",
        [
            ("./0.png", png(0)), ("./0.cls", "rose\n"), ("./0.txt", "a red\nrose"),
            ("1.json", '{"label": 0, "classname": "fern", "prompt": "a fern"}'), ("1.PNG", png(1)),
            ("fern/2.seg.png", png(2)), ("fern/2.png", png(3)), ("fern/2.depth.npy", b"x"),
        ],
    )  # fmt: skip
    assert imported(place, tmp_path / "set") == [
        ("imported:mine/0", "rose", "a red rose"),
        ("imported:mine/1", "fern", "a fern"),
        ("imported:mine/fern/2", "fern", None),
    ]
    images = read_pairs(tmp_path / "set")["image"].struct.field("bytes").to_list()
    assert images == [png(0), png(1), png(3)]


def test_numbers_mean_the_names_beside_the_tars(tmp_path: Path) -> None:
    write_tar(tmp_path / "mine/10.tar", [("a.png", png(1)), ("a.cls", "0")])
    write_tar(tmp_path / "mine/9.tar", [("a.png", png(2)), ("a.cls", "1\n")])
    with pytest.raises(TaskError, match="class numbers without names"):
        imported(tmp_path / "mine", tmp_path / "set")
    assert [row[:2] for row in imported(tmp_path / "mine", tmp_path / "own", classes="task")] == [
        ("imported:9/a", "fern"),
        ("imported:10/a", "rose"),
    ]
    (tmp_path / "mine" / "classnames.txt").write_text("fern\nrose\n")
    assert [row[1] for row in imported(tmp_path / "mine", tmp_path / "set")] == ["rose", "fern"]


def test_only_tars_of_the_training_split_are_read(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        place = tmp_path / f"mine/garden-{split}-000.tar"
        write_tar(place, [(f"{number}.png", png(number)), (f"{number}.cls", "rose")])
    found = imported(tmp_path / "mine", tmp_path / "set")
    assert [row[0] for row in found] == ["imported:garden-train-000/1"]


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_tar(
        tmp_path / "mine.tar",
        [
            ("._a.png", b"junk"), ("a.png", png(1)), ("._a.cls", b"junk"), ("a.cls", "rose"),
            ("../up.png", png(2)), ("/etc/x.png", png(3)),
            ("._b.png", b"junk"), ("b.png", png(4)), ("a.png", png(5)), ("a.cls", "fern"),
            ("c.cls", "rose"), ("d.pyd", b"pickle"), ("e.png", png(6)), ("e.json", "{"),
            ("e.txt", "x" * (2**20 + 1)),
        ],
    )  # fmt: skip
    with tarfile.open(place, "a") as tar:
        link = tarfile.TarInfo("rose/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert [row[0] for row in imported(place, tmp_path / "set")] == ["imported:mine/a"]
    said = capsys.readouterr().err
    assert (
        "left out of the tars: 2 leading out of the tar, 1 json that is none, 1 pyd, 1 txt too"
        in said
    )
    assert "left out 1 sample with a key that was there before" in said
    assert "left out 2 images without a class" in said


def test_lots_begin_anywhere_in_a_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 150  # a name that takes a header of its own
    members: list[tuple[str, bytes | str]] = []
    for number in range(7):
        members += [(f"{long}{number}.png", png(number)), (f"{long}{number}.cls", "rose")]
    members += [(f"{long}3.png", png(9)), (f"{long}3.cls", "rose")]  # again
    place = write_tar(tmp_path / "mine.tar", members)
    import_images(place, GARDEN, tmp_path / "one", workers=1)
    monkeypatch.setattr(samples, "LOT_IMAGES", 3)
    import_images(place, GARDEN, tmp_path / "many", workers=2)
    assert len(list((tmp_path / "many" / "data").iterdir())) == 3
    assert read_pairs(tmp_path / "many").equals(read_pairs(tmp_path / "one"))
    assert len(read_pairs(tmp_path / "one")) == 7


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b"x"), ("a.json", "[" * 100_000)], "1 that tell no class; .*json that is none"),
        ([("a.png", b"x"), ("a.cls", "roze")], "roze is no class .* Did you mean rose"),
        ([("a.png", b"x")], "no image of .* of a class of task garden"),
        ([], "no image of"),
    ],
)
def test_a_bad_tar_is_told_in_a_line(
    tmp_path: Path, members: list[tuple[str, bytes | str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        imported(write_tar(tmp_path / "mine.tar", members), tmp_path / "set")


def test_a_tar_cut_short_is_told(tmp_path: Path) -> None:
    place = write_tar(tmp_path / "mine.tar", [("rose/a.png", png(1)), ("rose/b.png", png(2))])
    place.write_bytes(place.read_bytes()[:-9000])
    with pytest.raises(InputError, match=r"mine.tar is broken: expected a whole tar file"):
        imported(place, tmp_path / "set")


def test_an_image_over_the_limit_is_a_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.steps.importing.tars.MAX_BYTES", 10)
    monkeypatch.setattr("headwater.decode.MAX_BYTES", 10)
    imported(write_tar(tmp_path / "mine.tar", [("rose/a.png", png(1))]), tmp_path / "set")
    assert read_decisions(tmp_path / "set")["reason"].to_list() == ["too many bytes"]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=3000), st.integers(0, 10_000))
def test_rubbish_in_a_tar_is_never_a_traceback(tmp_path: Path, junk: bytes, at: int) -> None:
    place = write_tar(tmp_path / "mine.tar", [("rose/a.png", png(1)), ("rose/a.txt", "red")])
    whole = place.read_bytes()
    place.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    try:
        assert all(members.key == member_key(members.key)[0] for members in iter_members(place))
    except InputError as error:
        assert "\n" not in str(error)


def test_a_set_comes_back_through_webdataset(tmp_path: Path) -> None:
    mine = save(tmp_path / "mine", {"rose/1.png": 1, "rose/2.jpg": 2, "fern/1.png": 3})
    (mine / "captions.json").write_text('{"rose/1.png": "a red rose"}')
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    before = read_pairs(tmp_path / "set")
    members: list[tuple[str, bytes | str]] = []
    for n, row in enumerate(before.iter_rows(named=True)):
        suffix = row["image"]["path"].rpartition(".")[2]
        members += [(f"{n:05d}.{suffix}", row["image"]["bytes"]), (f"{n:05d}.cls", row["label"])]
        members += [(f"{n:05d}.txt", row["caption"])] if row["caption"] else []
    import_images(
        write_tar(tmp_path / "t" / "0.tar", members), GARDEN, tmp_path / "back", workers=1
    )
    back = read_pairs(tmp_path / "back")
    for column in ("label", "caption", "sha256"):
        assert back[column].to_list() == before[column].to_list()


def test_a_tar_in_a_folder_and_a_folder_in_a_tar_share_no_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mine"
    write_tar(place / "a.tar", [("b/0.png", png(0)), ("b/0.cls", "rose")])
    write_tar(place / "a" / "b.tar", [("0.png", png(1)), ("0.cls", "rose")])
    assert imported(place, tmp_path / "set") == [("imported:a/b/0", "rose", None)]
    assert "left out 1 sample with a key that was there before" in capsys.readouterr().err
