"""Captions that somebody wrote already: files of several kinds, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from headwater.errors import HeadwaterError, InputError, SetError, TaskError
from headwater.store import step, write_table
from headwater.synthesize.captions.given import (
    MOST_LETTERS,
    distinct_texts,
    read_captions,
    retell,
    take_captions,
)
from headwater.synthesize.captions.plan import SCHEMA
from headwater.task import Task

PLANES = Task.model_validate(
    {"format": 1, "name": "planes", "classes": ["F-16A/B", {"label": "7", "name": "Boeing 737"}]}
)
ROWS = [("F-16A/B", "an F-16A/B, landing"), ("7", "a Boeing 737"), ("F-16A/B", "a gray F-16A/B")]


def as_csv(path: Path) -> Path:
    pl.DataFrame(ROWS, schema=["Class", "prompt"], orient="row").write_csv(path)
    return path


def as_json_lines(path: Path) -> Path:
    labels = {"7": 7}  # a number, as other tools write it
    lines = [json.dumps({"caption": c, "label": labels.get(x, x), "n": [1]}) for x, c in ROWS]
    path.write_text("\n\n".join(lines) + "\n")
    return path


def as_parquet(path: Path) -> Path:
    columns = ["caption", "label", "image"]
    pl.DataFrame([(c, x, b"\xff") for x, c in ROWS], schema=columns, orient="row").write_parquet(
        path
    )
    return path


def as_lines(path: Path) -> Path:
    path.write_text("\ufeff" + "\r\n".join(f"{x}\t{c}" for x, c in ROWS), encoding="utf-8")
    return path


def as_folder(path: Path) -> Path:
    rows = [(i, x, c, "background") for i, (x, c) in enumerate(ROWS)]
    with step(path, "captions", arguments={}):
        write_table(path / "captions.parquet", pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    return path


@pytest.mark.parametrize(
    ("write", "name", "kind"),
    [
        (as_csv, "a.csv", "file"),
        (as_json_lines, "a.jsonl", "file"),
        (as_parquet, "a.parquet", "file"),
        (as_lines, "a.txt", "file"),
        (as_folder, "set", "background"),
    ],
)
def test_files_of_every_kind_say_the_same(
    write: object, name: str, kind: str, tmp_path: Path
) -> None:
    table = read_captions(write(tmp_path / name), PLANES)  # type: ignore[operator]
    assert table.columns == ["label", "caption", "kind"]
    assert list(table.iter_rows()) == [(label, caption, kind) for label, caption in ROWS]


def test_labels_are_matched_like_folders(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("f 16a_b\tone\nboeing-737\ttwo\nF-16A/B\tthree\n7\tfour\n")
    assert read_captions(path, PLANES)["label"].to_list() == ["F-16A/B", "7", "F-16A/B", "7"]


def test_captions_of_files_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('label,caption\n7,"two\nlines\x1b[31m of <b>it</b>"\n')
    assert read_captions(path, PLANES)["caption"].item() == "two lines[31m of <b>it</b>"


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        (
            "a.txt",
            "7 a Boeing 737",
            InputError,
            "label<TAB>caption, saw '7 a Boeing 737' in line 1",
        ),
        ("a.txt", "\n \n", InputError, "has no captions"),
        ("a.txt", b"\xff\xfe7\t", InputError, "text in UTF-8"),
        ("a.txt", "7\t \n", InputError, "lacks its caption.*row 1"),
        ("a.txt", "7\ta\n\tb\n", InputError, "lacks its label.*row 2"),
        ("a.txt", "7\ta\n8\tb\n9\tc\n", TaskError, "2 labels are not of task planes.*8.*9"),
        ("a.txt", "F-16A\ta", TaskError, "Did you mean F-16A/B"),
        ("a.txt", "7\t" + "x" * (MOST_LETTERS + 1), InputError, "too long.*2,001 in row 1"),
        ("a.csv", "label,words\n7,b\n", InputError, "no column caption.*caption or prompt"),
        ("a.csv", "caption\nb\n", InputError, "no column label.*label or class"),
        ("a.csv", "label,caption\n7,b,c,d\n", InputError, "cannot read a.csv"),
        ("a.csv", "", InputError, "cannot read a.csv"),
        ("a.csv", b"label,caption\n7,\xff\n", InputError, "cannot read a.csv"),
        ("a.jsonl", '{"label": "7"', InputError, "in line 1"),
        ("a.jsonl", "[1]\n", InputError, "in line 1"),
        ("a.jsonl", "[" * 100_000, InputError, "in line 1"),
        ("a.jsonl", '{"label": "7", "caption": {"a": 1}}', InputError, "lacks its caption"),
        ("a.jsonl", '{"label": "7"}', InputError, "no column caption"),
        ("a.parquet", "label,caption", InputError, "cannot read a.parquet"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    name: str, content: str | bytes, error: type[HeadwaterError], says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=says) as caught:
        read_captions(tmp_path / name, PLANES)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 600


def test_odd_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"label": ["7"], "caption": [[1, 2]]}).write_parquet(path)
    with pytest.raises(InputError):
        read_captions(path, PLANES)
    pl.DataFrame({"label": ["7"], "caption": [b"\xff"]}).write_parquet(path)
    with pytest.raises(InputError, match="cannot read"):
        read_captions(path, PLANES)


def test_a_missing_file_and_an_unfinished_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no captions there"):
        read_captions(tmp_path / "none.csv", PLANES)
    (tmp_path / "half").mkdir()
    with pytest.raises(SetError, match="not made by Headwater"):
        read_captions(tmp_path / "half", PLANES)


def given_captions() -> pl.DataFrame:
    rows = [(label, f"{label} {i}", "file") for i in range(3) for label in "aab"]
    return pl.DataFrame(rows, schema=["label", "caption", "kind"], orient="row")


def test_the_first_n_are_taken_in_order() -> None:
    table = take_captions(given_captions(), ["a", "b"], 4, seed=0)
    assert table.schema == SCHEMA
    assert table["index"].to_list() == [0, 1, 2, 3]
    assert table["caption"].to_list() == ["a 0", "a 0", "b 0", "a 1"]
    with pytest.raises(InputError, match="too few captions: expected 10, saw 9"):
        take_captions(given_captions(), ["a", "b"], 10, seed=0)


def test_the_first_of_each_class_are_taken_whatever_more_is_asked() -> None:
    two = take_captions(given_captions(), ["a", "b"], per_class=2, seed=0)
    three = take_captions(given_captions(), ["a", "b"], per_class=3, seed=0)
    assert three.head(len(two)).equals(two)
    assert three.filter(label="b")["caption"].to_list() == ["b 0", "b 1", "b 2"]
    with pytest.raises(InputError, match="too few captions of class b: expected 4, saw 3"):
        take_captions(given_captions(), ["a", "b"], per_class=4, seed=0)


def test_texts_of_a_class_are_told_once_before_they_repeat() -> None:
    pairs = pl.DataFrame(
        {
            "id": [f"w:{i}" for i in range(6)],
            "label": ["a", "a", "a", "a", "b", "b"],
            "caption": ["one", " one\n", "two", None, "", "three\x00"],
        }
    )
    texts = distinct_texts(pairs, seed=0)
    assert {label: sorted(told) for label, told in texts.items()} == {
        "a": ["one", "two"], "b": ["three"],
    }  # fmt: skip
    table = retell(texts, ["a", "b", "a", "a"], {"a": "iris {}", "b": "bee"}, kind="alt_text")
    first, second = texts["a"]
    assert table["caption"].to_list() == [
        f"a photo of iris {{}}, {first}", "a photo of bee, three",
        f"a photo of iris {{}}, {second}", f"a photo of iris {{}}, {first}",
    ]  # fmt: skip
    assert table["kind"].unique().to_list() == ["alt_text"]


def test_texts_do_not_depend_on_the_order_of_the_pairs_but_on_the_seed() -> None:
    pairs = pl.DataFrame(
        {"id": [f"w:{i}" for i in range(9)], "label": "a", "caption": [f"t{i}" for i in range(9)]}
    )
    assert distinct_texts(pairs, seed=0) == distinct_texts(pairs[::-1], seed=0)
    assert distinct_texts(pairs, seed=0) != distinct_texts(pairs, seed=1)


def test_a_class_without_texts_is_refused() -> None:
    with pytest.raises(InputError, match="class b has no captions to retell"):
        retell({"a": ["x"], "b": []}, ["a", "b"], {"a": "a", "b": "b"}, kind="alt_text")
