"""One small study with every way of making images: a pool, a tiny pipeline, an own folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.tiny_clip import save_tiny_clip
from tests.tiny_garden import make_task, numbered, picture, save
from tests.tiny_pipeline import build_tiny_pipeline, one_thread

from headwater.pairs import read_decisions, read_pairs
from headwater.recipe import load_recipe
from headwater.store import DONE, read_json
from headwater.study import Study, run_study

CAPTIONS = ["a rose in snow", "one more rose", "the rose by a wall", "a fern in snow", "some fern"]
ROWS = [0, 1, 2] * 6 + [3, 4]

RECIPE = """\
format: 1
name: every-way
task: garden.yaml
pool: {path: pool, name: web}
learner: {model: clip}
generator: generator
sources:
  captions: {retrieve: {by: captions}}
  painted: {synthesize: &paint {per_class: 6, steps: 2, size: 32, save_size: 32, block: 4}}
  told: {synthesize: {<<: *paint, per_class: 2, captions: {by: alt_text, source: captions}}}
  codec: {perturb: &shake {source: captions, gamma: autoencoder, steps: 4, size: 32, save_size: 32}}
  shaken: {perturb: {<<: *shake, gamma: 0.5}}
  mine: {import: mine}
  new: {subset: {source: painted, novelty: [near, new]}}
curate: {size: 32, descriptor: builtin, rules: [{copies: [test]}]}
arms:
  captions: {source: captions}
  painted: {source: painted}
  told: {source: told}
  codec: {source: codec}
  shaken: {source: shaken}
  mine: {source: mine}
  new: {source: new}
  hybrid: {top_up: {source: captions, fill: painted, target: 6}}
scales: [4]
seeds: [0]
lr: [1.0e-3]
adapt: {epochs: 1, batch_size: 4}
metrics: [zero_shot]
primary: {arm: hybrid, against: captions}
keep_models: none
"""


def write_pool(folder: Path) -> None:
    """Twenty pairs in one shard, as img2dataset leaves them: many roses, few ferns."""
    folder.mkdir()
    keys = [f"{number:09d}" for number in range(len(ROWS))]
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, key in enumerate(keys):
            image = io.BytesIO()
            picture(500 + number).save(image, "PNG")
            member = tarfile.TarInfo(f"{key}.png")
            member.size = len(image.getvalue())
            tar.addfile(member, io.BytesIO(image.getvalue()))
    captions = [CAPTIONS[row] for row in ROWS]
    table = pl.DataFrame({"key": keys, "caption": captions, "url": "", "status": "success"})
    table.write_parquet(folder / "00000.parquet")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("every-way")
    make_task(folder)
    write_pool(folder / "pool")
    save_tiny_clip(folder / "clip")
    build_tiny_pipeline(folder / "generator")
    save(folder / "mine", numbered(700, 3))
    (folder / "recipe.yaml").write_text(RECIPE)
    with one_thread():
        return run_study(load_recipe(folder / "recipe.yaml"), folder / "out", workers=1)


def test_every_arm_is_trained_and_tested(study: Study) -> None:
    results = pl.read_parquet(study.root / "results.parquet").filter(split="test")
    assert set(results["arm"]) == {*study.recipe.arms, "off-the-shelf"}
    entries = read_json(study.root / "verdict.json")["comparisons"]
    compared = {(entry["arm"], entry["against"]) for entry in entries}
    assert {("hybrid", f"hybrid-{way}") for way in ("spread", "repeat")} <= compared


def test_only_what_is_rare_is_synthetic(study: Study) -> None:
    pairs = {name: read_pairs(study.training_set(name)) for name in ("captions", "hybrid")}
    more = pairs["hybrid"].join(pairs["captions"], on=["id", "label"], how="anti")
    assert set(more["label"]) == {"fern"}
    assert set(more["source"]) == {"synthetic"}
    had = pairs["captions"].filter(label="fern").height
    assert more.height == 6 - had


def test_the_controls_add_as_many_images(study: Study) -> None:
    sizes = {n: read_pairs(study.training_set(n), ["id"]).height for n in study.recipe.sources}
    assert sizes["hybrid"] == sizes["hybrid-spread"] == sizes["hybrid-repeat"] > sizes["captions"]
    again = read_pairs(study.training_set("hybrid-repeat"))
    assert "synthetic" not in set(again["source"])


def test_perturbed_sets_are_their_parent_s_pairs(study: Study) -> None:
    parent = read_pairs(study.training_set("captions"), ["id", "label"])
    for name in ("codec", "shaken"):
        assert read_pairs(study.training_set(name), ["id", "label"]).equals(parent)


def test_captions_from_alt_text_begin_with_their_class(study: Study) -> None:
    told = read_pairs(study.sourcing.sourced("told"), ["label", "caption"])
    assert told.group_by("label").len()["len"].to_list() == [2, 2]
    assert all(row["caption"].startswith(f"a photo of {row['label']}, ") for row in told.to_dicts())


def test_novelty_splits_a_set(study: Study) -> None:
    told = pl.read_parquet(study.root / "novelty" / "painted" / "nearest.parquet")
    kept = read_pairs(study.training_set("new"), ["id"])
    assert set(kept["id"]) == set(told.filter(pl.col("novelty") != "memorized")["id"])
    assert read_decisions(study.training_set("new")).height == told.height


def test_the_report_tells_topped_up_classes_apart(study: Study) -> None:
    page = (study.root / "report.html").read_text()
    assert "topped up" in page.lower()


def test_a_second_run_changes_nothing(study: Study) -> None:
    before = {path: path.read_bytes() for path in study.root.rglob(DONE)}
    page = (study.root / "report.html").read_bytes()
    with one_thread():
        run_study(study.recipe, study.root, workers=1)
    assert {path: path.read_bytes() for path in study.root.rglob(DONE)} == before
    assert (study.root / "report.html").read_bytes() == page


def test_what_a_set_cost_is_on_record(study: Study) -> None:
    cost = pl.read_parquet(study.sourcing.sourced("painted") / "cost.parquet")
    assert cost["images"].sum() == 12
    assert np.all(cost["seconds"].to_numpy() > 0)
