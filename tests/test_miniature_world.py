"""The miniature world: scans split once, what is planted, what captions say, and the learner."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import polars as pl
import pytest
import torch

from headwater.clip import load_clip, resize_images
from headwater.decode import decode_rgb
from headwater.errors import DecodeError, RunError
from headwater.miniature import learner
from headwater.miniature.contexts import HOLES, PLAIN, SHARES
from headwater.miniature.scans import CLASSES, SIZE, all_scans, render, split_scans
from headwater.miniature.tokens import VOCABULARY, build_tokenizer, tokenize
from headwater.miniature.wording import INSIDE
from headwater.miniature.world import BROKEN, COPIES, PLANTED, build_world, plant
from headwater.pool import open_pool, read_images, read_table
from headwater.splits import load_split
from headwater.task import load_task

PAIRS = 1500


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(folder, pairs=PAIRS)
    return folder


@pytest.fixture(scope="module")
def planted(world: Path) -> pl.DataFrame:
    return pl.read_parquet(world / "planted.parquet")


@pytest.fixture(scope="module")
def captions(world: Path) -> dict[str, str]:
    tables = [read_table(shard) for shard in open_pool(world / "pool").shards]
    return {k: v for table in tables for k, v in table.select("key", "caption").iter_rows()}


@pytest.fixture(scope="module")
def images(world: Path, captions: dict[str, str]) -> dict[str, bytes]:
    shards = open_pool(world / "pool").shards
    return {key: data for shard in shards for key, _, data in read_images(shard, list(captions))}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def decodes(data: bytes) -> bool:
    try:
        decode_rgb(data)
    except DecodeError:
        return False
    return True


def test_every_scan_is_in_one_part_only() -> None:
    parts = split_scans(3)
    together = np.concatenate([part.index for part in parts.values()])
    assert sorted(together) == list(range(1797))
    for part in parts.values():
        np.testing.assert_array_equal(part.pixels, all_scans().pixels[part.index])
        np.testing.assert_array_equal(part.digits, all_scans().digits[part.index])


def test_the_parts_have_their_size_and_balance() -> None:
    counts = {part: np.bincount(scans.digits) for part, scans in split_scans().items()}
    assert {part: int(n.sum()) for part, n in counts.items()} == {
        "upstream": 850, "train": 200, "val": 147, "test": 600,
    }  # fmt: skip
    assert set(counts["test"]) == {60} and set(counts["train"]) == {20}
    assert set(counts["val"]) == {14, 15}


def test_another_seed_splits_otherwise() -> None:
    assert set(split_scans(0)["test"].index) != set(split_scans(1)["test"].index)


def keys_weight(gap: float) -> float:
    """Catmull-Rom's kernel as Keys (1981) gives it, a = -0.5."""
    x = abs(gap)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize("size", [5, 13, 32])
def test_rendering_agrees_with_a_plain_loop(size: int) -> None:
    scan = all_scans().pixels[7]
    plain = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y, x = ((i + 0.5) * 8 / size - 0.5 for i in (row, column))
            total = sum(
                keys_weight(y - i) * keys_weight(x - j) * scan[i, j]
                for i in range(8)
                for j in range(8)
            )
            ink = min(max((total - 0.1) / 0.7, 0), 1)
            plain[row, column] = ink * ink * (3 - 2 * ink)
    np.testing.assert_allclose(render(scan, size), plain, atol=1e-12)
    np.testing.assert_allclose(render(np.stack([scan, scan]), size)[1], plain, atol=1e-12)


def test_the_task_is_a_small_part_of_the_pool(planted: pl.DataFrame) -> None:
    counts = dict(planted["context"].value_counts().iter_rows())
    assert planted.height == PAIRS and dict(planted.schema) == PLANTED
    assert set(counts) == set(SHARES)
    assert 0.07 < counts[PLAIN] / PAIRS <= 0.09


def test_the_pool_shows_upstream_scans_and_leaks_only(planted: pl.DataFrame) -> None:
    parts = split_scans()
    leaks = planted.filter(pl.col("copy_of").is_not_null())
    others = planted.filter(pl.col("copy_of").is_null())
    assert set(others["scan"].drop_nulls()) <= set(parts["upstream"].index.tolist())
    assert set(leaks["scan"]) <= set(parts["test"].index.tolist())


def test_holes_are_absent_upstream_and_tested_apart(world: Path, planted: pl.DataFrame) -> None:
    for digit, context in HOLES:
        shown = planted.filter(pl.col("context") == context)
        assert digit not in shown["digit"].to_list() and shown.height > 50
    task = load_task(world / "task.yaml")
    holes = load_split(task, "holes")
    assert {task.labels[i] for i in holes.targets} == {str(digit) for digit, _ in HOLES}
    tested = {int(Path(name).stem) for name in holes.ids}
    assert tested <= set(split_scans()["test"].index.tolist()) and len(holes) == 120


def test_sevens_in_the_holes_are_red(world: Path) -> None:
    for path in (world / "images/holes/7").iterdir():
        red, green, blue = decode_rgb(path.read_bytes()).reshape(-1, 3).astype(float).T
        ink = red > 150
        assert ink.any() and red[ink].mean() > max(green[ink].mean(), blue[ink].mean()) + 60


def test_fours_in_the_holes_stand_on_their_head(world: Path) -> None:
    alike = []
    for path in (world / "images/holes/4").iterdir():
        hole = decode_rgb(path.read_bytes())
        upright = decode_rgb((world / "images/test/4" / path.name).read_bytes())
        views = (hole[::-1, ::-1], hole)
        alike.append([np.corrcoef(upright.ravel(), view.ravel())[0, 1] for view in views])
    turned, as_shown = np.mean(alike, axis=0)
    assert turned > 0.8 and as_shown < 0.6


def test_broken_images_and_only_these_do_not_decode(
    planted: pl.DataFrame, images: dict[str, bytes]
) -> None:
    rows = planted.filter(pl.col("broken").is_not_null())
    assert set(rows["broken"]) == set(BROKEN) and rows.height == PAIRS // 100
    bad = {key for key in planted["key"] if not decodes(images[key])}
    assert bad == set(rows["key"])


def test_flagged_rows_are_those_planted(world: Path, planted: pl.DataFrame) -> None:
    tables = [read_table(shard) for shard in open_pool(world / "pool").shards]
    said = {
        k for table in tables for k, v in table.select("key", "nsfw").iter_rows() if v == "NSFW"
    }
    assert said == set(planted.filter("nsfw")["key"]) and len(said) == PAIRS // 100


def test_leaks_are_copies_of_test_images(
    world: Path, planted: pl.DataFrame, images: dict[str, bytes]
) -> None:
    leaks = planted.filter(pl.col("copy_of").is_not_null())
    assert leaks.height == PAIRS // 100 and leaks["copy_of"].n_unique() == leaks.height
    assert set(leaks["copy_kind"]) == set(COPIES)
    assert not leaks["nsfw"].any() and leaks["broken"].null_count() == leaks.height
    for row in leaks.iter_rows(named=True):
        original, copy = (world / row["copy_of"]).read_bytes(), images[row["key"]]
        assert (original == copy) == (row["copy_kind"] == "exact")
        first, second = (resize_images([decode_rgb(x)], SIZE)[0].ravel() for x in (original, copy))
        alike = np.corrcoef(first, second)[0, 1]
        assert alike > {"exact": 0.999, "reencoded": 0.98, "cropped": 0.7}[row["copy_kind"]]


def test_leaks_can_be_found_by_their_captions(
    planted: pl.DataFrame, captions: dict[str, str]
) -> None:
    for row in planted.filter(pl.col("copy_of").is_not_null()).iter_rows(named=True):
        assert row["digit"] in named(captions[row["key"]])


def named(caption: str) -> set[int]:
    """Classes that stand in a caption as a word or numeral of their own."""
    words = re.findall(r"[a-z]+|[0-9]+", caption.lower())
    return {d for d, name in enumerate(CLASSES) if name in words or str(d) in words}


def test_captions_are_of_the_kind_they_were_planted_as(
    planted: pl.DataFrame, captions: dict[str, str]
) -> None:
    for row in planted.iter_rows(named=True):
        text, kind, digit = captions[row["key"]], row["caption_kind"], row["digit"]
        found = named(text)
        if kind in ("named", "context"):
            assert found == {digit}, text
        elif kind == "two":
            assert digit in found and len(found) == 2, text
        elif kind == "wrong":
            assert len(found) == 1 and digit not in found, text
        else:
            assert not found, text
        words = [word for group in INSIDE.values() for word in group]
        assert any(word in text.lower() for word in words) == (kind == "inside"), text


def test_words_that_contain_a_class_contain_it() -> None:
    for digit, words in INSIDE.items():
        assert all(CLASSES[digit] in word and word not in CLASSES for word in words)


def test_no_caption_names_what_a_hole_lacks(
    planted: pl.DataFrame, captions: dict[str, str]
) -> None:
    for digit, context in HOLES:
        keys = planted.filter(pl.col("context") == context)["key"]
        singles = [named(captions[key]) for key in keys]
        assert not any(digit in found for found in singles)


def test_the_pool_is_what_img2dataset_writes(world: Path) -> None:
    pool = open_pool(world / "pool")
    assert pool.layout == "webdataset" and [s.name for s in pool.shards] == ["00000", "00001"]
    rows = pl.read_parquet(world / "pool" / "00001.parquet")
    with tarfile.open(world / "pool" / "00001.tar") as tar:
        members = tar.getmembers()
        content = [tar.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    assert [m.name for m in members] == [
        f"{key}.{kind}" for key in rows["key"] for kind in ("jpg", "txt", "json")
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(0, 0, 0, "")}
    for row, image, text, meta in zip(
        rows.iter_rows(named=True), content[::3], content[1::3], content[2::3], strict=True
    ):
        assert row["sha256"] == hashlib.sha256(image).hexdigest()
        assert row["caption"] == text.decode() and row == json.loads(meta)
    stats = json.loads((world / "pool" / "00001_stats.json").read_text())
    assert stats["count"] == stats["successes"] == 500


def test_the_task_is_the_built_in_one_with_images(world: Path) -> None:
    task = load_task(world / "task.yaml")
    assert task.digest == load_task("miniature").digest
    sizes = {split: len(load_split(task, split)) for split in task.images}
    assert sizes == {"train": 200, "val": 147, "test": 600, "holes": 120}
    val = load_split(task, "val")
    scans = split_scans()["val"]
    assert {int(Path(name).stem) for name in val.ids} == set(scans.index.tolist())
    digit = dict(zip(scans.index.tolist(), scans.digits.tolist(), strict=True))
    assert [digit[int(Path(name).stem)] for name in val.ids] == val.targets.tolist()
    assert all(image.shape == (SIZE, SIZE, 3) for image in val.images)


def test_the_same_seed_builds_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("once", 5), ("again", 5), ("other", 6)):
        build_world(tmp_path / name, pairs=200, seed=seed)
    once, again, other = (digests(tmp_path / name) for name in ("once", "again", "other"))
    assert once == again
    assert once["pool/00000.tar"] != other["pool/00000.tar"]


def test_a_world_can_be_built_from_fewer_scans() -> None:
    few = split_scans()["upstream"].take(np.arange(40))
    planted = plant(600, few, {"images/test/3/0007.png": 7}, seed=0)
    shown = planted.filter(pl.col("copy_of").is_null())
    assert set(shown["scan"].drop_nulls()) == set(few.index.tolist())
    assert planted.height == 600 and planted["copy_of"].count() == 1


def test_the_tokenizer_is_clip_s_in_small(captions: dict[str, str], tmp_path: Path) -> None:
    size = build_tokenizer(captions.values(), tmp_path / "one")
    assert size <= VOCABULARY
    build_tokenizer(sorted(captions.values(), reverse=True), tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    ids = tokenize(["Seven in RED ink", "seven in red ink", "é 7"], tmp_path / "one")
    assert ids.shape == (3, 16) and torch.equal(ids[0], ids[1])
    assert (ids[:, 0] == size - 2).all() and (ids.argmax(dim=1) < 15).all()
    assert int(ids.max()) == size - 1  # pooling takes the highest id for the end of the text


def pairs_of(images: dict[str, bytes], captions: dict[str, str]) -> tuple[np.ndarray, list[str]]:
    keys = [key for key in sorted(images) if decodes(images[key])]
    return resize_images([decode_rgb(images[k]) for k in keys], SIZE), [captions[k] for k in keys]


def test_the_learner_is_half_way(
    world: Path, images: dict[str, bytes], captions: dict[str, str], tmp_path: Path
) -> None:
    task = load_task(world / "task.yaml")
    pixels, texts = pairs_of(images, captions)
    before = torch.get_num_threads()
    reached = learner.train_learner(pixels, texts, tmp_path, task=task, quick=True)
    assert torch.get_num_threads() == before
    clip = load_clip(tmp_path)
    accuracy = {}
    for split in ("val", "test"):
        exam = load_split(task, split)
        shown = clip.resize(exam.images)
        accuracy[split] = learner.zero_shot_accuracy(clip, task, shown, exam.targets)
    assert accuracy["val"] == pytest.approx(reached)
    assert 0.4 <= accuracy["test"] <= 0.85
    plain = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["handwritten seven"])
    with torch.no_grad():
        features = plain.encode_text(tokens).numpy()
    np.testing.assert_allclose(features, clip.encode_texts(["handwritten seven"]), atol=1e-5)


def test_training_again_gives_the_same_bytes(
    world: Path,
    images: dict[str, bytes],
    captions: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learner, "GOAL", 0.0)
    monkeypatch.setattr(learner, "FLOOR", 0.0)
    monkeypatch.setattr(learner, "LOOK_EVERY", 3)
    task = load_task(world / "task.yaml")
    pixels, texts = pairs_of(images, captions)
    for name, seed in (("once", 0), ("again", 0), ("other", 1)):
        learner.train_learner(pixels, texts, tmp_path / name, task=task, seed=seed)
    once, again, other = (digests(tmp_path / name) for name in ("once", "again", "other"))
    assert once == again
    assert {name for name in once if once[name] != other[name]} == {"open_clip_model.safetensors"}


def test_a_learner_that_cannot_learn_says_so(
    world: Path,
    images: dict[str, bytes],
    captions: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learner, "QUICK_STEPS", 10)
    pixels, texts = pairs_of(images, captions)
    with pytest.raises(RunError, match=r"did not learn: expected 40% .* after 10 steps"):
        task = load_task(world / "task.yaml")
        learner.train_learner(pixels, texts, tmp_path, task=task, quick=True)
    assert not (tmp_path / "open_clip_model.safetensors").exists()
