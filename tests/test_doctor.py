"""The doctor: planted collisions in made pools, each number against a plain version."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.cli import run
from headwater.errors import InputError, PoolError, QueryError
from headwater.expression import parse_query
from headwater.retrieve.doctor.chart import SAMPLES, merge
from headwater.retrieve.doctor.diagnosis import diagnose
from headwater.retrieve.doctor.examine import Block, Doctor
from headwater.retrieve.doctor.relations import relate
from headwater.retrieve.words import match_captions
from headwater.steps.doctor import doctor, read_synonyms, write_page
from headwater.task import Task

MISSILES = {"missile (657)": ["missile"], "missile (744)": ["Missile"]}
CAPTIONS = [
    *["figure 1"] * 12, *["config of figs"] * 3, *["a ripe fig"] * 11,
    *["a blood orange"] * 20, *["an orange"] * 5, "blood orange and an orange",
    *["a missile"] * 15, "wagon on the beach", *["station wagon"] * 4, None,
]  # fmt: skip
QUERIES = {
    "fig": ["fig"], "orange": ["orange"], "blood orange": ["blood orange"], **MISSILES,
    "beach wagon": ["beach wagon"],
}  # fmt: skip
SYNONYMS = {"beach wagon": ["station wagon", "beach wagon"]}


def block(captions, shard="00000", first_row=0):
    return Block(shard, first_row, pl.Series(captions, dtype=pl.String))


def task(queries=QUERIES, **changes):
    names = {label: re.sub(r" \(\d+\)", "", label) for label in queries}
    classes = [{"label": x, "name": names[x], "queries": q} for x, q in queries.items()]
    return Task.model_validate({"format": 1, "name": "t", "classes": classes, **changes})


def write_pool(folder: Path, captions=CAPTIONS, shards=3) -> Path:
    folder.mkdir()
    for i in range(shards):
        part = pl.Series(captions[i::shards], dtype=pl.String)
        table = pl.DataFrame({"key": [f"{i}-{n}" for n in range(len(part))], "caption": part})
        table.write_parquet(folder / f"{i:05d}.parquet")
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    pool = write_pool(tmp_path_factory.mktemp("doctor") / "pool")
    return doctor(pool, task(), synonyms=SYNONYMS, workers=1)


def of(told, label):
    return next(row for row in told["classes"] if row["label"] == label)


def sentences(told, kind):
    return [finding["text"] for finding in told["findings"] if finding["kind"] == kind]


def test_captions_are_counted_a_class_and_a_query(told):
    counts = {row["label"]: row["captions"] for row in told["classes"]}
    assert counts == {
        "fig": 11, "orange": 26, "blood orange": 21, "missile (657)": 15, "missile (744)": 15,
        "beach wagon": 0,
    }  # fmt: skip
    assert of(told, "fig")["queries"] == [{"query": "fig", "captions": 11}]
    assert (told["captions"], told["missing"]) == (len(CAPTIONS), 1)


def test_hits_inside_words_are_told_with_the_words(told):
    row = of(told, "fig")
    assert row["rejected"] == 15
    assert row["inside"] == [
        {"word": "figure", "captions": 12}, {"word": "config", "captions": 3},
    ]  # fmt: skip
    assert sentences(told, "inside") == [
        '"fig" stands inside longer words in 15 captions (figure 12, config 3), which are left '
        "out; 11 are in."
    ]


def test_a_nested_name_is_told_with_what_is_only_the_longer_one(told):
    pair = next(row for row in told["shared"] if row["b"] == "blood orange")
    assert pair == {
        "a": "orange", "b": "blood orange", "kind": "nested", "captions": 21, "of_a": 26,
        "of_b": 21, "only": 20,
    }  # fmt: skip
    assert sentences(told, "nested") == [
        '"orange" stands inside "blood orange": 20 of the 26 captions of "orange" (77 %) name only '
        '"blood orange".'
    ]


def test_two_classes_of_one_name_are_told(told):
    assert "15 captions would go to both" in sentences(told, "same")[0]
    assert "(missile): no prompt tells them apart" in sentences(told, "name")[0]
    pair = next(row for row in told["shared"] if row["kind"] == "same")
    assert (pair["captions"], pair["of_a"], pair["of_b"]) == (15, 15, 15)


def test_an_empty_class_comes_first_with_what_would_help(told):
    assert told["sentence"] == "1 of 6 classes has no caption."
    assert told["findings"][0]["text"] == "1 of 6 classes has no caption: beach wagon."
    row = of(told, "beach wagon")
    assert row["with_synonyms"] == 4
    assert row["synonyms"] == [{"synonym": "station wagon", "captions": 4}]
    assert "4 with the synonyms (station wagon 4)" in sentences(told, "nothing")[1]
    assert "`pool embed`" in sentences(told, "neighbors")[0]


words = "fig figs config orange blood Blood-Orange a é 中 ox fox"
few = st.sampled_from(words.split(" "))
some_captions = st.lists(st.none() | st.lists(few, max_size=6).map(" ".join), max_size=20)


@settings(max_examples=60, deadline=None)
@given(some_captions)
def test_every_number_is_that_of_a_plain_version(captions):
    queries = {"fig": ["fig", "a fig"], "orange": ["orange"], "blood orange": ["blood orange"],
               "ox": ["ox"]}  # fmt: skip
    chart = Doctor(queries).examine([block(captions)])
    rows = match_captions(captions, queries).select("row", "label").rows()
    labels = list(queries)
    assert dict(chart.found.iter_rows()) == Counter(labels.index(label) for _, label in rows)
    raw = match_captions(captions, queries, mode="substring").select("row", "label").rows()
    rejected = Counter(labels.index(label) for row, label in set(raw) - set(rows))
    assert dict(chart.rejected.iter_rows()) == rejected
    both = [row for row, label in rows if label == "orange" and (row, "blood orange") in rows]
    left = [re.sub(r"(?i)\bblood[ -]orange\b", " ", captions[row]) for row in both]
    only = sum(not re.search(r"(?i)\borange\b", text) for text in left)
    shared = {(a, b): (n, m) for a, b, n, m in chart.shared.iter_rows()}
    assert shared.get((1, 2), (0, 0)) == (len(both), only)


def test_the_words_around_a_hit_may_be_in_any_script():
    captions = ["größe", "Ñandú-boxen", "x" * 300 + "ox" + "é" * 300, "中" * 99 + "ox" + "中" * 99]
    chart = Doctor({"g": ["röß"], "ox": ["ox"]}).examine([block(captions)])
    assert chart.inside.rows() == [
        (0, "größe", 1), (1, "boxen", 1), (1, "x" * 30 + "ox" + "é" * 30, 1),
        (1, "中" * 30 + "ox" + "中" * 30, 1),
    ]  # fmt: skip


def test_relations_do_not_depend_on_case_accents_or_punctuation():
    phrases = [(0, "rose"), (1, "Rosé wine"), (2, "ROSE-WINE"), (3, "rosewine")]
    assert relate(phrases).select("a", "b", "kind").rows() == [
        (0, 1, "nested"), (0, 2, "nested"), (1, 2, "same"),
    ]  # fmt: skip


def test_samples_are_twenty_and_marked(told):
    row = of(told, "blood orange")
    assert len(row["samples"]) == SAMPLES
    assert {sample["match"] for sample in row["samples"]} == {"blood orange"}
    assert {s["before"] + s["match"] + s["after"] for s in row["samples"]} <= set(CAPTIONS)


def test_samples_do_not_depend_on_blocks_or_their_order():
    captions = [f"a fig {n}" for n in range(500)]
    whole = Doctor({"fig": "fig"}).examine([block(captions)])
    cut = [block(captions[i : i + 50], first_row=i) for i in range(0, 500, 50)]
    parts = [Doctor({"fig": "fig"}).examine([part]) for part in reversed(cut)]
    assert merge(parts).samples.equals(whole.samples)
    other = Doctor({"fig": "fig"}, seed=1).examine([block(captions)])
    assert not other.samples.equals(whole.samples)


def test_samples_are_drawn_from_everywhere():
    captions = [f"fig {n}" for n in range(100)]
    drawn = Counter()
    for seed in range(100):
        chart = Doctor({"fig": "fig"}, seed=seed).examine([block(captions)])
        drawn.update(chart.samples["row"].to_list())
    # 100 draws of 20 in 100: each row 20 times, give or take four standard deviations of 4.
    assert min(drawn[row] for row in range(100)) > 4
    assert max(drawn.values()) < 36


def test_a_long_caption_is_cut_around_its_match():
    chart = Doctor({"fig": "fig"}).examine([block(["é" * 10**6 + " fig " + "中" * 10**6])])
    (sample,) = chart.samples.select("before", "match", "after").rows()
    assert (sample[0][:2], sample[1], sample[2][-2:]) == ("…é", "fig", "中…")
    assert sum(map(len, sample)) < 200


def test_a_caption_of_a_million_names_is_read():
    captions = ["figs blood orange " * 100_000, "orange " * 100_000 + "é"]
    chart = Doctor({x: [x] for x in ("fig", "orange", "blood orange")}).examine([block(captions)])
    assert chart.found.rows() == [(1, 2), (2, 1)]
    assert chart.shared.rows() == [(1, 2, 1, 1)]
    assert chart.inside.rows() == [(0, "figs", 1)]


def test_the_result_does_not_depend_on_workers(told, tmp_path):
    pool = write_pool(tmp_path / "pool")
    again = doctor(pool, task(), synonyms=SYNONYMS, workers=2)
    assert json.dumps(again) == json.dumps(told)


def test_a_pool_with_vectors_offers_neighbors(tmp_path):
    for name in ("metadata", "img_emb"):
        (tmp_path / name).mkdir()
    table = pl.DataFrame({"key": ["1"], "caption": ["a rose"]})
    table.write_parquet(tmp_path / "metadata" / "metadata_0000.parquet")
    np.save(tmp_path / "img_emb" / "img_emb_0000.npy", np.ones((1, 4), np.float16))
    told = doctor(tmp_path, task(), workers=1)
    assert told["vectors"]
    assert "`retrieve --by neighbors` uses them" in sentences(told, "neighbors")[0]


def test_a_list_of_words_is_no_company(tmp_path):
    names = {f"w{n}": [f"w{n}"] for n in range(40)}
    pool = write_pool(tmp_path / "pool", [" ".join(names)] * 3)
    told = doctor(pool, task(names), workers=1)
    assert (told["crowds"], told["shared"]) == (3, [])
    assert "3 captions name more than 30 classes" in sentences(told, "crowd")[0]


def test_mistakes_are_one_clean_line(tmp_path):
    empty = write_pool(tmp_path / "empty", [])
    with pytest.raises(PoolError, match="the pool has no pair"):
        doctor(empty, task(), workers=1)
    pool = write_pool(tmp_path / "pool")
    with pytest.raises(QueryError, match="nothing to search for"):
        doctor(pool, task({"stars": ["***"]}), workers=1)
    with pytest.raises(InputError, match="no synonym is for a class of task t"):
        doctor(pool, task(), synonyms={"cat": ["felid"]}, workers=1)
    (tmp_path / "s.json").write_text('{"hog": "pig"}')
    with pytest.raises(InputError, match="the synonyms of hog are no list of names"):
        read_synonyms(tmp_path / "s.json")


def test_expressions_and_modes_are_tried_as_retrieval_tries_them():
    captions = ["a tabby cat", "a cat and a hat", "the cat of a tabby", "cats"]
    queries = {"tabby": ["tabby cat"], "cat": [parse_query('"cat" NOT "hat"')]}
    chart = Doctor(queries).examine([block(captions)])
    assert chart.found.rows() == [(0, 1), (1, 2)]
    assert chart.all_words.rows() == [(0, 1)]
    loose = Doctor({"tabby": ["tabby cat"]}, mode="all").examine([block(captions)])
    assert (loose.found.rows(), loose.all_words.rows()) == ([(0, 2)], [])
    either = Doctor({"pet": [parse_query('"cat" OR "dog"')]}).examine([block(captions)])
    assert either.inside.rows() == [(0, "cats", 1)]


def test_a_plural_is_told():
    chart = Doctor({"berry": ["berry"]}).examine([block(["a berry"] * 10 + ["berries"] * 11)])
    assert chart.found.rows() == [(0, 10)]
    told = diagnose_only({"knee pad": ["knee pad"]}, ["a knee pad"] * 12 + ["knee pads"] * 11)
    assert sentences(told, "plural") == [
        '11 captions say "knee pads" and not "knee pad", which 12 do: add it as a query.'
    ]
    told = diagnose_only({"knee pad": ["knee pad"]}, ["knee pads"] * 11)
    assert sentences(told, "nothing")[1].endswith('More would be found: 11 with "knee pads".')


def diagnose_only(queries, captions):
    physician = Doctor(queries)
    chart = physician.examine([block(captions)])
    return diagnose(physician, chart, names={x: x for x in queries}, has_vectors=False)


HOSTILE = {
    "<script>alert(1)</script>": ["fig"], "שלום": ["שלום"], "a\u0301" * 99: ["orange"],
    "ox": ["ox"],
}  # fmt: skip
HOSTILE_CAPTIONS = [
    "<img src=x onerror=alert(1)> fig", "שלום fig עולם", "f" + "\u0301\u0316" * 99 + " orange",
    "\u202e fig \x1b[31m\x00", "w" * 5000 + " fig",
]  # fmt: skip


def hostile_page(folder: Path) -> Path:
    pool = write_pool(folder / "pool", HOSTILE_CAPTIONS)
    write_page(doctor(pool, task(HOSTILE), workers=1), folder / "doctor.html")
    return folder / "doctor.html"


def test_the_page_shows_what_was_found_and_marks_it(told, tmp_path):
    write_page(told, tmp_path / "doctor.html")
    page = (tmp_path / "doctor.html").read_text(encoding="utf-8")
    assert f"<h1>{told['sentence']}</h1>" in page
    assert "<bdi>a <mark>blood orange</mark></bdi>" in page
    assert "<bdi><mark>fig</mark>ure</bdi> 12" in page
    assert page.count('class="card"') == len(QUERIES)
    places = set(re.findall(r'href="#([\w-]+)"', page))
    assert places <= set(re.findall(r'id="([\w-]+)"', page))


def test_nothing_in_a_caption_or_name_is_markup(tmp_path):
    page = hostile_page(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search("[\x00-\x08\x1b\u202e]", page)
    assert "\u0301\u0316\u0301" not in page  # piled-up marks are cut


def test_the_command_prints_json_and_a_table(capsys, tmp_path):
    pool = write_pool(tmp_path / "pool")
    (tmp_path / "t.yaml").write_text(json.dumps(task().model_dump(mode="json")))
    (tmp_path / "s.json").write_text(json.dumps(SYNONYMS))
    told = ["--task", str(tmp_path / "t.yaml"), "--pool", str(pool), "--workers", "1"]
    assert run(["doctor", *told, "--synonyms", str(tmp_path / "s.json"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert of(value, "beach wagon")["with_synonyms"] == 4
    assert run(["doctor", *told, "--html", str(tmp_path / "d.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "class", "captions", "shared", "inside", "+synonyms", "+all", "longer", "words",
    ]  # fmt: skip
    assert len([line for line in lines if line.startswith(tuple(QUERIES))]) == len(QUERIES)
    assert (tmp_path / "d.html").exists()
    assert run(["doctor", "--task", "miniature", "--pool", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("headwater: no such pool")


def test_every_key_is_told_in_the_documents(told):
    page = (Path(__file__).parents[1] / "docs" / "retrieval.md").read_text(encoding="utf-8")
    keys = {*told, *told["classes"][0], *told["shared"][0], *told["findings"][0]}
    keys |= {*told["classes"][0]["samples"][0]}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
