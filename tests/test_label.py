"""`task label`: a sample of a pool becomes a page, its answers a split of the task."""

from __future__ import annotations

import csv
import json
import tarfile
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_clip import tiny_clip

from headwater.cli import run
from headwater.decode import encode_jpeg, encode_png
from headwater.errors import InputError, PoolError, SetError, TaskError
from headwater.pairs import read_decisions, read_pairs
from headwater.report.label import NONE, SKIPPED
from headwater.splits import load_split
from headwater.steps.curation.curate import curate
from headwater.steps.curation.settings import Curation
from headwater.steps.labelling import split as split_module
from headwater.steps.labelling.answers import read_answers
from headwater.steps.labelling.page import make_page
from headwater.steps.labelling.sample import Sampling, balanced_rows
from headwater.steps.labelling.split import make_split
from headwater.steps.retrieve import retrieve
from headwater.steps.settings import Retrieval
from headwater.store import contents, write_bytes
from headwater.task import Task, load_task

CLASSES: list[Any] = [
    "rose",
    {"label": "fern", "name": "tree fern"},
    {"label": "AC/DC", "queries": ["acdc"]},
    "yew",
]
CAPTIONS = ["a red rose", "rose and tree fern", "tree fern", "acdc live", None, "a prose poem"]


def picture(number: int, side: int = 12) -> bytes:
    rng = np.random.default_rng(number)
    return encode_jpeg(rng.integers(0, 256, (side, side, 3)).astype(np.uint8))


def row(number: int, side: int = 12) -> dict[str, Any]:
    return {
        "key": f"k{number:03d}",
        "caption": CAPTIONS[number % len(CAPTIONS)],
        "nsfw": "NSFW" if number == 6 else "UNLIKELY",
        "jpg": b"<html>" if number == 12 else picture(number, side),
    }


def make_pool(folder: Path, n: int = 48, shards: int = 3, side: int = 12) -> Path:
    """Captions in turn; the seventh pair is tagged unsafe, the image of the thirteenth is none."""
    folder.mkdir()
    for shard in range(shards):
        rows = [row(number, side) for number in range(n) if number % shards == shard]
        pl.DataFrame(rows).write_parquet(folder / f"part-{shard}.parquet")
    return folder


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return make_pool(tmp_path / "pool")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    told = {"format": 1, "name": "garden", "classes": CLASSES}
    (tmp_path / "garden.yaml").write_text(yaml.safe_dump(told))
    return load_task(tmp_path / "garden.yaml")


class Page(HTMLParser):
    """The pictures of a page: id -> caption; and the labels to choose from."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: dict[str, str] = {}
        self.labels: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "data-id" in found:
            self.pictures[json.loads(found["data-id"] or "")] = found["data-caption"] or ""
        if "data-label" in found:
            self.labels.append(json.loads(found["data-label"] or ""))


def write_answers(path: Path, rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "label"), *rows.items()])
    return path


def test_half_of_the_page_is_found_by_captions_and_balanced(
    pool: Path, task: Task, tmp_path: Path
) -> None:
    counts = make_page(
        pool, task, tmp_path / "l.html", how=Sampling(n=18, mode="phrase"), workers=1
    )
    page = Page(tmp_path / "l.html")
    assert (counts["pictures"], counts["by_captions"]) == (18, 9)
    assert page.labels == task.labels
    assert len(page.pictures) == 18
    captions = list(page.pictures.values())
    assert sum("acdc" in text for text in captions) >= 3
    assert sum(text in ("", "a prose poem") for text in captions) >= 1


def test_what_is_unsafe_or_no_image_is_not_shown(pool: Path, task: Task, tmp_path: Path) -> None:
    counts = make_page(pool, task, tmp_path / "l.html", how=Sampling(n=100), workers=1)
    assert counts["pictures"] == 46
    page = Page(tmp_path / "l.html")
    assert set(page.pictures) == {f"pool:k{n:03d}" for n in range(48)} - {"pool:k006", "pool:k012"}


def test_the_same_picture_is_not_shown_twice(task: Task, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    rows = [row(number) | {"jpg": picture(number // 2)} for number in range(20, 40)]
    pl.DataFrame(rows).write_parquet(tmp_path / "pool/a.parquet")
    assert (
        make_page(tmp_path / "pool", task, tmp_path / "l.html", how=Sampling(), workers=1)[
            "pictures"
        ]
        == 10
    )


def test_the_page_has_the_same_bytes_each_time(pool: Path, task: Task, tmp_path: Path) -> None:
    for name, workers, seed in (("a", 1, 0), ("b", 3, 0), ("c", 1, 1)):
        how = Sampling(n=10)
        make_page(pool, task, tmp_path / f"{name}.html", how=how, seed=seed, workers=workers)
    a, b, c = ((tmp_path / f"{name}.html").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_all_by_captions_or_all_by_chance(pool: Path, task: Task, tmp_path: Path) -> None:
    named = make_page(pool, task, tmp_path / "a.html", how=Sampling(n=12, matched=1), workers=1)
    assert (named["pictures"], named["by_captions"]) == (12, 12)
    assert all(Page(tmp_path / "a.html").pictures.values())
    chance = make_page(pool, task, tmp_path / "b.html", how=Sampling(n=12, matched=0), workers=1)
    assert (chance["pictures"], chance["by_captions"]) == (12, 0)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), unique=True),
    st.integers(0, 5),
)
def test_classes_take_turns(hits: list[tuple[int, str]], seed: int) -> None:
    table = pl.DataFrame(hits, schema={"row": pl.Int64, "label": pl.String}, orient="row")
    rows = balanced_rows(table, ["a", "b", "c"], seed=seed).tolist()
    assert sorted(rows) == sorted({number for number, _ in hits})
    alone = {number: label for number, label in hits if sum(r == number for r, _ in hits) == 1}
    if len(alone) == len(hits):  # no row of two classes: the turns are told by the labels
        counts = dict.fromkeys("abc", 0)
        left = {label: list(alone.values()).count(label) for label in "abc"}
        for number in rows:
            label = alone[number]
            assert all(counts[label] <= counts[other] for other in "abc" if left[other])
            counts[label] += 1
            left[label] -= 1


def test_a_pool_of_urls_has_nothing_to_label(task: Task, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    rows = {"caption": ["a rose"], "url": ["https://example.org/1.jpg"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "pool/a.parquet")
    with pytest.raises(PoolError, match="no images to label: expected images, saw URLs only"):
        make_page(tmp_path / "pool", task, tmp_path / "l.html", how=Sampling(), workers=1)


def test_a_key_of_two_shards_is_refused(task: Task, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    for name, number in (("a", 1), ("b", 2)):
        rows = [row(number) | {"key": "1"}]
        pl.DataFrame(rows).write_parquet(tmp_path / f"pool/{name}.parquet")
    with pytest.raises(PoolError, match=r"two pairs of the pool have the key 1"):
        make_page(tmp_path / "pool", task, tmp_path / "l.html", how=Sampling(), workers=1)


def test_hostile_names_and_captions_are_only_text(tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>\"'"
    told = {"format": 1, "name": name, "classes": [{"label": name, "queries": ["rose"]}]}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(told))
    (tmp_path / "pool").mkdir()
    rows = [row(1) | {"key": name, "caption": name + " rose"}]
    pl.DataFrame(rows).write_parquet(tmp_path / "pool/a.parquet")
    make_page(
        tmp_path / "pool", load_task(tmp_path / "t.yaml"), tmp_path / "l.html", how=Sampling()
    )
    page = Page(tmp_path / "l.html")
    assert page.labels == [name]
    assert page.pictures == {f"pool:{name}": name + " rose"}
    text = (tmp_path / "l.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert text.count("<script>") == text.count("</script>") == 1


def test_answers_become_a_split_that_loads(pool: Path, task: Task, tmp_path: Path) -> None:
    said = {
        "pool:k000": "rose",
        "pool:k002": "tree fern",
        "pool:k003": "AC/DC",
        "pool:k001": "fern",
    }
    said |= {"pool:k004": NONE, "pool:k005": SKIPPED}
    answers = write_answers(tmp_path / "answers.csv", said)
    counts = make_split(pool, task, answers, tmp_path / "out")
    assert counts == {"test": 4, "none_of_these": 1, "skipped": 1}
    made = load_task(tmp_path / "out/task.yaml")
    assert made.digest == task.digest
    split = load_split(made, "test")
    assert split.ids == ["rose/k000.jpg", "fern/k001.jpg", "fern/k002.jpg", "AC%2FDC/k003.jpg"]
    assert split.targets.tolist() == [0, 1, 1, 2]
    assert (tmp_path / "out/test/rose/k000.jpg").read_bytes() == picture(0)
    assert yaml.safe_load((tmp_path / "out/task.yaml").read_text())["images"] == {"test": "test"}


def test_other_splits_of_the_task_stay(pool: Path, task: Task, tmp_path: Path) -> None:
    images = {"train": tmp_path / "photos" / "train"}
    (images["train"] / "rose").mkdir(parents=True)
    (images["train"] / "rose/1.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    answers = write_answers(tmp_path / "a.csv", {"pool:k000": "rose"})
    grown = task.model_copy(update={"images": images})
    make_split(pool, grown, answers, tmp_path / "deep/out", split="photos")
    told = yaml.safe_load((tmp_path / "deep/out/task.yaml").read_text())
    assert told["images"] == {"train": "../../photos/train", "photos": "photos"}
    assert len(load_split(load_task(tmp_path / "deep/out/task.yaml"), "train")) == 1
    with pytest.raises(TaskError, match=r"has a photos split already.*Name another with --split"):
        make_split(
            pool,
            load_task(tmp_path / "deep/out/task.yaml"),
            answers,
            tmp_path / "b",
            split="photos",
        )


def test_a_share_becomes_val(pool: Path, task: Task, tmp_path: Path) -> None:
    said = {f"pool:k{n:03d}": "rose" for n in range(13, 48)}
    answers = write_answers(tmp_path / "a.csv", said)
    counts = make_split(pool, task, answers, tmp_path / "a", val=0.3)
    assert counts["val"] + counts["test"] == 35
    assert 4 <= counts["val"] <= 17
    fewer = write_answers(tmp_path / "b.csv", dict(list(said.items())[:20]))
    make_split(pool, task, fewer, tmp_path / "b", val=0.3)
    a, b = (load_split(load_task(tmp_path / name / "task.yaml"), "val").ids for name in "ab")
    assert set(b) < set(a)  # each image stays in its split when more are labelled


def test_a_rerun_ends_with_the_same_bytes_and_other_answers_are_refused(
    pool: Path, task: Task, tmp_path: Path
) -> None:
    answers = write_answers(tmp_path / "a.csv", {"pool:k000": "rose", "pool:k002": "fern"})
    first = make_split(pool, task, answers, tmp_path / "out")
    before = {path: path.read_bytes() for path in contents(tmp_path / "out")}
    assert make_split(pool, task, answers, tmp_path / "out") == first
    assert {path: path.read_bytes() for path in contents(tmp_path / "out")} == before
    other = write_answers(tmp_path / "b.csv", {"pool:k000": "yew"})
    with pytest.raises(SetError, match=r"made differently: expected inputs\.answers"):
        make_split(pool, task, other, tmp_path / "out")


def test_a_killed_split_goes_on_and_ends_with_the_same_bytes(
    pool: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {f"pool:k{n:03d}": "rose" for n in range(13, 20)}
    answers = write_answers(tmp_path / "a.csv", said)
    make_split(pool, task, answers, tmp_path / "whole")
    written: list[Path] = []

    def killed(path: Path, data: bytes) -> None:
        if len(written) == 3:
            path.with_name(f".{path.name}.1.part").write_bytes(data[:5])
            raise KeyboardInterrupt
        written.append(path)
        write_bytes(path, data)

    with monkeypatch.context() as context:
        context.setattr(split_module, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            make_split(pool, task, answers, tmp_path / "out")
    assert not (tmp_path / "out/task.yaml").exists()
    make_split(pool, task, answers, tmp_path / "out")
    whole, out = (
        {path.relative_to(folder): path.read_bytes() for path in contents(folder)}
        for folder in (tmp_path / "whole", tmp_path / "out")
    )
    assert whole == out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: expected a CSV with the header id,label, saw nothing"),
        ("id;label\nx;rose\n", "line 1: expected a CSV with the header id,label, saw id;label"),
        ("id,label\npool:k000,\n", r"line 2: expected a label, or \(none of these\), saw none"),
        ("id,label\npool:k000\n", r"line 2: expected a label, or \(none of these\), saw none"),
        ("id,label\npool:k000,rose\n\npool:k001,roze\n", r"line 4: roze is no class.*mean rose"),
        (
            "id,label\npool:k000,rose\npool:k000,rose\n",
            "line 3: expected one answer a picture, saw pool:k000 on line 2 too",
        ),
        ('id,label\n"pool:k000"x,rose\n', "line 2: expected rows of a CSV"),
        ("id,label\npool:k000,rose\npool:nope,fern\n", "line 3: the pool has no such pair"),
        ("id,label\nother:k000,rose\n", r"line 2: the pool has no such pair.*saw other:k000"),
        (f"id,label\npool:k000,{NONE}\n", "labels no image"),
    ],
)
def test_a_mistake_in_the_answers_is_one_line(
    pool: Path, task: Task, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        make_split(pool, task, tmp_path / "answers.csv", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_table_saved_by_a_spreadsheet_is_read(task: Task, tmp_path: Path) -> None:
    text = '\ufeffnote,label,id\r\n"a, b",Tree Fern,"pool:k000"\r\n,(skipped),pool:k1\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode())
    told = read_answers(tmp_path / "a.csv", task)
    assert [tuple(each) for each in told] == [(2, "pool:k000", "fern"), (3, "pool:k1", SKIPPED)]


def test_no_key_leads_out_of_the_folder(task: Task, tmp_path: Path) -> None:
    keys = ["../../up", "/root", "a/b", ".hidden", "x" * 300, "c:d", "a%2Fb"]
    (tmp_path / "pool").mkdir()
    rows = [row(20 + i) | {"key": key} for i, key in enumerate(keys)]
    pl.DataFrame(rows).write_parquet(tmp_path / "pool/a.parquet")
    answers = write_answers(tmp_path / "a.csv", {f"pool:{key}": "rose" for key in keys})
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    make_split(tmp_path / "pool", task, answers, tmp_path / "out")
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    images = [path for path in written if path.parent == tmp_path / "out/test/rose"]
    assert len(images) == len(keys)
    assert {path.name for path in written - set(images)} == {"step.json", "task.yaml"}
    assert len(load_split(load_task(tmp_path / "out/task.yaml"), "test")) == len(keys)


def test_images_of_a_tar_keep_their_suffix(task: Task, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    data = encode_png(np.ones((4, 4, 3), np.uint8))
    with tarfile.open(tmp_path / "pool/00000.tar", "w") as tar:
        member = tarfile.TarInfo("000000001.png")
        member.size = len(data)
        tar.addfile(member, BytesIO(data))
    table = pl.DataFrame({"key": ["000000001"], "caption": ["a rose"]})
    table.write_parquet(tmp_path / "pool/00000.parquet")
    answers = write_answers(tmp_path / "a.csv", {"pool:000000001": "rose"})
    make_split(tmp_path / "pool", task, answers, tmp_path / "out")
    assert (tmp_path / "out/test/rose/000000001.png").read_bytes() == data


def test_an_image_that_is_none_stops_the_split(pool: Path, task: Task, tmp_path: Path) -> None:
    answers = write_answers(tmp_path / "a.csv", {"pool:k000": "rose", "pool:k012": "rose"})
    with pytest.raises(PoolError, match="pool:k012 cannot be used: saw not an image"):
        make_split(pool, task, answers, tmp_path / "out")


def test_a_label_that_reads_as_no_class_is_refused(pool: Path, tmp_path: Path) -> None:
    told = {"format": 1, "name": "odd", "classes": ["rose", NONE]}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(TaskError, match=r"no class can be labelled \(none of these\)"):
        make_page(
            pool, load_task(tmp_path / "t.yaml"), tmp_path / "l.html", how=Sampling(), workers=1
        )


def test_what_is_missing_is_said(
    capsys: pytest.CaptureFixture[str], pool: Path, task: Task, tmp_path: Path
) -> None:
    make_page(pool, task, tmp_path / "l.html", how=Sampling(n=47), workers=1)
    answers = write_answers(tmp_path / "a.csv", {"pool:k000": "rose"})
    make_split(pool, task, answers, tmp_path / "out")
    said = capsys.readouterr().err
    assert "no caption names 1 of 4 classes: yew" in said
    assert "only 46 of 47 pictures" in said
    assert "no test image shows 3 of 4 classes: fern, AC/DC, yew" in said


def test_the_whole_way_by_the_command(
    capsys: pytest.CaptureFixture[str], pool: Path, task: Task, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    call = ["task", "label", str(tmp_path / "garden.yaml"), "--pool", str(pool)]
    assert run([*call, "-n", "20", "--out", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 20
    said = {
        pair: "rose" if "rose" in caption else "tree fern" if "fern" in caption else NONE
        for pair, caption in Page(page).pictures.items()
    }
    answers = write_answers(tmp_path / "answers.csv", said)
    out = tmp_path / "labelled"
    assert run([*call, "--answers", str(answers), "--out", str(out)]) == 0
    assert "none_of_these" in capsys.readouterr().out
    split = load_split(load_task(out / "task.yaml"), "test")
    assert len(split) == sum(label != NONE for label in said.values())
    assert run([*call, "-n", "0", "--out", str(page)]) == 2
    assert "-n: " in capsys.readouterr().err
    assert run([*call, "--val", "0.2", "--out", str(page)]) == 2
    assert "--val is of the split, made of --answers" in capsys.readouterr().err
    assert run([*call, "-n", "9", "--answers", str(answers), "--out", str(out)]) == 2
    assert "-n is of the page" in capsys.readouterr().err


def test_from_names_alone_to_a_set_free_of_the_labelled_images(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    pool = make_pool(tmp_path / "pool", n=24, side=64)
    make_page(pool, task, tmp_path / "page.html", how=Sampling(n=10), workers=1)
    shown = Page(tmp_path / "page.html").pictures
    said = {pair: "rose" if "rose" in text.split() else NONE for pair, text in shown.items()}
    make_split(pool, task, write_answers(tmp_path / "a.csv", said), tmp_path / "labelled")
    measured = load_task(tmp_path / "labelled/task.yaml")
    retrieve(pool, measured, tmp_path / "set", how=Retrieval(by="captions"), workers=1)
    how = Curation(rules=({"copies": ["test"]},), descriptor="builtin", size=64, scores=())
    curate(tmp_path / "set", measured, tmp_path / "kept", clip=tiny_clip(), how=how, workers=1)
    told = read_decisions(tmp_path / "kept")
    marked = {pair for pair, label in said.items() if label == "rose"}
    assert marked
    assert set(told.filter(step="no_copy", kept=False)["id"]) == marked
    kept = set(read_pairs(tmp_path / "kept", ["id"])["id"])
    assert kept == set(told["id"]) - marked - {"pool:k006", "pool:k012"}
    first = told.filter(id=min(marked))["reason"][0]
    assert first.startswith(f"copy of test/rose/{min(marked).removeprefix('pool:')}.jpg (")
