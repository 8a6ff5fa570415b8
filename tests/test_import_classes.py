"""Which label each class of imported images gets, and what is said where that is not clear."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from tests.tiny_garden import save

from headwater.errors import SetError, TaskError
from headwater.pairs import read_pairs
from headwater.steps.importing import import_images
from headwater.steps.importing.labels import find_labels, read_classes
from headwater.steps.importing.samples import Meant, Plan
from headwater.store import read_step
from headwater.task import Task

PLANES = Task.model_validate(
    {
        "format": 1,
        "name": "planes",
        "classes": [
            "F-16A/B",
            "DC-10",
            {"label": "missile (657)", "name": "missile"},
            {"label": "missile (744)", "name": "missile"},
        ],
    }
)


class Toy:
    """Images of which only the classes are known."""

    what = "class"

    def __init__(self, *classes: Meant) -> None:
        self.classes = Counter(classes)
        self.said: list[str] = []

    def plan(self, _: object) -> Plan:
        raise NotImplementedError


def labels(folder: Path) -> dict[str, str]:
    rows = read_pairs(folder, ["id", "label"]).iter_rows()
    return {id.removeprefix("imported:"): label for id, label in rows}


@pytest.mark.parametrize(
    ("theirs", "label"),
    [
        ("DC-10", "DC-10"),
        ("dc_10", "DC-10"),
        ("F-16A_B", "F-16A/B"),
        ("f 16a b", "F-16A/B"),
        ("missile (744)", "missile (744)"),
        ("missile_657", "missile (657)"),
    ],
)
def test_a_class_is_meant_by_its_label_its_name_or_what_is_alike(theirs: str, label: str) -> None:
    found = find_labels(Toy(theirs), PLANES).classes
    assert PLANES.labels[found[theirs]] == label


def test_what_matched_loosely_is_said_once() -> None:
    said = find_labels(Toy("F-16A_B", "F-16A_B", "dc 10", "missile (657)"), PLANES).said
    assert said[0] == "2 classes matched loosely: F-16A_B as F-16A/B, dc 10 as DC-10"
    assert said[1] == "no image of 1 of 4 classes: missile (744)"


def test_all_unknown_classes_are_named_with_the_nearest() -> None:
    told = r"3 classes are not of task planes: .* saw DC-11 \(DC-10\?\); missile"
    told += r" \(missile \(657\) or missile \(744\)\?\); zebra\. Rename them, .*--classes FILE"
    with pytest.raises(TaskError, match=told):
        find_labels(Toy("zebra", "missile", "DC-11"), PLANES)


def test_two_names_of_one_class_are_refused_unless_told() -> None:
    toy = Toy("DC-10", "DC 10", "F-16A/B", "f16ab")
    told = r"two names for class DC-10, F-16A/B: expected one, saw DC-10 and DC 10; .* --classes"
    with pytest.raises(TaskError, match=told):
        find_labels(toy, PLANES)
    meant = {"DC 10": "DC-10", "f16ab": "F-16A/B"}
    assert find_labels(toy, PLANES, classes=meant).classes == dict(
        zip(["F-16A/B", "f16ab", "DC-10", "DC 10"], [0, 0, 1, 1], strict=True)
    )


def test_unknown_classes_are_left_out_where_asked_for() -> None:
    found = find_labels(Toy("DC-10", "zebra", "zebra", None), PLANES, skip_unknown=True)
    assert found.classes == {"DC-10": 1}
    assert found.skipped == "Left out: 2 images of 1 other class, zebra."
    assert "left out 1 image without a class" in found.said


def test_numbers_are_not_guessed_at() -> None:
    with pytest.raises(TaskError, match=r"numbers such as 0, 1\. .* say --classes task"):
        find_labels(Toy(1, 0), PLANES)
    told = read_classes("task", PLANES)
    assert find_labels(Toy(1, 0), PLANES, classes=told).classes == {1: 1, 0: 0}
    with pytest.raises(TaskError, match=r"such as 77\. They go beyond what --classes tells"):
        find_labels(Toy(1, 77), PLANES, classes=told)


def test_a_number_is_a_label_only_where_both_readings_agree() -> None:
    digits = {"format": 1, "name": "digits", "classes": ["0", "1", "3", "2"]}
    task = Task.model_validate(digits)
    assert find_labels(Toy(0, 1), task).classes == {0: 0, 1: 1}
    with pytest.raises(TaskError, match="numbers such as 2"):
        find_labels(Toy(0, 2), task)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is no mapping"),
        ('{"zebra": 3}', "maps to what is no label: .* saw zebra"),
        ("{", "cannot read .* expected JSON"),
        ("[" * 100_000, "cannot read .* expected JSON"),
        ('{"zebra": "DC-11"}', "DC-11 is no class .* Did you mean DC-10"),
    ],
)
def test_a_bad_file_of_classes_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises((TaskError, SetError), match=message):
        find_labels(Toy("zebra"), PLANES, classes=read_classes(tmp_path / "map.json", PLANES))


def test_a_file_of_classes_maps_merges_and_leaves_out(tmp_path: Path) -> None:
    images = save(tmp_path / "mine", {"fighter/1.png": 1, "DC-10/1.png": 2, "zebra/1.png": 3})
    (tmp_path / "map.json").write_text(json.dumps({"fighter": "F-16A_B", "zebra": None}))
    told = tmp_path / "map.json"
    import_images(images, PLANES, tmp_path / "set", classes=told, workers=1)
    assert labels(tmp_path / "set") == {"fighter/1.png": "F-16A/B", "DC-10/1.png": "DC-10"}
    card = (tmp_path / "set" / "README.md").read_text()
    assert "Left out: 1 image of 1 other class, zebra." in card
    asked = read_step(tmp_path / "set")["arguments"]
    assert asked == {"name": "imported", "classes": {"fighter": "F-16A_B", "zebra": None}}
    with pytest.raises(SetError, match="was made differently"):
        import_images(images, PLANES, tmp_path / "set", skip_unknown=True, workers=1)


def test_a_class_with_a_slash_may_lie_in_two_folders(tmp_path: Path) -> None:
    images = save(tmp_path / "mine", {"F-16A/B/1.png": 1, "DC-10/deep/er/1.png": 2})
    import_images(images, PLANES, tmp_path / "set", workers=1)
    assert labels(tmp_path / "set") == {"F-16A/B/1.png": "F-16A/B", "DC-10/deep/er/1.png": "DC-10"}


def test_nothing_of_the_task_is_an_error(tmp_path: Path) -> None:
    images = save(tmp_path / "mine", {"zebra/1.png": 1})
    with pytest.raises(SetError, match=r"no image of .* of a class of task planes: .* zebra"):
        import_images(images, PLANES, tmp_path / "set", skip_unknown=True, workers=1)
    assert not (tmp_path / "set").exists()


def test_the_same_classes_by_column_as_by_folder(tmp_path: Path) -> None:
    files = {"F-16A_B/1.png": 1, "dc 10/1.png": 2}
    images = save(tmp_path / "mine", files)
    import_images(images, PLANES, tmp_path / "folders", workers=1)
    rows = [{"image": (images / f).read_bytes(), "label": f.split("/")[0], "key": f} for f in files]
    pl.DataFrame(rows).write_parquet(tmp_path / "mine.parquet")
    import_images(tmp_path / "mine.parquet", PLANES, tmp_path / "column", workers=1)
    assert labels(tmp_path / "column") == labels(tmp_path / "folders")
