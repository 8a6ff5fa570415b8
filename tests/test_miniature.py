"""The main job end to end: `headwater demo --quick`, what it leaves, and what a kill costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from headwater.cli import run
from headwater.clip import load_head
from headwater.findings import RESULT_SCHEMA
from headwater.pairs import DECISION_SCHEMA, read_decisions, read_funnel, read_pairs, total
from headwater.store import contents, read_json

NOT_RESULTS = ("step.json", "started.json", "cost.parquet")
SOURCES = ("captions", "neighbors", "random", "synthetic", "labelled")
PERTURBED = ("perturbed-0.0", "autoencoder", "perturbed-0.3", "perturbed-0.6")


def demo(out: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "headwater", "demo", "--quick", "--out", str(out)]
    environment = {**os.environ, "HEADWATER_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def results(out: Path) -> dict[str, bytes]:
    """Every file a demo leaves, but for the records of time."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name not in NOT_RESULTS)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """One undisturbed quick demo."""
    out = tmp_path_factory.mktemp("demo") / "out"
    process = demo(out, cache)
    printed, told = process.communicate()
    assert process.returncode == 0, told
    assert "report:" in printed
    return out


def test_the_study_keeps_its_contract(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"recipe.yaml", "results.parquet", "trials", "verdict.json", "report.html"} <= names
    table = pl.read_parquet(finished / "results.parquet")
    assert dict(table.schema) == RESULT_SCHEMA
    arms = set(table["arm"])
    assert arms == {"off-the-shelf", "mixed", *SOURCES, *PERTURBED}
    chosen = table.filter(pl.col("chosen") & (pl.col("split") == "test"))
    counts = chosen.filter(pl.col("arm") == "captions").group_by("metric", "scale").len()
    assert counts["len"].to_list() == [2] * 4  # two seeds at two scales by two metrics
    assert set(table["split"]) == {"val", "test", "holes"}


def test_every_entry_of_the_verdict_is_whole(finished: Path) -> None:
    entries = read_json(finished / "verdict.json")["comparisons"]
    keys = [
        "metric",
        "scale",
        "arm",
        "against",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "call",
        "primary",
        "seeds",
        "test_images",
    ]
    assert entries
    for entry in entries:
        assert set(keys) <= entry.keys()
        assert entry["low"] <= entry["difference"] <= entry["high"]
    first = [entry for entry in entries if entry["primary"]]
    assert [(e["arm"], e["against"], e["scale"]) for e in first] == [("captions", "synthetic", 80)]


def test_results_follow_from_the_predictions(finished: Path) -> None:
    table = pl.read_parquet(finished / "results.parquet").filter(
        pl.col("chosen"), pl.col("split") == "test", pl.col("arm") == "synthetic"
    )
    for row in table.iter_rows(named=True):
        trial = finished / "trials" / "arm=synthetic" / f"n={row['scale']}"
        trial = trial / f"seed={row['seed']}" / f"lr={row['lr']:g}"
        told = pl.read_parquet(trial / "test" / row["metric"] / "predictions.parquet")
        right = told.filter(pl.col("split") == "test")
        assert (right["label"] == right["predicted"]).mean() == pytest.approx(row["value"])


@pytest.mark.parametrize("source", SOURCES)
def test_the_funnel_of_every_set_adds_up(finished: Path, source: str) -> None:
    folder = finished / "curated" / source
    decisions, counts = read_decisions(folder), read_funnel(folder)
    assert dict(decisions.schema) == DECISION_SCHEMA
    assert decisions["reason"].null_count() == 0
    assert total(counts, counts["steps"][0]) == len(decisions)
    assert total(counts, counts["steps"][-1]) == decisions["kept"].sum() == len(read_pairs(folder))
    assert not decisions.select("id", "label").is_duplicated().any()


def test_what_was_planted_was_caught(finished: Path) -> None:
    planted = pl.read_parquet(finished / "world" / "upstream" / "planted.parquet")
    planted = planted.with_columns((pl.lit("miniature:") + pl.col("key")).alias("id"))
    decisions = read_decisions(finished / "curated" / "captions")
    told = decisions.join(planted, on="id", how="left")
    tagged = told.filter(pl.col("nsfw"))
    assert len(tagged)
    assert set(tagged["step"]) == {"safe"}
    broken = told.filter(pl.col("broken").is_not_null(), ~pl.col("nsfw"))
    assert len(broken)
    assert set(broken["step"]) == {"decodes"}
    kept = told.filter(pl.col("kept"))
    assert kept["copy_of"].null_count() >= 0.99 * len(kept)


def test_perturbed_sets_are_paired_with_their_parent(finished: Path) -> None:
    parent = read_pairs(finished / "curated" / "captions", ["id", "label"])
    for source in PERTURBED:
        child = read_pairs(finished / "sourced" / source, ["id", "label"])
        assert child.equals(parent)


def test_scales_are_nested_and_trials_leave_a_log(finished: Path) -> None:
    logs = list((finished / "trials").rglob("log.jsonl"))
    assert logs
    for path in logs:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_nothing_tells_where_it_was_made(finished: Path) -> None:
    place = str(finished.parent).encode()
    for name, data in results(finished).items():
        assert place not in data, name


def test_why_tells_the_story_of_a_pair(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished / "curated" / "captions"
    decisions = read_decisions(folder)
    for kept, word in ((True, "kept at"), (False, "dropped at")):
        pair_id = decisions.filter(pl.col("kept") == kept)["id"][0]
        assert run(["why", str(folder), pair_id]) == 0
        assert word in capsys.readouterr().out
    assert run(["why", str(folder), "miniature:nowhere"]) == 2


def test_status_and_report_of_a_finished_study(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "report.html").read_bytes()
    assert b'id="pixels"' in before
    assert run(["status", str(finished), "--json"]) == 0
    assert {row["left"] for row in json.loads(capsys.readouterr().out)} == {0}
    assert run(["report", str(finished)]) == 0
    assert (finished / "report.html").read_bytes() == before


def test_a_second_run_changes_nothing(finished: Path, cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in contents(finished / "trials")}
    process = demo(finished, cache)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert before == {path: path.stat().st_mtime_ns for path in contents(finished / "trials")}


def test_what_is_settled_stays(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "recipe.yaml").read_bytes()
    command = ["run", str(finished / "recipe.yaml"), "--out", str(finished)]
    assert run([*command, "--set", "margin=0.2"]) == 2
    assert "margin 0.2, saw 0.01" in capsys.readouterr().err
    assert (finished / "recipe.yaml").read_bytes() == before


CHOOSING = (
    "arms={captions: {source: captions}, neighbors: {source: neighbors}, "
    "synthetic: {source: synthetic}, retrieved: {choose: [captions, neighbors]}}"
)


def test_val_chooses_between_two_ways_to_retrieve(finished: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(finished, study, copy_function=os.link)
    command = ["run", str(study / "recipe.yaml"), "--out", str(study), "--set", CHOOSING]
    command += ["--set", "scales=[40]", "--set", "seeds=[0]", "--workers", "1"]
    assert run(command) == 0
    choice = read_json(study / "choices.json")["choices"]["retrieved"]
    table = pl.read_parquet(study / "results.parquet").filter(pl.col("metric") == "zero_shot")
    values = {
        (arm, split): value
        for arm, split, value in table.filter("chosen").select("arm", "split", "value").iter_rows()
    }
    assert choice["val"] == {way: values[way, "val"] for way in ("captions", "neighbors")}
    assert choice["val"][choice["source"]] == max(choice["val"].values())
    # The same source, scale and seed give the same model, whatever the arm is called.
    assert values["retrieved", "test"] == values[choice["source"], "test"]
    assert not list((study / "choosing").rglob("predictions.parquet"))
    before = {path: path.stat().st_mtime_ns for path in contents(study / "trials")}
    assert run(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in contents(study / "trials")}


def test_a_curated_set_is_not_curated_again(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = finished / "world"
    command = ["curate", str(finished / "curated" / "captions"), "--out", str(tmp_path / "o")]
    command += ["--task", str(world / "upstream" / "task.yaml"), "--model", str(world / "learner")]
    assert run(command) == 2
    assert "is curated already" in capsys.readouterr().err
    assert run([*command, "--against", "tset"]) == 2
    assert "no tset split" in capsys.readouterr().err


def test_every_verb_works_on_the_miniature(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, out = finished / "world", tmp_path
    pool, images = str(world / "upstream" / "pool"), world / "upstream" / "images"
    task = ["--task", str(world / "upstream" / "task.yaml")]
    model, generator = ["--model", str(world / "learner")], str(world / "generator")
    paint = ["--generator", generator, "--steps", "2", "--size", "32", "--save-size", "32"]
    adapted = str(out / "adapted" / "models" / "zero_shot")
    small = ["-n", "20", "--epochs", "1", "--lr", "1e-3", "--batch-size", "20"]
    near = ["--vectors", str(out / "vectors"), "--out", str(out / "n")]
    alike = ["--copy-threshold", "0.63"]  # digits resemble each other
    road = [
        ["pool", "describe", pool],
        ["pool", "embed", pool, *model, "--out", str(out / "vectors")],
        [
            "retrieve",
            pool,
            *task,
            "--by",
            "captions",
            "--mode",
            "substring",
            "--out",
            str(out / "c"),
        ],
        ["retrieve", pool, *task, "--by", "neighbors", "--k", "3", *model, *near],
        ["retrieve", pool, *task, "--by", "random", "-n", "9", "--out", str(out / "r")],
        ["synthesize", *task, *paint, "-n", "4", "--out", str(out / "s")],
        ["import", str(images / "train"), *task, "--out", str(out / "i")],
        ["curate", str(out / "n"), *task, *model, "--size", "32", *alike, "--out", str(out / "k")],
        ["perturb", str(out / "k"), *task, *paint, "--gamma", "0.5", "--out", str(out / "p")],
        ["adapt", str(out / "k"), *task, *model, *small, "--out", str(out / "adapted")],
        ["evaluate", adapted, *task, "--split", "holes", "--out", str(out / "e")],
        ["predict", adapted, str(images / "val")],
        ["compare", str(finished)],
    ]
    for command in road:
        assert run([*command, "--json"]) == 0, capsys.readouterr().err
        assert json.loads(capsys.readouterr().out), command
    assert read_pairs(out / "p", ["id"]).equals(read_pairs(out / "k", ["id"]))
    assert load_head(adapted)[1] == tuple("0123456789")


MOMENTS = (
    "world/upstream/pool/00001.tar",
    "curated/captions/started.json",
    "vectors/metadata/metadata_0000.parquet",
    "sourced/synthetic/started.json",
    "trials/arm=captions",
    "trials/arm=mixed",
    "results.parquet",
)


def test_a_killed_demo_ends_with_the_same_bytes(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed = 0
    for moment in MOMENTS:
        process = demo(out, cache)
        while process.poll() is None and not (out / moment).exists():
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    process = demo(out, cache)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert killed >= len(MOMENTS) - 1
    undisturbed, resumed = results(finished), results(out)
    assert resumed.keys() == undisturbed.keys()
    assert [name for name in resumed if resumed[name] != undisturbed[name]] == []
