"""Parquet and Hugging Face datasets as a set: which column is what, and what comes back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
from PIL import Image
from tests.tiny_garden import picture, save

from headwater.errors import InputError, SetError, TaskError
from headwater.pairs import IMAGE, read_decisions, read_pairs
from headwater.steps.importing import import_images, samples, tables
from headwater.task import Task

GARDEN = Task.model_validate({"format": 1, "name": "garden", "classes": ["rose", "fern"]})


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, format="PNG")
    return buffer.getvalue()


def imported(place: Path, out: Path, *columns: str, **how: Any) -> list[tuple[Any, ...]]:
    import_images(place, GARDEN, out, workers=1, **how)
    return read_pairs(out, columns or ("id", "label", "caption")).rows()


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_columns_go_by_the_names_people_have(tmp_path: Path) -> None:
    place = write(
        tmp_path / "mine.parquet", jpg=[png(1), png(2)], classname=["Rose", "fern"],
        label=[7, 8], prompt=["a rose", ""],
    )  # fmt: skip
    assert imported(place, tmp_path / "set") == [
        ("imported:mine/0", "rose", "a rose"),
        ("imported:mine/1", "fern", None),
    ]


def test_a_struct_has_bytes_or_is_a_decision(tmp_path: Path) -> None:
    cells = [{"bytes": png(1), "path": "a\\b/c.png"}, {"bytes": None, "path": "/etc/passwd"}, None]
    image = pl.Series("image", cells, dtype=IMAGE)
    place = write(tmp_path / "mine.parquet", image=image, label=["rose"] * 3, id=["x", "y", "z"])
    assert imported(place, tmp_path / "set", "id", "image") == [
        ("imported:x", {"bytes": png(1), "path": "c.png"})
    ]
    assert read_decisions(tmp_path / "set")["reason"].to_list() == [
        "kept",
        "no image in the table",
        "no image in the table",
    ]


def test_ids_that_repeat_are_not_ids(tmp_path: Path) -> None:
    place = write(
        tmp_path / "mine.parquet", image=[png(1), png(2)], label=["rose", "rose"], id=[5, 5]
    )
    assert [row[0] for row in imported(place, tmp_path / "set")] == [
        "imported:mine/0",
        "imported:mine/1",
    ]


def test_an_id_in_two_of_their_classes_is_one_in_each_of_the_task_s(tmp_path: Path) -> None:
    place = write(
        tmp_path / "mine.parquet", image=[png(1), png(2)], label=["red", "white"], id=["a", "a"]
    )
    told = {"apart": {"red": "rose", "white": "fern"}, "one": {"red": "rose", "white": "rose"}}
    ids = {}
    for name, classes in told.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(classes))
        file = tmp_path / f"{name}.json"
        ids[name] = [row[0] for row in imported(place, tmp_path / name, "id", classes=file)]
    assert ids == {
        "apart": ["imported:a", "imported:a"],
        "one": ["imported:mine/0", "imported:mine/1"],
    }


def test_numbers_mean_the_names_in_the_schema(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["tree fern", "fern", "rose"])
    features = datasets.Features({"img": datasets.Image(), "kind": names})
    rows = {"img": [picture(1), picture(2), picture(3)], "kind": [2, 1, -1]}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(tmp_path / "mine.parquet")
    made.save_to_disk(tmp_path / "disk")
    for place in (tmp_path / "mine.parquet", tmp_path / "disk"):
        found = imported(place, tmp_path / f"set-{place.stem}", "label", "image")
        assert [label for label, _ in found] == ["rose", "fern"]
        pixels = Image.open(io.BytesIO(found[0][1]["bytes"]))
        assert pixels.tobytes() == picture(1).tobytes()


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    place = write(tmp_path / "all" / "data" / "mine.parquet", image=[png(1), png(2)], label=[1, 0])
    with pytest.raises(TaskError, match=r"class numbers without names: .* classnames\.txt"):
        imported(tmp_path / "all", tmp_path / "set")
    assert [row[1] for row in imported(place, tmp_path / "own", classes="task")] == ["fern", "rose"]
    (tmp_path / "all" / "classnames.txt").write_text("fern\nrose\n")
    assert [row[1] for row in imported(tmp_path / "all" / "data", tmp_path / "b", classes="task")]
    found = imported(tmp_path / "all", tmp_path / "set")
    assert [row[:2] for row in found] == [
        ("imported:data/mine/0", "rose"),
        ("imported:data/mine/1", "fern"),
    ]


def test_the_training_split_of_a_repository_is_read(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("test", 2)):
        name = f"repo/data/{split}-00000-of-00001.parquet"
        write(tmp_path / name, image=[png(number)], label=["rose"])
    save(tmp_path / "repo", {"assets/banner.png": 5})
    found = imported(tmp_path / "repo", tmp_path / "set", "image")
    assert [row[0]["bytes"] for row in found] == [png(1)]


def test_a_dataset_dict_gives_its_training_split(tmp_path: Path) -> None:
    splits = {
        split: datasets.Dataset.from_dict(
            {"image": [png(n)], "label": ["rose"]},
            features=datasets.Features(image=datasets.Image(), label=datasets.Value("string")),
        )
        for n, split in enumerate(("train", "validation"))
    }  # fmt: skip
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "disk")
    assert len(imported(tmp_path / "disk", tmp_path / "set")) == 1


def test_a_set_comes_back_as_itself_and_through_datasets(tmp_path: Path) -> None:
    mine = save(tmp_path / "mine", {"rose/1.png": 1, "rose/2.jpg": 2, "fern/1.png": 3})
    (mine / "captions.json").write_text('{"rose/1.png": "a red rose"}')
    import_images(mine, GARDEN, tmp_path / "set", workers=1)
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    loaded["train"].save_to_disk(tmp_path / "disk")
    loaded["train"].to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    before = read_pairs(tmp_path / "set")
    for place in ("set", "disk", "hub"):
        import_images(tmp_path / place, GARDEN, tmp_path / f"{place}-back", workers=1)
        back = read_pairs(tmp_path / f"{place}-back")
        for column in ("label", "caption", "sha256", "image"):
            assert back[column].to_list() == before[column].to_list(), (place, column)
        assert back["id"].to_list() == [f"imported:{id}" for id in before["id"]]


def test_an_unfinished_set_is_refused(tmp_path: Path) -> None:
    import_images(save(tmp_path / "mine", {"rose/1.png": 1}), GARDEN, tmp_path / "set", workers=1)
    (tmp_path / "set" / "step.json").rename(tmp_path / "set" / "started.json")
    with pytest.raises(SetError, match="is unfinished"):
        imported(tmp_path / "set", tmp_path / "back")


def test_tables_are_read_a_lot_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write(
        tmp_path / "mine.parquet", image=[png(n) for n in range(9)], label=["rose", "fern", "x"] * 3
    )
    import_images(place, GARDEN, tmp_path / "one", skip_unknown=True, workers=1)
    monkeypatch.setattr(tables, "LOT_IMAGES", 4)
    import_images(place, GARDEN, tmp_path / "many", skip_unknown=True, workers=2)
    assert len(list((tmp_path / "many" / "data").iterdir())) == 3
    assert read_pairs(tmp_path / "many").equals(read_pairs(tmp_path / "one"))
    assert samples.LOT_IMAGES == 1000


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["rose"]}, "mine.parquet has no column of images: .* saw label"),
        ({"a": [b"x"], "b": [b"y"]}, "mine.parquet has several columns of images: .* saw a, b"),
        ({"image": ["/etc/passwd"], "label": ["rose"]}, "mine.parquet has no column of images"),
        ({"image": [b"x"], "label": [["rose"]]}, "no image of .* is of a class of task garden"),
        ({"image": [b"x"], "label": [0.5]}, "no image of .* is of a class of task garden"),
        ({"image": [b"x"]}, "no image of .* is of a class of task garden"),
        ({"image": [b"x"] * 2, "label": ["roze", "ferm"]}, r"2 classes are not .* roze \(rose\?\)"),
        ({}, "mine.parquet has no column of images"),
    ],
)
def test_a_bad_table_is_told_in_a_line(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        imported(write(tmp_path / "mine.parquet", **columns), tmp_path / "set")


@pytest.mark.parametrize("name", ["mine.parquet", "mine.arrow", "mine.zip"])
def test_rubbish_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1 rubbish")
    with pytest.raises(InputError, match=r"expected a (whole|folder)"):
        imported(tmp_path / name, tmp_path / "set")


def test_a_table_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(tmp_path / "mine.parquet", image=[png(1)] * 500, label=["rose"] * 500)
    monkeypatch.setattr(tables, "MAX_LOT_BYTES", 10 * place.stat().st_size)
    with pytest.raises(SetError, match=r"rows 0 to 500 of mine are too much at once"):
        imported(place, tmp_path / "set")


def test_linked_tables_are_not_followed_and_it_is_said(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "0", image=[png(1)], label=["rose"])
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "0.parquet").symlink_to(blob)
    with pytest.raises(SetError, match=r"such as 0.parquet.* copy the files into it"):
        imported(tmp_path / "snapshot", tmp_path / "set")


@pytest.mark.parametrize(
    "features", ["[", "{}", '{"info": 3}', '{"info": {"features": [1]}}', "[" * 100_000,
                 '{"info": {"features": {"label": {"names": "rose"}}}}']
)  # fmt: skip
def test_features_are_not_trusted(tmp_path: Path, features: str) -> None:
    table = pl.DataFrame({"image": [png(1)], "label": ["rose"]})
    table.write_parquet(tmp_path / "mine.parquet", metadata={"huggingface": features})
    assert len(imported(tmp_path / "mine.parquet", tmp_path / "set")) == 1


def test_names_beside_an_arrow_file_are_not_trusted(tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict({"image": [png(1)], "label": [0]})
    made.save_to_disk(tmp_path / "disk")
    info = tmp_path / "disk" / "dataset_info.json"
    info.write_text(json.dumps({"features": {"label": {"names": [1, 2]}}}))
    with pytest.raises(TaskError, match="class numbers without names"):
        imported(tmp_path / "disk", tmp_path / "set")
