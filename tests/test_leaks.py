"""The gate before training: leaks stop a run, sets and heads fit the task, mixes do not clash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from PIL import Image, ImageOps
from tests.tiny_clip import save_tiny_clip, tiny_clip
from tests.tiny_garden import import_set, make_task, numbered, save

from headwater.cli import run
from headwater.descriptors import open_descriptor
from headwater.errors import SetError, TaskError
from headwater.gate import Gate, gate_notes, pass_gate
from headwater.pairs import read_pairs
from headwater.recipe import Recipe
from headwater.steps.curation.copies import copy_threshold
from headwater.steps.curation.curate import curate
from headwater.steps.curation.settings import Curation
from headwater.steps.importing import import_images
from headwater.steps.leaks import find_leaks, find_overlap
from headwater.steps.synthesis.perturb import perturb
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import read_json
from headwater.study import open_study
from headwater.task import Task

BUILTIN = open_descriptor("builtin")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return make_task(tmp_path)


@pytest.fixture
def leaky(tmp_path: Path, task: Task) -> Path:
    """A set of eight pairs, of which two show test images: one in JPEG, one larger."""
    folder = save(tmp_path / "found", numbered(400, 3))
    save(folder, {"rose/copy.jpg": 101})
    save(folder, {"fern/large.png": 110}, side=96)
    import_images(folder, task, tmp_path / "leaky", name="found", workers=1)
    return tmp_path / "leaky"


def leaks_in(folder: Path) -> list[tuple[str, str, str]]:
    return pl.read_parquet(folder / "leaks.parquet")["id", "label", "copy_of"].rows()


PLANTED = [
    ("found:fern/large.png", "fern", "test/fern/0.png"),
    ("found:rose/copy.jpg", "rose", "test/rose/1.png"),
]


def test_planted_copies_are_found_and_nothing_else(tmp_path: Path, task: Task, leaky: Path) -> None:
    out = tmp_path / "leaks"
    counts = find_leaks(leaky, task, out, splits=["test"], descriptor=BUILTIN)
    assert counts == {"pairs": 8, "leaks": 2, "touched": 2, "images": 6}
    assert leaks_in(out) == PLANTED
    assert (pl.read_parquet(out / "leaks.parquet")["similarity"] > BUILTIN.threshold).all()
    touched = pl.read_parquet(out / "touched.parquet").rows()
    assert touched == [("test", "rose/1.png"), ("test", "fern/0.png")]


def test_a_threshold_of_one_finds_nothing(tmp_path: Path, task: Task, leaky: Path) -> None:
    out, splits = tmp_path / "leaks", ["test"]
    counts = find_leaks(leaky, task, out, splits=splits, descriptor=BUILTIN, threshold=1.0)
    assert (counts["leaks"], counts["touched"]) == (0, 0)
    assert leaks_in(out) == []


def test_one_pair_may_touch_several_images(tmp_path: Path, task: Task) -> None:
    save(task.images["test"], {"rose/again.png": 101})
    source = save(tmp_path / "one", {"rose/copy.png": 101})
    import_images(source, task, tmp_path / "set", workers=1)
    counts = find_leaks(
        tmp_path / "set", task, tmp_path / "leaks", splits=["test"], descriptor=BUILTIN
    )
    assert (counts["leaks"], counts["touched"]) == (1, 2)


def test_what_was_described_is_not_described_again(tmp_path: Path, task: Task, leaky: Path) -> None:
    seen: list[int] = []

    def describe(images: Any) -> Any:
        pictures = list(images)
        seen.append(len(pictures))
        return BUILTIN.describe(pictures)

    counting = type(BUILTIN)("counting", BUILTIN.threshold, f"counting-{tmp_path.name}", describe)
    for out in ("first", "second"):
        find_leaks(leaky, task, tmp_path / out, splits=["test"], descriptor=counting)
    assert sum(seen) == 8 + 6


def test_an_empty_set_has_no_leaks(tmp_path: Path, task: Task, leaky: Path) -> None:
    how = Curation(size=32, scores=(), rules=({"score": "short_side", "threshold": 999},))
    curate(leaky, task, tmp_path / "none", clip=tiny_clip(), how=how)
    counts = find_leaks(
        tmp_path / "none", task, tmp_path / "leaks", splits=["test"], descriptor=BUILTIN
    )
    assert counts == {"pairs": 0, "leaks": 0, "touched": 0, "images": 6}


def test_a_set_that_has_changed_is_looked_at_anew(tmp_path: Path, task: Task, leaky: Path) -> None:
    out, asked = tmp_path / "leaks", {"splits": ["test"], "descriptor": BUILTIN}
    find_leaks(leaky, task, out, **asked)
    clean = import_set(tmp_path / "clean", task, numbered(500, 2))
    assert find_leaks(clean, task, out, **asked)["leaks"] == 0
    assert leaks_in(out) == []
    with pytest.raises(SetError, match="made differently"):
        find_leaks(clean, task, out, threshold=0.9, **asked)


def test_a_missing_test_split_is_refused(tmp_path: Path, task: Task, leaky: Path) -> None:
    task.images["test"].rename(tmp_path / "elsewhere")
    with pytest.raises(TaskError, match="the test images of task garden are missing"):
        find_leaks(leaky, task, tmp_path / "leaks", splits=["test"], descriptor=BUILTIN)
    with pytest.raises(TaskError, match="the test images of task garden are missing"):
        curate(leaky, task, tmp_path / "kept", clip=tiny_clip(), how=Curation(descriptor="builtin"))


def test_the_task_s_own_splits_may_overlap(tmp_path: Path, task: Task) -> None:
    save(task.images["train"], {"fern/copy.jpg": 112})
    counts = find_overlap(task, tmp_path / "overlap", splits=["test"], descriptor=BUILTIN)
    assert counts == {"pairs": 7, "leaks": 1, "touched": 1, "images": 6}
    assert leaks_in(tmp_path / "overlap") == [("train/fern/copy.jpg", "fern", "test/fern/2.png")]


def recipe_of(arms: dict[str, Any], **sources: Any) -> Recipe:
    told = {
        "format": 1,
        "name": "small",
        "task": "garden.yaml",
        "learner": {"model": "tiny"},
        "generator": "none",
        "sources": sources,
        "curate": {"descriptor": "builtin"},
        "arms": arms,
        "scales": [4],
        "seeds": [0],
        "metrics": ["zero_shot"],
        "primary": {"arm": next(iter(arms)), "against": "off-the-shelf"},
    }
    return Recipe.model_validate(told)


def gate_of(tmp_path: Path, task: Task, sets: dict[str, Path], **sources: Any) -> Gate:
    arms = {name: {"source": name} for name in sources}
    return Gate(tmp_path / "study", recipe_of(arms, **sources), task, sets)


def test_a_leak_stops_the_run_with_the_list(tmp_path: Path, task: Task, leaky: Path) -> None:
    gate = gate_of(tmp_path, task, {"found": leaky}, found={"import": "found"})
    with pytest.raises(SetError) as caught:
        pass_gate(gate)
    assert caught.value.exit_code == 2
    told = str(caught.value)
    assert "2 in found" in told and "found:rose/copy.jpg = test/rose/1.png" in told
    assert "leaks/found/leaks.parquet" in told and "--allow-leaks" in told
    assert leaks_in(tmp_path / "study" / "leaks" / "found") == PLANTED


TEST, VAL = {"copies": ["test"]}, {"copies": ["val"]}


@pytest.mark.parametrize(
    ("own", "usual", "expected"),
    [
        ([TEST], [TEST | {"threshold": 0.1}], None),
        ([VAL | {"threshold": 0.1}, TEST], [], None),
        ([VAL | {"threshold": 0.1}, TEST | {"threshold": 0.3}], [TEST], 0.3),
        ([VAL | {"threshold": 0.1}], [TEST | {"threshold": 0.3}], 0.3),
        ([], [], None),
    ],
)
def test_the_gate_s_threshold_is_that_of_the_rule_that_applied(
    own: list[Any], usual: list[Any], expected: float | None
) -> None:
    stacks = [Curation(descriptor="builtin", rules=rules) for rules in (own, usual)]
    assert copy_threshold(*stacks, split="test") == expected


def test_the_usual_rules_leave_no_leak_of_any_test_split(tmp_path: Path, task: Task) -> None:
    """Copies of two test splits, as they are, squashed, cropped, mirrored and padded."""
    sketches = save(tmp_path / "sketches", numbered(600, 3))
    task.images["sketches"] = sketches
    found = save(tmp_path / "found", numbered(400, 3))
    for name, path in (("test", task.images["test"]), ("sketches", sketches)):
        original = Image.open(path / "rose" / "1.png").resize((96, 96))
        padded = Image.new("RGB", (96, 128), "white")
        padded.paste(original, (0, 16))
        copies = {
            "squashed": original.resize((96, 60)), "cropped": original.crop((5, 5, 91, 91)),
            "mirrored": ImageOps.mirror(original), "padded": padded, "same": original,
        }  # fmt: skip
        for change, picture in copies.items():
            picture.save(found / "fern" / f"{name}-{change}.jpg")
    import_images(found, task, tmp_path / "set", workers=1)
    how = Curation.model_validate({"size": 32, "descriptor": "builtin", "rules": [TEST]})
    curate(tmp_path / "set", task, tmp_path / "kept", clip=tiny_clip(), how=how, workers=1)
    assert set(read_pairs(tmp_path / "kept", ["id"])["id"].str.split("/").list[1]) == {
        "0.png", "1.png", "2.png",
    }  # fmt: skip
    gate = gate_of(tmp_path, task, {"found": tmp_path / "kept"}, found={"import": "found"})
    pass_gate(gate)
    assert gate_notes(gate) == ["No training set holds a copy of a test image."]


def test_leaks_are_allowed_for_one_run_only(tmp_path: Path, task: Task, leaky: Path) -> None:
    gate = gate_of(tmp_path, task, {"found": leaky}, found={"import": "found"})
    pass_gate(gate, allow_leaks=True)
    assert read_json(tmp_path / "study" / "allowed.json")["leaks"] == {"found": 2}
    assert gate_notes(gate) == [
        "found: copies of test images in 2 of 8 pairs; let through by --allow-leaks."
    ]
    with pytest.raises(SetError, match="test images leak into training"):
        pass_gate(gate)


def test_the_task_s_own_train_split_is_told_and_goes_on(
    tmp_path: Path, task: Task, leaky: Path
) -> None:
    save(task.images["train"], {"fern/copy.jpg": 112})
    import_images(task.images["train"], task, tmp_path / "own", name="own", workers=1)
    gate = gate_of(tmp_path, task, {"own": tmp_path / "own"}, own={"split": "train"})
    pass_gate(gate)
    assert gate_notes(gate) == [
        "own: copies of test images in 1 of 7 pairs; both are the task's own, so they stay.",
        "Test images with a copy in the task's own train split: 1 of 6.",
    ]


def test_a_perturbed_set_is_told_but_its_parent_stops(
    tmp_path: Path, task: Task, leaky: Path
) -> None:
    how = Perturbation(source="found", gamma=0, size=48, save_size=48)
    perturb(leaky, task, tmp_path / "child", generator=None, how=how)
    sets = {"found": leaky, "child": tmp_path / "child"}
    sources = {
        "found": {"import": "found"},
        "child": {"perturb": {"source": "found", "gamma": 0}},
    }
    recipe = recipe_of({"child": {"source": "child"}}, **sources)
    gate = Gate(tmp_path / "study", recipe, task, sets)
    with pytest.raises(SetError, match="2 in found"):
        pass_gate(gate)
    assert gate.leaking() == {"child": 2, "found": 2}
    assert not gate.stops("child")


def test_a_clean_study_says_so(tmp_path: Path, task: Task) -> None:
    source = save(tmp_path / "clean", numbered(500, 2))
    import_images(source, task, tmp_path / "set", workers=1)
    gate = gate_of(tmp_path, task, {"made": tmp_path / "set"}, made={"import": "clean"})
    pass_gate(gate)
    assert gate_notes(gate) == ["No training set holds a copy of a test image."]
    assert not (tmp_path / "study" / "allowed.json").exists()


def test_without_test_images_nothing_is_compared(tmp_path: Path, task: Task, leaky: Path) -> None:
    names_only = task.model_copy(update={"images": {}})
    gate = gate_of(tmp_path, names_only, {"found": leaky}, found={"import": "found"})
    pass_gate(gate)
    assert not (tmp_path / "study").exists()
    assert gate_notes(gate) == []


def test_what_must_be_said_of_sets_is_noted(tmp_path: Path, task: Task) -> None:
    one = import_set(tmp_path / "one", task, {"rose/1.png": 1, "rose/2.png": 2})
    two = import_set(tmp_path / "two", task, {"rose/1.png": 1, "fern/2.png": 3})
    sources = {"one": {"import": "one"}, "two": {"import": "two"}}
    recipe = recipe_of({"both": {"mix": {"one": 1, "two": 1}}}, **sources)
    assert gate_notes(Gate(tmp_path / "study", recipe, task, {"one": one, "two": two})) == [
        "one has no pairs of 1 of 2 classes: fern.",
        "both: pairs that are in two of its sets: 1.",
    ]


@pytest.fixture
def study(tmp_path: Path, task: Task) -> list[str]:
    """The command that runs a study of one imported source with two planted copies."""
    found = save(tmp_path / "found", numbered(400, 3))
    save(found, {"rose/copy.jpg": 101, "fern/copy.png": 110})
    save(task.images["train"], {"fern/copy.jpg": 112})
    save_tiny_clip(tmp_path / "tiny")
    recipe = {
        "format": 1,
        "name": "small",
        "task": "garden.yaml",
        "learner": {"model": "tiny"},
        "sources": {"found": {"import": "found"}, "own": {"split": "train"}},
        "curate": {"size": 32, "descriptor": "builtin", "rules": []},
        "arms": {"found": {"source": "found"}, "own": {"source": "own", "reference": True}},
        "scales": [8],
        "seeds": [0],
        "lr": [1e-3],
        "adapt": {"epochs": 1, "batch_size": 4},
        "metrics": ["zero_shot"],
        "primary": {"arm": "found", "against": "off-the-shelf"},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    return ["run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "study"), "--workers", "1"]


def test_a_study_stops_at_a_leak_unless_it_is_allowed(
    tmp_path: Path, study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert run(study) == 2
    assert "2 in found (found:" in capsys.readouterr().err
    assert not (out / "trials").exists()
    assert [copy for _, _, copy in leaks_in(out / "leaks" / "found")] == [
        "test/fern/0.png",
        "test/rose/1.png",
    ]

    assert run([*study, "--allow-leaks", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        "found: copies of test images in 2 of 8 pairs; let through by --allow-leaks."
        in (told["notes"])
    )
    page = (out / "report.html").read_text()
    for words in ("Leaks", "let through by --allow-leaks", "both are the task", "3 without"):
        assert words in page

    assert run(study) == 2
    assert "test images leak into training" in capsys.readouterr().err


def test_accuracy_without_copies_is_counted_on_the_other_images(
    tmp_path: Path, study: list[str]
) -> None:
    assert run([*study, "--allow-leaks"]) == 0
    told = open_study(tmp_path / "study").without_copies()
    touched = {"rose/1.png", "fern/0.png", "fern/2.png"}
    for row in told.iter_rows(named=True):
        place = f"arm={row['arm']}/n={row['scale']}/seed=0"
        folder = next((tmp_path / "study" / "trials" / place).rglob("predictions.parquet")).parent
        tables = [pl.read_parquet(p) for p in folder.rglob("predictions.parquet")]
        tested = pl.concat(tables).filter(pl.col("split") == "test")
        right = tested.with_columns(right=pl.col("label") == pl.col("predicted"))
        assert (row["images"], row["left"]) == (6, 3)
        assert row["accuracy"] == right["right"].mean()
        assert row["without"] == right.filter(~pl.col("id").is_in(touched))["right"].mean()
    assert set(told["arm"]) == {"off-the-shelf", "found", "own"}
