"""`retrieve`: every way to find pairs, and the gates they pass, on pools one can picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import ValidationError
from tests.tiny_clip import tiny_clip

from headwater.decode import encode_jpeg
from headwater.errors import InputError, PoolError, SetError
from headwater.pairs import read_decisions, read_funnel, read_pairs
from headwater.steps import retrieve as step_module
from headwater.steps.curation.curate import curate
from headwater.steps.embed import embed
from headwater.steps.hits import HITS, merge_hits
from headwater.steps.retrieve import retrieve
from headwater.steps.settings import Retrieval
from headwater.store import contents
from headwater.task import Task, load_task

ROWS: list[dict[str, Any]] = [
    {"TEXT": "a red rose", "punsafe": 0.01},
    {"TEXT": "rose and fern", "punsafe": 0.2},
    {"TEXT": "tree fern", "punsafe": 0.9},
    {"TEXT": None, "punsafe": None},
    {"TEXT": "a prose poem", "punsafe": 0.0},
    {"TEXT": "red roses", "punsafe": 0.0},
]


def picture(number: int) -> bytes:
    rng = np.random.default_rng(number)
    return encode_jpeg(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8))


def make_pool(folder: Path, *, images: bool = True, shards: int = 2) -> Path:
    """ROWS in some Parquet shards; the image of the second row is a text file."""
    folder.mkdir()
    for shard in range(shards):
        rows = [
            {"uid": f"k{n}", "url": f"https://example.org/{n}.jpg", **row}
            | ({"jpg": b"<html>" if n == 1 else picture(n)} if images else {})
            for n, row in enumerate(ROWS)
            if n % shards == shard
        ]
        pl.DataFrame(rows).write_parquet(folder / f"part-{shard}.parquet")
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Task:
    told = {"format": 1, "name": "garden", "classes": ["rose", "fern", "yew"]}
    (tmp_path / "garden.yaml").write_text(yaml.safe_dump(told))
    return load_task(tmp_path / "garden.yaml")


def found(folder: Path) -> set[tuple[str, str]]:
    return set(read_pairs(folder, ["id", "label"]).iter_rows())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in contents(folder)}


def test_captions_pass_the_gates_in_order(tmp_path: Path, task: Task) -> None:
    pool = make_pool(tmp_path / "pool")
    counts = retrieve(pool, task, tmp_path / "set", how=Retrieval(by="captions"), workers=1)
    assert counts == {
        "matched": 4,
        "unique": 4,
        "safe": 3,
        "has_image": 3,
        "decodes": 1,
        "needs_download": 0,
    }
    assert found(tmp_path / "set") == {("pool:k0", "rose")}
    reasons = {
        (pair, label): why
        for pair, label, why in read_decisions(tmp_path / "set")[
            "id", "label", "reason"
        ].iter_rows()
    }
    assert reasons == {
        ("pool:k0", "rose"): "kept",
        ("pool:k1", "rose"): "not an image",
        ("pool:k1", "fern"): "not an image",
        ("pool:k2", "fern"): "tagged NSFW in the pool",
    }


def test_a_lower_punsafe_drops_more(tmp_path: Path, task: Task) -> None:
    pool = make_pool(tmp_path / "pool")
    how = Retrieval(by="captions", unsafe_above=0.1)
    counts = retrieve(pool, task, tmp_path / "set", how=how, workers=1)
    assert (counts["matched"], counts["safe"]) == (4, 1)


def test_a_pool_of_urls_gives_pairs_that_wait(
    tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = make_pool(tmp_path / "pool", images=False)
    out = tmp_path / "set"
    counts = retrieve(pool, task, out, how=Retrieval(by="captions"), workers=1)
    assert counts == {
        "matched": 4,
        "unique": 4,
        "safe": 3,
        "has_image": 0,
        "decodes": 0,
        "needs_download": 3,
    }
    rose = read_funnel(out)["classes"]["rose"]
    assert (rose["safe"], rose["decodes"], rose["needs_download"]) == (2, 0, 2)
    pairs = read_pairs(out)
    assert pairs["url"].to_list() == [f"https://example.org/{n}.jpg" for n in (0, 1, 1)]
    assert pairs["image"].struct.field("bytes").null_count() == 3
    assert "pairs with a URL and no image: 3; " in capsys.readouterr().err
    with pytest.raises(SetError, match="3 pairs without"):
        curate(out, task, tmp_path / "kept", clip=tiny_clip())


def test_of_pairs_with_one_key_the_first_is_kept(tmp_path: Path, task: Task) -> None:
    rows = {"uid": [7, 7, 8], "TEXT": ["a fern", "a rose", "rose, fern"], "URL": ["u", "v", "w"]}
    (tmp_path / "pool").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "pool" / "a.parquet")
    retrieve(tmp_path / "pool", task, tmp_path / "set", how=Retrieval(by="captions"), workers=1)
    assert found(tmp_path / "set") == {("pool:7", "fern"), ("pool:8", "rose"), ("pool:8", "fern")}
    twin = read_decisions(tmp_path / "set").filter(~pl.col("kept")).row(0, named=True)
    assert (twin["id"], twin["label"], twin["step"]) == ("pool:7#1", "rose", "unique")


def test_a_key_leads_to_one_image_only(tmp_path: Path, task: Task) -> None:
    rows = {
        "key": ["web:7", "web:7", "a:b:c", "a:b:c"],
        "caption": ["rose", "a fern", "nothing", "a rose"],
        "jpg": [picture(n) for n in range(4)],
    }
    (tmp_path / "pool").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "pool" / "a.parquet")
    out = tmp_path / "set"
    retrieve(tmp_path / "pool", task, out, how=Retrieval(by="captions"), workers=1)
    pairs = read_pairs(out).select("id", "label", pl.col("image").struct.field("bytes"))
    assert pairs.rows() == [("pool:web:7", "rose", picture(0))]
    twins = read_decisions(out).filter(pl.col("step") == "unique").select("id", "label").rows()
    assert twins == [("pool:a:b:c#3", "rose"), ("pool:web:7#1", "fern")]


def test_classes_with_nothing_or_little_are_named(
    tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = make_pool(tmp_path / "pool")
    retrieve(pool, task, tmp_path / "set", how=Retrieval(by="captions"), workers=1)
    told = capsys.readouterr().err
    assert "2 of 3 classes found nothing: fern, yew" in told
    assert "1 of 3 classes found fewer than 10 pairs: rose (1)" in told


def test_both_ways_are_joined_and_told_apart(tmp_path: Path, task: Task) -> None:
    pool, clip = make_pool(tmp_path / "pool"), tiny_clip()
    embed(pool, tmp_path / "vectors", clip=clip)
    sets = {}
    for by in ("captions", "neighbors", "both"):
        near = {} if by == "captions" else {"k": 2}
        how = Retrieval(by=by, unsafe_above=1.0, **near)
        retrieve(
            pool, task, tmp_path / by, how=how, clip=clip, vectors=tmp_path / "vectors", workers=1
        )
        sets[by] = found(tmp_path / by)
    assert sets["both"] == sets["captions"] | sets["neighbors"]
    ways = {
        (pair, label): way
        for pair, label, way in read_pairs(
            tmp_path / "both", ["id", "label", "found_by"]
        ).iter_rows()
    }
    for pair, way in ways.items():
        assert ("captions" in way) == (pair in sets["captions"])
        assert (way != "captions") == (pair in sets["neighbors"])


def test_vectors_of_a_part_of_the_pool_are_followed_by_key(tmp_path: Path, task: Task) -> None:
    pool, clip = make_pool(tmp_path / "pool"), tiny_clip()
    embed(pool, tmp_path / "whole", clip=clip)
    part = tmp_path / "part"
    for kind in ("img_emb", "text_emb", "metadata"):
        (part / kind).mkdir(parents=True)
    for shard in range(2):
        table = pl.read_parquet(tmp_path / "whole" / "metadata" / f"metadata_{shard:04d}.parquet")
        kept = [row for row, key in enumerate(table["key"]) if key != "k0"]
        table[kept].write_parquet(part / "metadata" / f"metadata_{shard:04d}.parquet")
        for kind in ("img_emb", "text_emb"):
            name = f"{kind}/{kind}_{shard:04d}.npy"
            np.save(part / name, np.load(tmp_path / "whole" / name)[kept])
    how = Retrieval(by="neighbors", k=6, unsafe_above=1.0)
    retrieve(pool, task, tmp_path / "set", how=how, clip=clip, vectors=part, workers=1)
    considered = set(read_decisions(tmp_path / "set")["id"])
    assert considered == {f"pool:k{n}" for n in range(1, 6)}


def test_vectors_that_stand_twice_for_a_pair_find_it_once(tmp_path: Path, task: Task) -> None:
    pool, clip = make_pool(tmp_path / "pool", shards=1), tiny_clip()
    embed(pool, tmp_path / "vectors", clip=clip)
    for kind in ("img_emb", "text_emb"):
        path = tmp_path / "vectors" / kind / f"{kind}_0000.npy"
        np.save(path, np.repeat(np.load(path), 2, axis=0))
    path = tmp_path / "vectors" / "metadata" / "metadata_0000.parquet"
    rows = pl.read_parquet(path)
    pl.concat([rows, rows]).sort("key").write_parquet(path)
    how = Retrieval(by="neighbors", k=20)
    retrieve(pool, task, tmp_path / "set", how=how, clip=clip, vectors=tmp_path / "vectors")
    considered = read_decisions(tmp_path / "set").select("id", "label")
    assert considered.is_unique().all()
    assert len(considered) == len(ROWS) * len(task.labels)


def test_vectors_of_another_pool_or_model_are_refused(tmp_path: Path, task: Task) -> None:
    pool, clip = make_pool(tmp_path / "pool"), tiny_clip()
    embed(pool, tmp_path / "vectors", clip=clip)
    other = tmp_path / "other"
    make_pool(other)
    for path in other.glob("*.parquet"):
        pl.read_parquet(path).with_columns(uid="x" + pl.col("uid")).write_parquet(path)
    how = Retrieval(by="neighbors", k=2)
    vectors = tmp_path / "vectors"
    with pytest.raises(PoolError, match="out of step"):
        retrieve(other, task, tmp_path / "a", how=how, clip=clip, vectors=vectors)
    with pytest.raises(InputError, match="neighbors need a model"):
        retrieve(pool, task, tmp_path / "b", how=how, vectors=vectors)
    with pytest.raises(InputError, match=r"neither\. Run `headwater pool embed` first"):
        retrieve(pool, task, tmp_path / "c", how=how, clip=clip)
    wide = vectors / "img_emb" / "img_emb_0001.npy"
    np.save(wide, np.repeat(np.load(wide), 2, axis=1))
    with pytest.raises(PoolError, match=r"the vectors img_emb_0001.npy do not fit: expected \d+ d"):
        retrieve(pool, task, tmp_path / "d", how=how, clip=clip, vectors=vectors)


def test_look_alikes_of_a_query_are_dropped_and_told(tmp_path: Path, task: Task) -> None:
    pool, clip = tmp_path / "pool", tiny_clip()
    pool.mkdir()
    same = picture(1)
    rows = {"uid": ["a", "b", "c"], "TEXT": ["x", "y", "z"], "jpg": [same, same, picture(2)]}
    pl.DataFrame(rows).write_parquet(pool / "a.parquet")
    embed(pool, tmp_path / "vectors", clip=clip)
    for by in ("neighbors", "both"):
        how = Retrieval(by=by, k=3, duplicates=0.9999)
        retrieve(pool, task, tmp_path / by, how=how, clip=clip, vectors=tmp_path / "vectors")
        dropped = read_decisions(tmp_path / by).filter(~pl.col("kept"))
        assert set(dropped["reason"]) == {"looks like a better result of the same query"}
        assert read_funnel(tmp_path / by)["classes"]["rose"]["matched"] == 3
        assert read_funnel(tmp_path / by)["classes"]["rose"]["unique"] == 2


def test_classes_are_asked_for_by_example(tmp_path: Path, task: Task) -> None:
    pool, clip = make_pool(tmp_path / "pool"), tiny_clip()
    embed(pool, tmp_path / "vectors", clip=clip)
    for label, numbers in (("rose", (0, 2)), ("fern", (4,))):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in numbers:
            (tmp_path / "mine" / label / f"{number}.jpg").write_bytes(picture(number))
    examples = str(tmp_path / "mine")
    for average in (False, True):
        how = Retrieval(by="neighbors", k=1, examples=examples, average=average, unsafe_above=1.0)
        out = tmp_path / f"set{average}"
        retrieve(pool, task, out, how=how, clip=clip, vectors=tmp_path / "vectors")
    by_image = read_pairs(tmp_path / "setFalse").filter(pl.col("image_score").is_not_null())
    assert set(by_image.select("id", "label", "query").iter_rows()) == {
        ("pool:k0", "rose", "rose/0.jpg"),
        ("pool:k2", "rose", "rose/2.jpg"),
        ("pool:k4", "fern", "fern/4.jpg"),
    }
    queries = set(read_pairs(tmp_path / "setTrue")["query"])
    assert queries == {"mean of 2: rose/0.jpg, ...", "fern/4.jpg"}


def test_a_search_that_was_finished_is_not_made_again(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, clip = make_pool(tmp_path / "pool"), tiny_clip()
    embed(pool, tmp_path / "vectors", clip=clip)
    asked = {"how": Retrieval(by="neighbors", k=2), "clip": clip, "vectors": tmp_path / "vectors"}
    with monkeypatch.context() as patch:
        patch.setattr(step_module, "make_parts", lambda *_, **__: 1 / 0)  # killed right there
        with pytest.raises(ZeroDivisionError):
            retrieve(pool, task, tmp_path / "set", **asked)
    monkeypatch.setattr(step_module, "neighbor_hits", lambda *_, **__: 1 / 0)
    retrieve(pool, task, tmp_path / "set", **asked)
    assert read_decisions(tmp_path / "set").height


@pytest.mark.parametrize(
    ("by", "told", "named"),
    [
        ("captions", {"examples": "mine"}, "examples"),
        ("captions", {"k": 3}, "k"),
        ("neighbors", {"mode": "all"}, "mode"),
        ("random", {"duplicates": 0.9}, "duplicates"),
        ("both", {"n": 3}, "n"),
    ],
)
def test_a_setting_of_another_way_is_refused(by: str, told: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=f"{named} says nothing to retrieval by {by}"):
        Retrieval(by=by, **told)


def test_random_pairs_have_no_label_and_follow_the_seed(tmp_path: Path, task: Task) -> None:
    pool = make_pool(tmp_path / "pool")
    how = Retrieval(by="random", n=3, unsafe_above=1.0)
    for seed in (0, 1):
        retrieve(pool, task, tmp_path / f"set{seed}", how=how, seed=seed, workers=1)
    first, other = (set(read_decisions(tmp_path / f"set{s}")["id"]) for s in (0, 1))
    assert len(first) == len(other) == 3
    assert first != other
    assert set(read_decisions(tmp_path / "set0")["label"]) == {""}


def test_processes_and_shards_change_nothing(tmp_path: Path, task: Task) -> None:
    pool = make_pool(tmp_path / "pool", shards=3)
    how = Retrieval(by="captions", unsafe_above=1.0)
    for workers in (1, 2):
        retrieve(pool, task, tmp_path / f"by{workers}", how=how, workers=workers)
    assert files(tmp_path / "by1") == files(tmp_path / "by2")
    whole = make_pool(tmp_path / "whole", shards=1)
    retrieve(whole, task, tmp_path / "one", how=how, workers=1)
    assert read_decisions(tmp_path / "one").equals(read_decisions(tmp_path / "by1"))


def test_a_set_refuses_another_way(tmp_path: Path, task: Task) -> None:
    pool = make_pool(tmp_path / "pool")
    retrieve(pool, task, tmp_path / "set", how=Retrieval(by="captions"), workers=1)
    with pytest.raises(SetError, match=r"expected arguments.mode all, saw phrase"):
        retrieve(pool, task, tmp_path / "set", how=Retrieval(by="captions", mode="all"))


def test_merged_hits_keep_the_span_and_the_scores() -> None:
    captions = pl.DataFrame(
        {
            "row": [4, 4],
            "label": ["b", "a"],
            "query": "x",
            "start": 1,
            "end": 2,
            "found_by": "captions",
        }
    )
    neighbors = pl.DataFrame(
        {
            "row": [4, 2],
            "label": ["b", "b"],
            "query": "y",
            "found_by": "image",
            "image_score": [0.5, 0.4],
        }
    )
    merged = merge_hits(captions, neighbors, ["a", "b"])
    assert merged.schema == HITS
    assert json.loads(merged.write_json()) == [
        {"row": 2, "label": "b", "query": "y", "start": None, "end": None, "found_by": "image",
         "image_score": pytest.approx(0.4), "text_score": None, "lookalike": None},
        {"row": 4, "label": "a", "query": "x", "start": 1, "end": 2, "found_by": "captions",
         "image_score": None, "text_score": None, "lookalike": False},
        {"row": 4, "label": "b", "query": "x", "start": 1, "end": 2, "found_by": "captions+image",
         "image_score": 0.5, "text_score": None, "lookalike": False},
    ]  # fmt: skip
    assert (
        merge_hits(captions, HITS.to_frame(), ["a", "b"])["found_by"].to_list() == ["captions"] * 2
    )
