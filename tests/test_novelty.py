"""Novelty: copies are memorized, what is close is near, the rest is new; against plain versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.tiny_clip import tiny_clip
from tests.tiny_garden import import_set, make_task, picture
from tests.tiny_pool import POOL, encoded, planted_set, pool_images, write_pool, write_tar

from headwater.clip import Clip, load_clip
from headwater.decode import decode_rgb
from headwater.descriptors import describe, open_descriptor
from headwater.errors import InputError, PoolError, RunError, SetError
from headwater.pairs import read_pairs, shard_paths
from headwater.pool import PoolShard, metadata_path, open_pool
from headwater.steps.embed import embed
from headwater.steps.novelty import nearest as search
from headwater.steps.novelty.looks import Look
from headwater.steps.novelty.novelty import find_novelty
from headwater.steps.novelty.sample import draw_sample, near_level
from headwater.steps.novelty.settings import BANDS
from headwater.store import Json, read_json, write_table
from headwater.task import Task

DESCRIPTOR = open_descriptor("builtin")


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pool`, 70 pictures in three shards, and `set`, some of which are from it."""
    folder = tmp_path_factory.mktemp("garden")
    write_pool(folder / "pool", pool_images())
    planted_set(folder / "set", make_task(folder))
    return folder


@pytest.fixture(scope="module")
def found(garden: Path) -> Path:
    find_novelty(
        garden / "set", garden / "pool", garden / "found", descriptor=DESCRIPTOR, clip=tiny_clip()
    )
    return garden / "found"


def novelty_of(garden: Path, out: Path, **how: object) -> Json:
    told: Json = {"descriptor": DESCRIPTOR, "clip": tiny_clip(), **how}
    return find_novelty(garden / "set", told.pop("pool", garden / "pool"), out, **told)


def nearest_of(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "nearest.parquet")


def plainly(queries: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best row of each query, in float64, the first of equals."""
    scores = queries.astype(np.float64) @ rows.astype(np.float64).T
    return scores.max(axis=1), scores.argmax(axis=1)


def test_each_lands_in_its_band(found: Path) -> None:
    told = nearest_of(found)
    planted = told["id"].str.extract(r"/(\w+)-")
    bands = planted.replace_strict({"copy": "memorized", "near": "near", "new": "new"})
    assert told["novelty"].to_list() == bands.to_list()
    number = {"same": 0, "jpeg": 1, "half": 2, "cropped": 3, "mirrored": 4}
    for name, i in number.items():
        row = told.filter(pl.col("id").str.contains(f"copy-{name}"))
        assert row["copy_of"].item() == f"pool:{i:04d}"
    for row in told.filter(novelty="near").to_dicts():
        assert row["like"] == f"pool:00{row['id'][-6:-4]}"


def test_every_image_has_its_nearest_by_descriptor_and_by_clip(garden: Path, found: Path) -> None:
    told, clip = nearest_of(found), tiny_clip()
    images = [decode_rgb(data) for data in read_pairs(garden / "set")["image"].struct[0]]
    pool = [np.asarray(picture(i)) for i in range(POOL)]
    for column, value, see in (
        ("copy_of", "similarity", describe),
        ("like", "clip_similarity", clip.encode_images),
    ):
        scores, rows = plainly(see(images), see(pool))
        assert told[column].to_list() == [f"pool:{row:04d}" for row in rows]
        np.testing.assert_allclose(told[value], scores, atol=1e-6)
    assert told.select("id", "label").equals(read_pairs(garden / "set", ["id", "label"]))


def test_near_begins_where_few_of_the_pool_s_own_are_as_close(found: Path) -> None:
    features = tiny_clip().encode_images([np.asarray(picture(i)) for i in range(POOL)])
    alike = features.astype(np.float64) @ features.T.astype(np.float64)
    np.fill_diagonal(alike, -1)
    told = read_json(found / "novelty.json")
    assert told["near"] == pytest.approx(np.percentile(alike.max(axis=1), 95), abs=1e-6)
    assert told["measured"]["sampled"] == POOL
    assert told["measured"]["twins"] == 0


def test_images_with_a_twin_do_not_raise_the_level(garden: Path, tmp_path: Path) -> None:
    twins = [encoded(picture(i), "JPEG", quality=90) for i in range(20)]
    write_pool(tmp_path / "pool", [*pool_images(), *twins])
    novelty_of(garden, tmp_path / "n", pool=tmp_path / "pool")
    told = read_json(tmp_path / "n" / "novelty.json")
    assert told["measured"]["twins"] == 40
    assert told["near"] < 0.999


def test_too_few_images_measure_nothing() -> None:
    closest = np.linspace(0, 1, 19, dtype=np.float32)
    assert near_level(closest, np.zeros(19, bool))[0] is None
    assert near_level(np.zeros(0, np.float32), np.zeros(0, bool))[0] is None


def test_levels_that_are_given_hold(garden: Path, tmp_path: Path) -> None:
    counts = novelty_of(garden, tmp_path / "n", threshold=0.95, near=0.5)
    told = nearest_of(tmp_path / "n")
    assert counts["memorized"] == int((told["similarity"] > 0.95).sum()) == 4
    assert counts["new"] == 0
    with pytest.raises(InputError, match="-1 to 1"):
        novelty_of(garden, tmp_path / "m", near=50)


def test_vectors_of_the_same_clip_take_the_place_of_images(
    garden: Path, found: Path, tmp_path: Path
) -> None:
    embed(garden / "pool", tmp_path / "v", clip=tiny_clip(), workers=0)
    novelty_of(garden, tmp_path / "n", vectors=tmp_path / "v")
    by_vectors, by_images = nearest_of(tmp_path / "n"), nearest_of(found)
    assert by_vectors["novelty"].equals(by_images["novelty"])
    assert by_vectors.drop("like", "clip_similarity").equals(
        by_images.drop("like", "clip_similarity")
    )
    np.testing.assert_allclose(
        by_vectors["clip_similarity"], by_images["clip_similarity"], atol=1e-3
    )
    assert read_json(tmp_path / "n" / "novelty.json")["clip"] == {"images": POOL, "vectors": True}


def test_vectors_of_others_are_refused(garden: Path, tmp_path: Path) -> None:
    write_pool(tmp_path / "other", pool_images()[:10])
    embed(tmp_path / "other", tmp_path / "v", clip=tiny_clip(), workers=0)
    with pytest.raises(PoolError, match="out of step"):
        novelty_of(garden, tmp_path / "n", vectors=tmp_path / "v")
    with pytest.raises(PoolError, match="another model"):
        find_novelty(
            garden / "set", tmp_path / "other", tmp_path / "n", descriptor=DESCRIPTOR,
            clip=saved_clip(tmp_path / "clip"), vectors=tmp_path / "v",
        )  # fmt: skip
    embed(garden / "pool", tmp_path / "text", clip=tiny_clip(), only="captions", workers=0)
    with pytest.raises(PoolError, match="captions only"):
        novelty_of(garden, tmp_path / "n", vectors=tmp_path / "text")
    assert not (tmp_path / "n").exists()


def saved_clip(folder: Path) -> Clip:
    tiny_clip(1).save(folder)
    return load_clip(str(folder))


def test_without_images_vectors_tell_near_and_nothing_tells_copies(
    garden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed(garden / "pool", tmp_path / "v", clip=tiny_clip(), workers=0)
    novelty_of(garden, tmp_path / "n", pool=tmp_path / "v")
    assert "copies are not looked for" in capsys.readouterr().err
    told = nearest_of(tmp_path / "n")
    assert told["similarity"].null_count() == told["copy_of"].null_count() == len(told)
    near = told.filter(novelty="near")["id"]
    assert near.str.contains("near-").sum() == 3
    assert read_json(tmp_path / "n" / "novelty.json")["descriptor"] is None


def test_a_pool_of_captions_alone_has_nothing_to_compare(garden: Path, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", pool_images(), tars=False)
    with pytest.raises(PoolError, match="captions and URLs only"):
        novelty_of(garden, tmp_path / "n", pool=tmp_path / "pool")
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_a_pool_s_own_vectors_are_used_if_they_are_of_this_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whose: str
) -> None:
    """An embedded pool whose record is gone, with its images in the table."""
    garden = tmp_path
    pool = write_pool(garden / "images", pool_images())
    planted_set(garden / "set", make_task(garden))
    embed(pool, garden / "v", clip=tiny_clip(0 if whose == "its own" else 1), workers=0)
    (garden / "v" / "step.json").unlink()
    images = pool_images()
    for shard in open_pool(garden / "v").shards:
        table = pl.read_parquet(metadata_path(garden / "v", shard.number))
        data = [images[int(key)] for key in table["key"]]
        write_table(
            metadata_path(garden / "v", shard.number),
            table.with_columns(jpg=pl.Series(data, dtype=pl.Binary)),
        )
    novelty_of(garden, garden / "n", pool=garden / "v")
    told = read_json(garden / "n" / "novelty.json")
    assert told["clip"]["vectors"] is (whose == "its own")
    assert ("are of another model" in capsys.readouterr().err) is (whose == "another's")
    near = nearest_of(garden / "n").filter(pl.col("id").str.contains("near"))
    assert sorted(near["like"]) == ["pool:0010", "pool:0011", "pool:0014"]


def test_what_does_not_decode_is_left_out(garden: Path, tmp_path: Path) -> None:
    images = pool_images()
    images[0], images[40] = b"<html>404</html>", images[40][:200]
    write_pool(tmp_path / "pool", images)
    for name in ("first", "from the cache"):
        novelty_of(garden, tmp_path / name, pool=tmp_path / "pool")
        told = read_json(tmp_path / name / "novelty.json")
        assert told["descriptor"]["images"] == told["clip"]["images"] == POOL - 2
        assert told["measured"]["sampled"] == POOL - 2
        row = nearest_of(tmp_path / name).filter(pl.col("id").str.contains("copy-same"))
        assert row["novelty"].item() != "memorized"


def test_the_same_url_is_memorized_whatever_it_looks_like(garden: Path, tmp_path: Path) -> None:
    urls = [f"http://127.0.0.1/{i}.png" for i in range(POOL)]
    write_pool(tmp_path / "pool", pool_images(), urls=urls)
    source = import_set(tmp_path / "set", make_task(tmp_path), {"rose/1.png": 2000})
    path = shard_paths(source)[0]
    write_table(path, pl.read_parquet(path).with_columns(url=pl.lit(urls[33])))
    find_novelty(
        source, tmp_path / "pool", tmp_path / "n", descriptor=DESCRIPTOR, clip=tiny_clip(),
        pool_name="web",
    )  # fmt: skip
    told = nearest_of(tmp_path / "n").row(0, named=True)
    assert (told["same_as"], told["novelty"]) == ("web:0033", "memorized")
    assert told["similarity"] < DESCRIPTOR.threshold


def test_of_equal_images_the_first_is_named(garden: Path, tmp_path: Path) -> None:
    images = pool_images()
    images[5] = images[35] = images[65] = images[0]
    write_pool(tmp_path / "pool", images)
    novelty_of(garden, tmp_path / "n", pool=tmp_path / "pool")
    row = nearest_of(tmp_path / "n").filter(pl.col("id").str.contains("copy-same"))
    assert row["copy_of"].item() == row["like"].item() == "pool:0000"


def test_of_pairs_that_share_a_key_the_first_has_the_image(garden: Path, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", pool_images())
    table = pl.read_parquet(tmp_path / "pool" / "00000.parquet")
    keys = [key if key != "0009" else "0008" for key in table["key"]]
    table.with_columns(key=pl.Series(keys)).write_parquet(tmp_path / "pool" / "00000.parquet")
    drawn = draw_sample(open_pool(tmp_path / "pool"), size=1000, seed=0)
    assert len(drawn.keys) == len(set(drawn.keys)) == POOL - 1
    novelty_of(garden, tmp_path / "n", pool=tmp_path / "pool")
    assert read_json(tmp_path / "n" / "novelty.json")["descriptor"]["images"] == POOL - 1


def test_any_number_of_workers_gives_the_same_bytes(
    garden: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FEW", 0)
    novelty_of(garden, tmp_path / "n", workers=2)
    for name in ("nearest.parquet", "novelty.json"):
        assert (tmp_path / "n" / name).read_bytes() == (found / name).read_bytes()


def test_a_killed_run_goes_on_with_the_shards_that_are_missing(
    garden: Path, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int]] = []
    whole = search.compare_shard

    def dying(folder: Path, look: Look, shard: PoolShard) -> None:
        begun.append((look.name, shard.number))
        if begun.count(("descriptor", 1)) == 1 and begun[-1] == ("descriptor", 1):
            raise RunError("killed")
        whole(folder, look, shard)

    monkeypatch.setattr(search, "compare_shard", dying)
    with pytest.raises(RunError):
        novelty_of(garden, tmp_path / "n")
    novelty_of(garden, tmp_path / "n")
    by_descriptor = [number for name, number in begun if name == "descriptor"]
    assert by_descriptor == [0, 1, 1, 2]
    assert [number for name, number in begun if name == "clip"] == [0, 1, 2]
    assert (tmp_path / "n" / "nearest.parquet").read_bytes() == (
        found / "nearest.parquet"
    ).read_bytes()
    assert not (tmp_path / "n" / "work").exists()


def test_what_images_gave_and_what_vectors_give_are_not_mixed(
    garden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(garden / "pool", tmp_path / "v", clip=tiny_clip(), workers=0)
    novelty_of(garden, tmp_path / "whole", vectors=tmp_path / "v")
    whole = search.compare_shard

    def dying(folder: Path, look: Look, shard: PoolShard) -> None:
        if shard.number == 2:
            raise RunError("killed")
        whole(folder, look, shard)

    with monkeypatch.context() as patch, pytest.raises(RunError):
        patch.setattr(search, "compare_shard", dying)
        novelty_of(garden, tmp_path / "n")
    novelty_of(garden, tmp_path / "n", vectors=tmp_path / "v")
    assert nearest_of(tmp_path / "n").equals(nearest_of(tmp_path / "whole"))


def test_a_set_without_its_images_is_refused(garden: Path, tmp_path: Path) -> None:
    task: Task = make_task(tmp_path)
    source = import_set(tmp_path / "set", task, {"rose/1.png": 2000})
    path = shard_paths(source)[0]
    table = pl.read_parquet(path)
    gone = table.with_columns(
        image=pl.Series([{"bytes": None, "path": None}], dtype=table.schema["image"])
    )
    write_table(path, gone)
    with pytest.raises(SetError, match="do not, or are not there"):
        find_novelty(
            source, garden / "pool", tmp_path / "n", descriptor=DESCRIPTOR, clip=tiny_clip()
        )


def test_a_broken_shard_is_one_clear_line(garden: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", pool_images())
    write_tar(pool / "00001.tar", {})
    (pool / "00001.tar").write_bytes((pool / "00000.tar").read_bytes()[:5000])
    with pytest.raises(PoolError, match="whole tar file"):
        novelty_of(garden, tmp_path / "n", pool=pool)


def test_counts_add_up(garden: Path, found: Path) -> None:
    counts = read_json(found / "step.json")["counts"]
    assert counts == {"images": 12, "memorized": 5, "near": 3, "new": 4}
    assert list(counts)[1:] == list(BANDS)
