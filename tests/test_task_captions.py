"""Captions of a task by each way, as a folder, and gone on with after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.small_server import Reply, completion, serving
from tests.tiny_captioner import build_tiny_captioner
from tests.tiny_garden import picture
from tests.tiny_language_model import build_tiny_language_model

from headwater.decode import Image8
from headwater.errors import InputError, RunError, SetError
from headwater.pairs import image_column, sha256_of
from headwater.steps.sets import Part, finish_set, make_parts, sift
from headwater.steps.synthesis import captions as captions_step
from headwater.steps.synthesis import describing
from headwater.steps.synthesis.captions import (
    caption_inputs,
    task_backgrounds,
    task_captions,
    write_task_captions,
)
from headwater.steps.synthesis.settings import Synthesis, Writing
from headwater.store import digest_folder, read_step, step
from headwater.synthesize.captions import SCHEMA, write_captions
from headwater.synthesize.captions.backgrounds import FLOWERS, GENERAL
from headwater.synthesize.captions.writer import Ask
from headwater.task import Task

GARDEN = Task.model_validate({"format": 1, "name": "garden", "classes": ["rose", "fern"]})


def how(n: int | None = 12, **captions: object) -> Synthesis:
    return Synthesis.model_validate({"n": n, "captions": captions})


def told(task: Task, **more: object) -> Task:
    return Task.model_validate(task.model_dump() | more)


class Poet:
    """Writes down every ask, and fails at one of them if told to."""

    name = digest = "poet"

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.asked: list[int] = []

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        if self.fails_at in [ask.index for ask in asks]:
            raise RunError("the poet has left")
        self.asked += [ask.index for ask in asks]
        return [f"{ask.name} {ask.setting}, {ask.kind} {ask.turn}" for ask in asks]


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch) -> Callable[[Poet], Poet]:
    def hired(poet: Poet) -> Poet:
        monkeypatch.setattr(captions_step, "writer_of", lambda how: poet)
        return poet

    return hired


def make_set(folder: Path, pairs: list[tuple[str, str, str | None, bytes | None]]) -> Path:
    """A set of (id, label, caption, image), two pairs a shard."""
    rows = pl.DataFrame(
        [row[:3] for row in pairs], schema=["id", "label", "caption"], orient="row"
    ).with_columns(
        image_column([row[3] for row in pairs], [None] * len(pairs)),
        pl.Series("sha256", [row[3] and sha256_of(row[3]) for row in pairs], dtype=pl.String),
    )

    def work(part: pl.DataFrame) -> Part:
        return sift(part, [None] * len(part), gate="made")

    with step(folder, "import", arguments={}) as this:
        make_parts(folder, work, [rows[i : i + 2] for i in range(0, len(rows), 2)], label="",
                   workers=1)  # fmt: skip
        finish_set(this, labels=["rose", "fern"], gates=["made"], title="", story="")
    return folder


def png(number: int) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    picture(number, side=8).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_grammar_speaks_of_the_task(tmp_path: Path) -> None:
    task = told(GARDEN, domain="flowers")
    table = task_captions(task, how(80), seed=3, folder=tmp_path)
    assert table.equals(write_captions(task.name_of, 80, seed=3, backgrounds=FLOWERS))
    of_background = table.filter(kind="background")["caption"]
    assert all(caption.endswith(FLOWERS) for caption in of_background)


def test_own_backgrounds_come_before_the_domain() -> None:
    task = Task.model_validate(
        {
            "format": 1, "name": "pond", "domain": "flowers",
            "classes": ["iris", {"label": "lotus", "backgrounds": ["on a pond"]}],
        }
    )  # fmt: skip
    assert task_backgrounds(task) == {"iris": list(FLOWERS), "lotus": ["on a pond"]}
    assert task_backgrounds(task, "general") == {"iris": list(GENERAL), "lotus": ["on a pond"]}
    with pytest.raises(InputError, match="Did you mean flowers"):
        task_backgrounds(task, "flower")


def test_prompts_of_the_task_and_settings_are_heard(tmp_path: Path) -> None:
    task = told(GARDEN, prompts={"synthesis": ["{} here"]})
    asked = how(6, kinds={"attribute": 1}, attributes=["red"])
    table = task_captions(task, asked, seed=0, folder=tmp_path)
    assert set(table["caption"]) == {"red rose here", "red fern here"}


def test_a_domain_of_textures_makes_textures_of_classes(tmp_path: Path) -> None:
    table = task_captions(GARDEN, how(20, domain="textures"), seed=0, folder=tmp_path)
    assert table["caption"].str.contains("(rose|fern) (texture|pattern|surface|thing|object)").all()


def test_inputs_tell_backgrounds_files_and_sets_only_where_they_matter(tmp_path: Path) -> None:
    grammar = how().captions
    assert caption_inputs(grammar, task=GARDEN) == {}
    one = caption_inputs(grammar, task=told(GARDEN, domain="flowers"))
    other = caption_inputs(grammar, task=told(GARDEN, domain="animals"))
    assert one.keys() == other.keys() == {"backgrounds"} and one != other
    file = tmp_path / "a.txt"
    file.write_text("rose\ta rose\n")
    by_file = how(by="file", path=str(file)).captions
    before = caption_inputs(by_file, task=told(GARDEN, domain="flowers"))
    file.write_text("rose\tthe rose\n")
    assert before.keys() == {"captions"}
    assert caption_inputs(by_file, task=GARDEN) != before
    pairs = make_set(tmp_path / "set", [("w:1", "rose", "one", png(1))])
    by_pairs = how(by="alt_text", source="found").captions
    assert caption_inputs(by_pairs, pairs, task=GARDEN) == {"pairs": read_step(pairs)["digest"]}
    with pytest.raises(InputError, match="no captions there"):
        caption_inputs(how(by="file", path="none.csv").captions, task=GARDEN)


def test_a_folder_of_captions_can_be_read_again(tmp_path: Path) -> None:
    out = tmp_path / "captions"
    counts = write_task_captions(GARDEN, out, how=how(20), seed=1)
    assert counts == {"captions": 20, "repeated": 0}
    assert sorted(path.name for path in out.iterdir()) == ["captions.parquet", "step.json"]
    assert read_step(out)["verb"] == "captions"
    assert write_task_captions(GARDEN, out, how=how(20), seed=1) == counts
    again = task_captions(GARDEN, how(20, by="file", path=str(out)), seed=9, folder=tmp_path)
    assert again.schema == SCHEMA
    assert again.equals(pl.read_parquet(out / "captions.parquet"))
    with pytest.raises(SetError, match="made differently"):
        write_task_captions(GARDEN, out, how=how(21), seed=1)


def test_a_writer_is_asked_only_for_what_is_not_there(
    tmp_path: Path, hire: Callable[[Poet], Poet]
) -> None:
    asked = how(70, by="model", model="some", block=1)
    whole = task_captions(GARDEN, asked, seed=0, folder=tmp_path / "whole") if hire(Poet()) else 0
    hire(Poet(fails_at=50))
    with pytest.raises(RunError, match="has left"):
        task_captions(GARDEN, asked, seed=0, folder=tmp_path / "killed")
    poet = hire(Poet())
    larger = how(70, by="model", model="some", block=3)
    again = task_captions(GARDEN, larger, seed=0, folder=tmp_path / "killed")
    assert again.equals(whole)
    assert min(poet.asked) == 32 and len(set(poet.asked)) == 38
    assert again["index"].to_list() == list(range(70))


def test_folders_of_a_writer_are_the_same_bytes_after_a_kill(
    tmp_path: Path, hire: Callable[[Poet], Poet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captions_step, "_model_digest", lambda model: "digest")
    by = {"by": "model", "model": "some", "block": 1}
    asked = Synthesis.model_validate({"per_class": 30, "captions": by})
    hire(Poet())
    write_task_captions(GARDEN, tmp_path / "a", how=asked)
    hire(Poet(fails_at=40))
    with pytest.raises(RunError):
        write_task_captions(GARDEN, tmp_path / "b", how=asked)
    hire(Poet())
    assert write_task_captions(GARDEN, tmp_path / "b", how=asked)["captions"] == 60
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b")
    table = pl.read_parquet(tmp_path / "b" / "captions.parquet")
    assert dict(table["label"].value_counts().iter_rows()) == {"rose": 30, "fern": 30}


def test_what_could_not_be_used_is_said_and_counted(
    tmp_path: Path, hire: Callable[[Poet], Poet], capsys: pytest.CaptureFixture[str]
) -> None:
    poet = hire(Poet())
    poet.write = lambda asks, seed: [  # type: ignore[method-assign]
        f"{ask.name} {ask.index}" if ask.attempt else "" if ask.index % 2 else "a fish"
        for ask in asks
    ]  # fmt: skip
    asked = how(10, by="endpoint", model="m", url="http://x/v1")
    counts = write_task_captions(GARDEN, tmp_path / "captions", how=asked)
    assert counts == {"captions": 10, "repeated": 0, "empty": 5, "lost": 5}
    said = capsys.readouterr().err
    assert "captions: 5 answers had nothing in them" in said
    assert "captions: 5 answers lost the name of their class" in said


def test_a_model_writes_the_same_captions_in_any_blocks(tmp_path: Path) -> None:
    """Random weights name no rose, but they write what is no letter."""
    model = build_tiny_language_model(tmp_path / "model")
    signs = Task.model_validate(
        {"format": 1, "name": "signs", "classes": [{"label": "none", "name": "\ufffd"}]}
    )
    tables = [
        task_captions(
            signs, how(5, by="model", model=str(model), block=block), seed=0,
            folder=tmp_path / str(block),
        )
        for block in (1, 3)
    ]  # fmt: skip
    assert tables[0].equals(tables[1])
    assert (
        tables[0]["caption"].n_unique() == 5 and tables[0]["caption"].str.contains("\ufffd").all()
    )
    with pytest.raises(RunError, match=r"captions of class (rose|fern), in 8 attempts each"):
        task_captions(GARDEN, how(4, by="model", model=str(model), tokens=5), seed=0,
                      folder=tmp_path / "none")  # fmt: skip
    inputs = caption_inputs(how(4, by="model", model=str(model)).captions, task=GARDEN)
    assert inputs.keys() == {"model"} and len(inputs["model"]) == 64


def test_an_endpoint_writes_captions_and_its_key_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GARDEN_KEY", "sk-0123456789")

    def answer(body: dict[str, Any], n: int) -> Reply:
        return completion(f"{body['messages'][-1]['content']}, {body['seed'] % 1000}\nMore")

    with serving(answer) as server:
        asked = how(9, by="endpoint", model="tiny", url=server.url, key="GARDEN_KEY")
        counts = write_task_captions(GARDEN, tmp_path / "out", how=asked)
        headers = [headers for _, headers, _ in server.asked]
    assert counts == {"captions": 9, "repeated": 0}
    assert all("sk-0123456789" in str(header) for header in headers)
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"sk-0123456789" in data for data in written)
    assert read_step(tmp_path / "out")["inputs"]["model"] == "tiny"


def test_the_record_of_a_served_model_has_no_path() -> None:
    told = {"by": "endpoint", "url": "http://localhost/v1"}
    for model, shown in (("/srv/models/small", "small"), ("someone/small", "someone/small")):
        written = Writing.model_validate({**told, "model": model})
        assert caption_inputs(written, task=GARDEN)["model"] == shown


def test_what_is_no_address_is_refused_and_binds_nobody(tmp_path: Path) -> None:
    wrong = how(9, by="endpoint", model="tiny", url="localhost/v1")
    with pytest.raises(InputError, match="no address of an endpoint"):
        write_task_captions(GARDEN, tmp_path / "out", how=wrong)
    assert write_task_captions(GARDEN, tmp_path / "out", how=how(9))["captions"] == 9


def test_alt_text_tells_of_the_pairs_of_each_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = make_set(
        tmp_path / "set",
        [
            ("w:1", "rose", "one", png(1)), ("w:2", "rose", "two", None),
            ("w:3", "rose", None, png(3)), ("w:4", "fern", "three\nlines", png(4)),
            ("w:5", "moss", "other", png(5)),
        ],
    )  # fmt: skip
    asked = Synthesis.model_validate(
        {"per_class": 3, "captions": {"by": "alt_text", "source": "found"}}
    )
    table = task_captions(GARDEN, asked, seed=0, folder=tmp_path, pairs=pairs)
    assert table.schema == SCHEMA and len(table) == 6
    roses = table.filter(label="rose")["caption"].to_list()
    assert set(roses) == {"a photo of rose, one", "a photo of rose, two"}
    assert set(table.filter(label="fern")["caption"]) == {"a photo of fern, three lines"}
    assert "captions: 3 captions say what another" in capsys.readouterr().err
    with pytest.raises(InputError, match="captions by alt_text tell of a set"):
        task_captions(GARDEN, asked, seed=0, folder=tmp_path)


class Eye:
    """Tells the mean color of an image, rounded, so that some are told alike."""

    def __init__(self, fails_after: int = 10**6) -> None:
        self.seen = 0
        self.fails_after = fails_after

    def describe(self, images: Sequence[Image8]) -> list[str]:
        self.seen += len(images)
        if self.seen > self.fails_after:
            raise RunError("blind")
        return [f"a blot of {int(np.mean(image)) // 4}\n" for image in images]


def look(pairs: Path, folder: Path, n: int, block: int = 2, seed: int = 0) -> pl.DataFrame:
    asked = how(n, by="captioner", source="found", model="some", block=block)
    return task_captions(GARDEN, asked, seed=seed, folder=folder, pairs=pairs)


@pytest.fixture
def blots(tmp_path: Path) -> Path:
    rows = [(f"w:{i}", ["rose", "fern"][i % 2], None, png(i)) for i in range(40)]
    return make_set(tmp_path / "blots", [*rows, ("w:x", "rose", None, b"no image")])


def test_a_captioner_looks_at_as_many_images_as_are_needed(
    blots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = Eye()
    monkeypatch.setattr(describing._Eyes, "_captioner", eye)
    table = look(blots, tmp_path / "one", 8)
    assert table["caption"].str.contains(r"^a photo of (rose|fern), a blot of \d+$").all()
    assert table["caption"].n_unique() == 8
    assert 8 <= eye.seen < 40
    assert look(blots, tmp_path / "two", 8, block=5).equals(table)
    assert look(blots, tmp_path / "more", 14).head(8).equals(table)
    assert not look(blots, tmp_path / "other", 8, seed=1).equals(table)


def test_a_captioner_goes_on_where_it_was_killed(
    blots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Eye()
    monkeypatch.setattr(describing._Eyes, "_captioner", whole)
    expected = look(blots, tmp_path / "whole", 12, block=1)
    monkeypatch.setattr(describing._Eyes, "_captioner", Eye(fails_after=7))
    with pytest.raises(RunError, match="blind"):
        look(blots, tmp_path / "killed", 12, block=1)
    second = Eye()
    monkeypatch.setattr(describing._Eyes, "_captioner", second)
    assert look(blots, tmp_path / "killed", 12, block=1).equals(expected)
    assert 0 < second.seen < whole.seen


def test_an_image_of_two_classes_is_passed_over_by_neither() -> None:
    """Described for a fern, the last rose does not stand in for the second, unseen one."""
    roses = [describing.Picture("rose", digest, 0) for digest in ("a", "b", "c", "d")]
    known = {"a": "red", "b": "red", "d": "blue"}
    [left] = describing._unseen({"rose": roses}, {"rose": 2}, known)
    assert left.sha256 == "c"
    assert describing._unseen({"rose": roses}, {"rose": 2}, {**known, "c": "pink"}) == []
    assert describing._unseen({"rose": roses}, {"rose": 1}, known) == []


def test_images_that_are_none_are_counted_and_what_repeats_is_told(
    blots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(describing._Eyes, "_captioner", Eye())
    table = look(blots, tmp_path / "all", 200)
    assert len(table) == 200
    said = capsys.readouterr().err
    assert "captions: 1 images could not be described" in said
    assert f"{200 - table['caption'].n_unique()} captions say what another" in said


def test_a_model_that_looks_says_the_same_in_any_blocks(blots: Path, tmp_path: Path) -> None:
    model = build_tiny_captioner(tmp_path / "model")
    tables = []
    for block in (1, 4):
        by = {"by": "captioner", "source": "found", "model": str(model), "tokens": 6}
        asked = how(6, **by, block=block)
        folder = tmp_path / str(block)
        tables.append(task_captions(GARDEN, asked, seed=0, folder=folder, pairs=blots))
    assert tables[0].equals(tables[1])
    assert tables[0]["caption"].str.starts_with("a photo of ").all()
    inputs = caption_inputs(asked.captions, blots, task=GARDEN)
    assert inputs.keys() == {"model", "pairs"}
