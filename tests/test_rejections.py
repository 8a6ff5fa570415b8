"""Rejections by hand: what a CSV may look like, what is refused, and a ledger that only grows."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import import_set, make_task, numbered

from headwater.errors import InputError, SetError
from headwater.pairs import read_pairs
from headwater.steps import pairlist
from headwater.steps.curation import rejections
from headwater.steps.curation.curate import curate
from headwater.steps.curation.rejections import (
    LEDGER,
    grow_ledger,
    read_ledger,
    read_rejections,
    refuse_unknown,
    rejection_reasons,
    unknown_rejections,
    write_rejections,
)
from headwater.steps.curation.settings import Curation
from headwater.steps.pairlist import FORMULA
from headwater.store import contents

CONSIDERED = pl.DataFrame(
    {"id": ["w:1", "w:1", "w:2", "w:3"], "label": ["rose", "tulip", "rose", "tulip"]}
)


def table(*rows: tuple[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=rejections.SCHEMA, orient="row")


def read(folder: Path, data: bytes | str) -> list[tuple[str, str | None]]:
    path = folder / "bad.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_rejections(path).rows()


@pytest.mark.parametrize(
    "data",
    [
        "id,label\nw:1,rose\nw:2,\n",
        "id,label\nw:1,rose\nw:2",
        "\ufeffid,label\r\nw:1,rose\r\n\r\nw:2,\r\n",
        "id, label \nw:1,rose\nw:2,\n",
        "\n\nid,label\n  \nw:1,rose\n,\nw:2,\nw:1,rose\n",
        'label,note,id\nrose,"a, b",w:1\n,,w:2\n',
        'id,"label"\n"w:1","rose"\n"w:2",""\n',
    ],
)
def test_a_csv_in_any_of_its_forms_says_the_same(tmp_path: Path, data: str) -> None:
    assert read(tmp_path, data) == [("w:1", "rose"), ("w:2", None)]


def test_a_file_of_ids_alone_and_one_of_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "id\nw:1\n") == [("w:1", None)]
    assert read(tmp_path, "id,label\n") == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("", "line 1: expected a CSV with the header id,label, saw nothing"),
        ("w:1,rose\n", "line 1: expected a CSV with the header id,label, saw w:1,rose"),
        ("id;label\nw:1;rose\n", "line 1: .* saw id;label"),
        ("id,id\nw:1,w:2\n", "line 1: .* saw id,id"),
        ("id,label\nw:1,rose\n\nw:2,a,b\n", "line 4: expected 2 cells, saw 3: w:2,a,b"),
        ('id,label\n"a\nb",rose\n,rose\n', "line 4: expected an id, saw ,rose"),
        ('id,label\nw:1,rose\n"w:2,rose\nw:3,rose\n', "line 3: expected rows of a CSV"),
        ('id,label\n"w:1"2,rose\n', "line 2: expected rows of a CSV"),
        (b"id,label\nw:1,rose\nw:\xff,rose\n", "line 3: expected text in UTF-8"),
        ("id,label\nw:1\n".encode("utf-16"), "line 1: expected text in UTF-8"),
        ("id,label\n" + "w" * 200_000, "line 2: .* field larger"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, data: bytes | str, told: str) -> None:
    with pytest.raises(InputError, match=rf"bad\.csv, {told}") as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_no_file_a_folder_and_a_file_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(InputError, match=r"cannot read .*expected a CSV"):
            read_rejections(path)
    monkeypatch.setattr(pairlist, "MAX_BYTES", 4)
    with pytest.raises(InputError, match="too large"):
        read(tmp_path, "id,label\n")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
hostile = st.sampled_from([f"{first}{rest}" for first in f"'{FORMULA}" for rest in ("", "x", "'=")])
cells = st.one_of(texts, hostile, st.sampled_from(['a"b', "a,b", "a\nb", "a\rb", " a ", "''=1"]))


@given(
    rows=st.lists(
        st.tuples(cells.filter(lambda text: text.strip(" \t")), st.one_of(st.none(), cells))
    )
)
def test_whatever_is_written_is_read_back_and_no_cell_is_a_formula(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / LEDGER
    write_rejections(path, table(*rows))
    assert read_rejections(path).rows() == list(dict.fromkeys(rows))
    with path.open(newline="", encoding="utf-8") as file:
        raw = list(csv.reader(file, strict=True))
    assert raw[0] == ["id", "label"]
    assert not [cell for row in raw for cell in row if cell and cell[0] in FORMULA]


def test_ids_and_labels_that_were_never_considered_are_named(tmp_path: Path) -> None:
    known = table(("w:1", "rose"), ("w:1", None), ("w:3", None))
    assert unknown_rejections(known, CONSIDERED).rows() == []
    refuse_unknown(known, CONSIDERED, name="sets/kept")
    typos = table(("w:2", "tulip"), ("x:1", None), ("x:2", None), ("x:3", None), ("x:4", None))
    assert unknown_rejections(typos, CONSIDERED).rows() == typos.rows()
    told = "expected ids and labels of sets/kept, saw w:2 as tulip, x:1, x:2 and 2 more"
    with pytest.raises(SetError, match=told):
        refuse_unknown(pl.concat([known, typos]), CONSIDERED, name="sets/kept")


def test_a_ledger_only_grows_and_says_the_same_twice(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    assert read_ledger(folder).rows() == []
    first = grow_ledger(folder, table(("w:2", "rose"), ("w:1", None)))
    assert first.rows() == [("w:1", None), ("w:2", "rose")]
    before = (folder / LEDGER).stat()
    assert grow_ledger(folder, first).equals(first)
    assert (folder / LEDGER).stat().st_mtime_ns == before.st_mtime_ns  # nothing new, not touched
    second = grow_ledger(folder, table(("w:1", "tulip")))
    assert second.rows() == [("w:1", None), ("w:1", "tulip"), ("w:2", "rose")]
    assert (folder / LEDGER).read_text() == "id,label\nw:1,\nw:1,tulip\nw:2,rose\n"
    assert read_ledger(folder).equals(second)


def test_nothing_rejected_makes_no_ledger(tmp_path: Path) -> None:
    grow_ledger(tmp_path, table())
    assert not (tmp_path / LEDGER).exists()


def test_a_killed_write_leaves_the_old_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = grow_ledger(tmp_path, table(("w:1", "rose")))

    def killed(path: Path, text: str) -> None:
        path.with_name(f".{path.name}.1.part").write_text(text[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(pairlist, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        grow_ledger(tmp_path, table(("w:2", "rose")))
    assert read_ledger(tmp_path).equals(old)


def test_which_pairs_go() -> None:
    ledger = table(("w:1", "tulip"), ("w:3", None), ("w:9", "rose"), ("w:1", "tulip"))
    reasons = rejection_reasons(CONSIDERED, ledger)
    assert reasons.to_list() == [None, "rejected by hand", None, "rejected by hand"]
    assert rejection_reasons(CONSIDERED, table()).to_list() == [None] * 4
    assert rejection_reasons(CONSIDERED[:0], ledger).to_list() == []


def test_what_was_rejected_outlives_a_curation_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path)
    source = import_set(tmp_path / "found", task, numbered(400, 3))
    how = Curation.model_validate({"size": 32, "rules": [], "scores": []})
    bad = tmp_path / "bad.csv"
    write_rejections(bad, table(("imported:rose/1.png", None)))

    def curated(out: Path, *, reject: bool) -> Path:
        asked = how.model_copy(update={"reject": str(bad) if reject else None})
        curate(source, task, out, clip=tiny_clip(), how=asked, workers=1)
        return out

    whole = curated(tmp_path / "whole", reject=True)
    out = curated(tmp_path / "kept", reject=False)
    assert len(read_pairs(out, ["id"])) == 6
    with monkeypatch.context() as context:
        context.setattr("headwater.steps.curation.curate.prepare_scores", killed)
        with pytest.raises(KeyboardInterrupt):
            curated(out, reject=True)
    with pytest.raises(SetError, match="unfinished"):
        read_pairs(out)
    curated(out, reject=False)  # the ledger remembers
    assert read_ledger(out).rows() == [("imported:rose/1.png", None)]
    for path in contents(whole):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes(), path.name


def test_a_rejection_is_taken_back_by_its_line(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    source = import_set(tmp_path / "found", task, numbered(400, 2))
    bad, out = tmp_path / "bad.csv", tmp_path / "kept"
    write_rejections(bad, table(("imported:rose/1.png", None), ("imported:fern/0.png", "fern")))
    how = Curation.model_validate({"size": 32, "rules": [], "scores": []})
    rejecting = how.model_copy(update={"reject": str(bad)})
    curate(source, task, out, clip=tiny_clip(), how=rejecting, workers=1)
    assert len(read_pairs(out, ["id"])) == 2
    (out / LEDGER).write_text("id,label\nimported:fern/0.png,fern\n")
    curate(source, task, out, clip=tiny_clip(), how=how, workers=1)
    assert len(read_pairs(out, ["id"])) == 3


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
