"""`curate` from set to set: every pair accounted for, rules in their order, nothing done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.tiny_clip import save_tiny_clip, tiny_clip
from tests.tiny_garden import CLASSES, import_set, make_task, numbered, save

from headwater.cli import run
from headwater.curate.score import class_scores
from headwater.curate.select import keep_top
from headwater.decode import decode_rgb
from headwater.errors import InputError, SetError, TaskError
from headwater.pairs import CANDIDATES, read_decisions, read_funnel, read_pairs, shard_paths, total
from headwater.steps.curation.curate import curate
from headwater.steps.curation.settings import Curation
from headwater.steps.importing import import_images
from headwater.store import contents, read_json
from headwater.task import Task

SMALL = {"size": 32, "descriptor": "builtin"}
CLIP = tiny_clip()


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return make_task(tmp_path)


@pytest.fixture
def source(tmp_path: Path, task: Task) -> Path:
    """Twelve roses and twelve ferns; one rose copies a test image."""
    return import_set(tmp_path / "found", task, numbered(400, 12) | {"rose/copy.jpg": 101})


def curated(source: Path, task: Task, out: Path, **settings: object) -> Path:
    curate(source, task, out, clip=CLIP, how=Curation.model_validate(SMALL | settings), workers=1)
    return out


def kept(folder: Path) -> set[str]:
    return set(read_pairs(folder, ["id"])["id"])


def reasons(folder: Path) -> dict[str, str]:
    return dict(read_decisions(folder).filter(~pl.col("kept")).select("id", "reason").iter_rows())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in contents(folder)}


def test_every_pair_is_accounted_for(source: Path, task: Task, tmp_path: Path) -> None:
    folder = curated(source, task, tmp_path / "kept", rules=[
        {"score": "clip_score", "fraction": 0.5}, {"copies": ["test", "val"]},
        {"duplicates": "class"}, {"score": "sharpness", "cap": 3},
    ])  # fmt: skip
    steps = ["found", "decodes", "pixels", "clip_score", "no_copy", "no_duplicate", "sharpness"]
    decisions, counts = read_decisions(folder), read_funnel(folder)
    assert counts["steps"] == steps
    assert len(decisions) == len(read_decisions(source)) == 25
    for label in CLASSES:
        own = decisions.filter(pl.col("label") == label)
        for at, step in enumerate(steps):
            fell = own.filter(~pl.col("kept") & pl.col("step").is_in(steps[: at + 1]))
            assert counts["classes"][label][step] == len(own) - len(fell)
    assert decisions["kept"].sum() == total(counts, steps[-1]) == len(read_pairs(folder))
    candidates = pl.read_parquet(folder / CANDIDATES)
    assert candidates.select("id", "label").equals(decisions.select("id", "label"))


def test_the_usual_rules_are_those_of_plain_numpy(source: Path, task: Task, tmp_path: Path) -> None:
    folder = curated(source, task, tmp_path / "kept")
    table = pl.read_parquet(folder / CANDIDATES)
    images = read_pairs(source, ["id", "image"]).sort("id")
    pictures = [decode_rgb(image["bytes"]) for image in images["image"]]
    everything = curated(source, task, tmp_path / "all", rules=[])
    square = read_pairs(everything, ["id", "image"]).sort("id")
    features = CLIP.encode_images([decode_rgb(image["bytes"]) for image in square["image"]])
    classes = np.array([CLASSES.index(label) for label in table["label"]])
    texts = CLIP.class_text_features(task.names, task.prompts.filter)
    scores = class_scores(features, classes, texts)
    assert np.array_equal(scores, table["clip_score"].to_numpy())
    best = set(table["id"].to_numpy()[keep_top(scores, classes, fraction=0.3, cap=10_000)])
    assert kept(folder) == best - {"imported:rose/copy.jpg"}
    assert [picture.shape[0] for picture in pictures] == table["height"].to_list()


def test_rules_apply_in_their_order(source: Path, task: Task, tmp_path: Path) -> None:
    half = {"score": "clip_score", "fraction": 0.5}
    sharp = {"score": "sharpness", "fraction": 0.5}
    one = curated(source, task, tmp_path / "one", rules=[half, sharp])
    other = curated(source, task, tmp_path / "other", rules=[sharp, half])
    assert read_funnel(one)["steps"][-2:] == ["clip_score", "sharpness"]
    table = pl.read_parquet(one / CANDIDATES)
    for folder, (first, second) in ((one, (half, sharp)), (other, (sharp, half))):
        left = table
        for rule in (first, second):
            rows = keep_top(left[str(rule["score"])], left["label"], fraction=0.5)
            left = left.filter(pl.Series(rows))
        assert kept(folder) == set(left["id"])


def test_a_copy_falls_whatever_its_score(source: Path, task: Task, tmp_path: Path) -> None:
    folder = curated(source, task, tmp_path / "kept", rules=[{"copies": ["test"]}])
    assert list(reasons(folder)) == ["imported:rose/copy.jpg"]
    assert reasons(folder)["imported:rose/copy.jpg"].startswith("copy of test/rose/1.png (0.")
    row = pl.read_parquet(folder / CANDIDATES).filter(pl.col("id") == "imported:rose/copy.jpg")
    assert row["copy_of"].item() == "test/rose/1.png"
    assert row["copy_similarity"].item() > 0.2


def test_copies_are_seen_before_the_pixel_path_and_after(task: Task, tmp_path: Path) -> None:
    """A squashed copy loses its ends on the path, a padded one its padding."""
    folder = save(tmp_path / "found", numbered(400, 2))
    original = Image.open(task.images["test"] / "fern" / "0.png")
    original.resize((48, 26)).save(folder / "fern" / "squashed.png")
    padded = Image.new("RGB", (72, 128), "white")
    padded.paste(original.resize((72, 72)), (0, 28))
    padded.save(folder / "fern" / "padded.png")
    import_images(folder, task, tmp_path / "set", workers=1)
    kept_set = curated(tmp_path / "set", task, tmp_path / "kept", rules=[{"copies": ["test"]}])
    assert set(reasons(kept_set)) == {"imported:fern/squashed.png", "imported:fern/padded.png"}


def test_of_duplicates_the_best_scored_stays(tmp_path: Path, task: Task) -> None:
    twins = {"rose/a.png": 7, "rose/b.jpg": 7, "rose/c.png": 8, "fern/a.png": 7, "fern/b.png": 9}
    source = import_set(tmp_path / "twins", task, twins)
    stack = [{"score": "sharpness", "fraction": 1.0}]
    by_class = curated(source, task, tmp_path / "c", rules=[*stack, {"duplicates": "class"}])
    sharpness = dict(pl.read_parquet(by_class / CANDIDATES).select("id", "sharpness").iter_rows())
    roses = ("imported:rose/a.png", "imported:rose/b.jpg")
    best = max(roses, key=lambda name: sharpness[name])
    (worst,) = set(roses) - {best}
    assert reasons(by_class) == {worst: f"duplicate of {best}"}
    in_set = curated(source, task, tmp_path / "s", rules=[*stack, {"duplicates": "set"}])
    assert len(kept(in_set)) == 3


def test_the_paper_s_rules_depend_on_who_made_the_set(
    source: Path, task: Task, tmp_path: Path
) -> None:
    folder = curated(source, task, tmp_path / "kept", rules="reference")
    assert read_funnel(folder)["steps"][-1] == "clip_score"
    how = Curation(rules="reference")
    assert how.gates_for("retrieve") == ["clip_score", "no_copy"]
    caps = [how.rules_for(verb)[0].model_dump()["cap"] for verb in ("retrieve", "synthesize")]
    assert caps == [10_000, None]


def test_reference_pixels_stay_what_they_were(source: Path, task: Task, tmp_path: Path) -> None:
    folder = curated(source, task, tmp_path / "kept", pixels="reference", rules=[])
    before = read_pairs(source, ["id", "image", "sha256"]).sort("id")
    assert read_pairs(folder, ["id", "image", "sha256"]).sort("id").equals(before)


def test_one_path_makes_all_images_alike(task: Task, tmp_path: Path) -> None:
    save(tmp_path / "odd", {"rose/wide.png": 1, "fern/tall.jpg": 2})
    Image.open(tmp_path / "odd/rose/wide.png").resize((90, 40)).save(tmp_path / "odd/rose/wide.png")
    import_images(tmp_path / "odd", task, tmp_path / "set", workers=1)
    folder = curated(tmp_path / "set", task, tmp_path / "kept", rules=[])
    for image in read_pairs(folder, ["image"])["image"]:
        opened = decode_rgb(image["bytes"])
        assert (opened.shape, image["bytes"][:2]) == ((32, 32, 3), b"\xff\xd8")
    rows = pl.read_parquet(folder / CANDIDATES).select("id", "width", "height", "codec").rows()
    assert rows == [
        ("imported:fern/tall.jpg", 48, 48, "JPEG"), ("imported:rose/wide.png", 90, 40, "PNG"),
    ]  # fmt: skip
    told = read_json(folder / "pixels.json")
    assert (told["images"], told["before"]["not_square"]) == (2, 0.5)
    assert told["before"]["codecs"] == {"JPEG": 0.5, "PNG": 0.5}
    assert (told["after"]["codecs"], told["after"]["not_square"]) == ({"JPEG": 1.0}, 0.0)


def test_images_that_no_longer_decode_are_decisions(
    source: Path, task: Task, tmp_path: Path
) -> None:
    path = next((source / "data").glob("*.parquet"))
    table = pl.read_parquet(path)
    images = [dict(image) for image in table["image"]]
    images[3]["bytes"], images[4]["bytes"] = images[3]["bytes"][:60], None
    table.with_columns(pl.Series("image", images, dtype=table["image"].dtype)).with_columns(
        pl.int_range(pl.len()).cast(pl.String).alias("sha256")
    ).write_parquet(path)
    folder = curated(source, task, tmp_path / "kept", rules=[])
    fell = read_decisions(folder).filter(~pl.col("kept"))
    assert set(fell["id"]) == {table["id"][3], table["id"][4]}
    assert set(fell["step"]) == {"pixels"}
    assert set(fell["reason"]) == {"broken image", "empty file"}


def test_features_are_made_once(source: Path, task: Task, tmp_path: Path) -> None:
    learner = save_tiny_clip(tmp_path / "learner", seed=5)
    command = ["curate", str(source), "--task", str(tmp_path / "garden.yaml")]
    command += [
        "--model",
        str(learner),
        "--size",
        "32",
        "--descriptor",
        "builtin",
        "--workers",
        "1",
    ]
    cache = Path(os.environ["HEADWATER_CACHE"])
    assert run([*command, "--out", str(tmp_path / "a")]) == 0
    before = set(cache.rglob("*.features"))
    assert run([*command, "--fraction", "0.9", "--out", str(tmp_path / "b")]) == 0
    assert set(cache.rglob("*.features")) == before
    assert len(kept(tmp_path / "b")) > len(kept(tmp_path / "a"))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_byte(
    source: Path, task: Task, tmp_path: Path, workers: int
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, count in zip(folders, (1, workers), strict=True):
        how = Curation.model_validate(SMALL)
        curate(source, task, folder, clip=CLIP, how=how, workers=count)
    assert bytes_of(folders[0]) == bytes_of(folders[1])


def test_a_killed_curation_ends_with_the_same_bytes(
    source: Path, task: Task, tmp_path: Path
) -> None:
    learner = save_tiny_clip(tmp_path / "learner")
    command = ["curate", str(source), "--task", str(tmp_path / "garden.yaml"), "--size", "32"]
    command += ["--model", str(learner), "--descriptor", "builtin", "--out"]
    assert run([*command, str(tmp_path / "undisturbed")]) == 0
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", *command, str(out)], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (out / "work" / "pixels-00000.parquet").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run([*command, str(out)]) == 0
    assert bytes_of(out) == bytes_of(tmp_path / "undisturbed")


def test_rejections_are_added_to_the_ledger(source: Path, task: Task, tmp_path: Path) -> None:
    out, bad = tmp_path / "kept", tmp_path / "bad.csv"
    everything = kept(curated(source, task, out, rules=[]))
    bad.write_text("id,label\nimported:rose/3.png,rose\n")
    curated(source, task, out, rules=[], reject=str(bad))
    assert everything - kept(out) == {"imported:rose/3.png"}
    assert reasons(out) == {"imported:rose/3.png": "rejected by hand"}
    assert read_funnel(out)["steps"][-1] == "not_rejected"
    bad.write_text("id,label\nimported:fern/4.png,\n")
    curated(source, task, out, rules=[], reject=str(bad))
    assert len(everything - kept(out)) == 2
    before = bytes_of(out)
    curated(source, task, out, rules=[])  # the ledger speaks, also where it is not named again
    assert bytes_of(out) == before


def test_a_rejection_changes_no_other_rule(source: Path, task: Task, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id\nimported:rose/3.png\n")
    out = curated(source, task, tmp_path / "kept", reject=str(bad))
    with pytest.raises(SetError, match=r"made differently: expected arguments.size 64, saw 32"):
        curated(source, task, out, size=64, reject=str(bad))
    bad.write_text("id\nimported:rose/99.png\n")
    with pytest.raises(SetError, match=r"never considered: .* saw imported:rose/99.png"):
        curated(source, task, out, reject=str(bad))


WARMTH = """
def warmth(candidates):
    return [image[..., 0].mean() - image[..., 2].mean() for image in candidates.images]
"""


def test_a_user_s_score_is_a_column_and_a_rule(source: Path, task: Task, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(WARMTH)
    rules = [{"score": f"{mine}:warmth", "fraction": 0.25}]
    folder = curated(source, task, tmp_path / "kept", rules=rules)
    table = pl.read_parquet(folder / CANDIDATES)
    assert read_funnel(folder)["steps"][-1] == "warmth"
    assert kept(folder) == set(
        table.filter(pl.Series(keep_top(table["warmth"], table["label"], fraction=0.25)))["id"]
    )
    step = read_json(folder / "step.json")
    assert str(tmp_path) not in json.dumps({k: step[k] for k in ("arguments", "inputs")})
    mine.write_text(WARMTH.replace("0]", "1]"))
    with pytest.raises(SetError, match=r"made differently: expected inputs.scores.warmth"):
        curated(source, task, folder, rules=rules)


@pytest.mark.parametrize("name", ["pixels", "not_rejected", "found", "clip_score_2"])
def test_a_user_s_rule_is_not_called_like_another_gate(
    source: Path, task: Task, tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"def {name}(c): return [1.0] * len(c)\n")
    top = {"score": "clip_score", "fraction": 1.0}
    rules = [top, top, {"score": f"{mine}:{name}", "threshold": 0}]
    with pytest.raises(InputError, match=f"a rule's score cannot be called {name}"):
        curated(source, task, tmp_path / "kept", rules=rules)


def test_a_score_that_failed_may_be_mended(source: Path, task: Task, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.py", tmp_path / "kept"
    mine.write_text("def warmth(candidates):\n    return 1 / 0\n")
    rules = [{"score": f"{mine}:warmth", "fraction": 0.25}]
    with pytest.raises(InputError, match=r"mine.py, line 2"):
        curated(source, task, out, rules=rules)
    mine.write_text(WARMTH)
    assert read_funnel(curated(source, task, out, rules=rules))["steps"][-1] == "warmth"


def test_a_set_that_is_not_what_it_says_is_refused(
    source: Path, task: Task, tmp_path: Path
) -> None:
    (path,) = shard_paths(source)
    pairs = pl.read_parquet(path)
    pl.concat([pairs, pairs[:1]]).write_parquet(path)
    with pytest.raises(SetError, match=r"expected 25 pairs, saw 26\. Make the set again"):
        curated(source, task, tmp_path / "kept")
    pairs.with_columns(sharpness=pl.lit(1.0)).write_parquet(path)
    with pytest.raises(SetError, match=r"columns that a curation makes: .*, saw sharpness"):
        curated(source, task, tmp_path / "kept")


def test_a_task_without_test_images_is_told(
    source: Path, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = task.model_copy(update={"images": {}})
    folder = curated(source, bare, tmp_path / "kept")
    assert "has no test images: no decontamination" in capsys.readouterr().err
    assert "Decontamination was not possible" in (folder / "README.md").read_text()


def test_a_test_split_that_is_missing_is_refused(source: Path, task: Task, tmp_path: Path) -> None:
    task.images["test"].rename(tmp_path / "elsewhere")
    with pytest.raises(TaskError, match="the test images of task garden are missing"):
        curated(source, task, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_class_with_nothing_left_is_told(
    source: Path, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = "def of_roses(some):\n    return [float(x == 'rose') for x in some.pairs['label']]\n"
    (tmp_path / "mine.py").write_text(scores)
    rules = [{"score": f"{tmp_path / 'mine.py'}:of_roses", "threshold": 1}]
    folder = curated(source, task, tmp_path / "kept", rules=rules)
    assert "no pair is left of fern" in capsys.readouterr().err
    assert read_funnel(folder)["classes"]["fern"]["of_roses"] == 0


def test_a_label_the_task_lacks_is_refused(source: Path, task: Task, tmp_path: Path) -> None:
    other = make_task(tmp_path / "other")
    other = other.model_copy(update={"classes": other.classes[:1]})
    with pytest.raises(InputError, match=r"saw 'fern'. Use the task the set was made for"):
        curated(source, other, tmp_path / "kept", rules=[{"score": "clip_score", "cap": 1}])


def test_flags_say_what_a_recipe_says(source: Path, task: Task, tmp_path: Path) -> None:
    learner = save_tiny_clip(tmp_path / "learner")
    command = ["curate", str(source), "--task", str(tmp_path / "garden.yaml"), "--size", "32"]
    command += ["--model", str(learner), "--descriptor", "builtin", "--workers", "1"]
    flags = ["--fraction", "0.5", "--cap", "4", "--against", "test", "--duplicates", "class"]
    rules = "[{score: clip_score, fraction: 0.5, cap: 4}, {copies: [test]}, {duplicates: class}]"
    (tmp_path / "rules.yaml").write_text(rules)
    told = []
    ways = (flags, ["--rules", rules], ["--rules", str(tmp_path / "rules.yaml")])
    for number, how in enumerate(ways):
        out = tmp_path / str(number)
        assert run([*command, *how, "--out", str(out)]) == 0
        told.append(bytes_of(out))
    assert told[0] == told[1] == told[2]


def test_pages_show_what_was_done(
    source: Path, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["curate", str(source), "--task", str(tmp_path / "garden.yaml"), "--json"]
    command += ["--descriptor", "builtin", "--workers", "1"]
    pages = {name: tmp_path / f"{name}.html" for name in ("calibrate", "review", "audit")}
    assert run([*command, "--calibrate", str(pages["calibrate"])]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["calibrate"]
    command += ["--model", str(save_tiny_clip(tmp_path / "learner")), "--size", "32"]
    command += ["--out", str(tmp_path / "kept")]
    asked = [text for name, page in pages.items() for text in (f"--{name}", str(page))]
    assert run([*command, *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pixels"], told["review"]["classes"], told["calibrate"]["copies"]) == (25, 2, 1)
    for page in pages.values():
        assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rules", "[]", "--cap", "3"], "two ways to say the rules: .* saw --cap"),
        (["--rules", ""], "--rules says nothing: expected a list"),
        (["--rules", "[{duplicates: set, duplicates: class}]"], "line 1: the key duplicates twice"),
        (["--rules", "[" * 3000], "--rules is not YAML: .* inside each other"),
        (["--copy-threshold", "nan"], "--rules: 2.threshold: .* less than or equal to 1: saw nan"),
        (["--copy-threshold", "5"], "--rules: 2.threshold: .* less than or equal to 1: saw 5"),
        (["--review", "a.html", "--audit", "./a.html"], "two pages in one file: .* saw one"),
        (["--rules", "[{scor: x}]"], "--rules.*a rule says one of score, copies, duplicates"),
        (["--rules", "[{score: clip_score"], "--rules is not YAML"),
        (["--rules", "none.yaml"], "no such file none.yaml"),
        (["--fraction", "1.5"], "less than or equal to 1"),
        (["--scores", "beauty"], "unknown score 'beauty'"),
        (["--head", "aesthetic"], "expected aesthetic=FILE"),
        (["--head", "safety=a.pth", "--head", "safety=b.pth"], "a head given twice"),
        (["--head", "taste=x.pth"], "taste is no head"),
        (["--head", "safety=x.pth"], "x.pth"),
        (["--descriptor", "best"], "--descriptor"),
        (["--descriptor", "isc", "--descriptor-weights", "x.pth"], "x.pth"),
        (["--reject", "none.csv"], "none.csv"),
        (["--scores", "none.py:warmth"], "none.py"),
        (["--against", "tset"], "no tset split"),
        (["--pixels", "two"], "--pixels"),
        (["--scores", "a.py:warmth", "--scores", "b.py:warmth"], "two scores are called warmth"),
        (["--truth", "x.csv"], "--truth belongs to --audit"),
        (["--review", "."], "cannot write a page to .*: expected a file"),
    ],
)
def test_mistakes_are_one_line(
    source: Path,
    task: Task,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: str,
) -> None:
    learner = save_tiny_clip(tmp_path / "learner")
    command = ["curate", str(source), "--task", str(tmp_path / "garden.yaml"), "--size", "32"]
    command += ["--model", str(learner), "--out", str(tmp_path / "o"), "--workers", "1"]
    assert run([*command, *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(words, said), said
    assert not (tmp_path / "o" / "step.json").exists()
