"""A finished study told in one place: what the terminal prints and what the report shows.

Everything is read from the study's folder. Seconds and dates are left out, so that the same
study always gives the same report; they are in `cost.parquet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import yaml

from headwater.choices import Choice
from headwater.compare import verdict_sentence
from headwater.cost import read_costs, sum_costs
from headwater.curate.pixels import PIXELS_FILE
from headwater.decode import encode_png
from headwater.gate import Gate, gate_notes, leak_table
from headwater.pairs import iter_pairs, read_decisions, read_funnel, total
from headwater.recipe import OFF_THE_SHELF, Recipe, move
from headwater.report.data import ReportData, measured
from headwater.report.pixels import pixels_notes
from headwater.sourcing import NOVELTY
from headwater.splits import load_split
from headwater.steps.novelty.novelty import RECORD
from headwater.steps.novelty.settings import BANDS
from headwater.store import DONE, Json, read_json, read_step, stable_seed, versions
from headwater.task import Task
from headwater.topped_up import topped_up_notes

GALLERY = 6  # images a class and row
GROUND_TRUTH = "ground truth"


@dataclass(frozen=True)
class Telling:
    """What there is to tell of a study."""

    root: Path
    recipe: Recipe
    task: Task
    sets: Mapping[str, Path]  # source -> the set that is trained on
    available: Mapping[str, int]  # arm -> pairs it could be trained on
    choices: Mapping[str, Choice]  # arm -> what it was trained on, where that was chosen
    results: pl.DataFrame
    verdict: Sequence[Json]
    gate: Gate
    without_copies: pl.DataFrame  # see findings.without_copies
    topped_up: pl.DataFrame  # see topped_up.tell_topped_up


def report_data(story: Telling) -> ReportData:
    """The report's content."""
    recipe = story.recipe
    return ReportData(
        title=recipe.name,
        task=story.task.name,
        sentence=answer(story),
        verdict=story.verdict,
        results=story.results,
        reference_arms=references(recipe),
        largest=dict(story.available),
        funnels=funnels(story.sets),
        pixels=pixels(story.sets),
        gallery=gallery(story),
        classes=story.task.name_of,
        notes=notes(story),
        settings=yaml.safe_load(move(recipe, Path(), relative_to=story.root).dump()),
        versions=versions(),
        command="headwater run recipe.yaml --out .",
        margin=recipe.margin,
        cost=sizes(story),
        leaks=leak_table(story.gate),
        without_copies=story.without_copies,
        topped_up=story.topped_up,
    )


def summarize(story: Telling) -> Json:
    """What the terminal shows: funnels, a small table, notes, the verdict in one sentence."""
    return {
        "funnels": {
            name: {step: total(counts, step) for step in counts["steps"]}
            for name, counts in funnels(story.sets).items()
        },
        "results": small_table(story),
        "notes": notes(story),
        "verdict": answer(story),
        "report": str(story.root / "report.html"),
    }


def answer(story: Telling) -> str:
    """The primary comparison in one sentence."""
    entry = next((entry for entry in story.verdict if entry["primary"]), None)
    if entry is not None:
        return verdict_sentence(entry, margin=story.recipe.margin)
    first = story.recipe.primary
    why = "no test split" if "test" not in story.task.images else "no common scale"
    return f"{first.arm} against {first.against} is unmeasured: there is {why}."


def small_table(story: Telling) -> list[Json]:
    """Test accuracy in percent: a row an arm and scale, a column a metric."""
    rows: dict[tuple[str, int], Json] = {}
    for metric in story.recipe.metrics:
        for arm, scale, mean, sd, _ in measured(
            story.results, split="test", metric=metric
        ).iter_rows():
            row = rows.setdefault((arm, scale), {"arm": arm, "images": scale})
            spread = "" if sd is None else f" ± {100 * sd:.1f}"
            row[metric] = f"{100 * mean:.1f}{spread}"
    blank: Json = dict.fromkeys(story.recipe.metrics, "-")
    return [{**{k: row[k] for k in ("arm", "images")}, **blank, **row} for row in rows.values()]


def references(recipe: Recipe) -> list[str]:
    """The arms that are lines to compare with, not rivals."""
    return [OFF_THE_SHELF, *(name for name, arm in recipe.arms.items() if arm.reference)]


def funnels(sets: Mapping[str, Path]) -> dict[str, Json]:
    """The funnel of every source."""
    return {name: read_funnel(folder) for name, folder in sets.items()}


def pixels(sets: Mapping[str, Path]) -> dict[str, Json]:
    """What the images of every source were like before and after the pixel path."""
    told = {name: folder / PIXELS_FILE for name, folder in sets.items()}
    return {name: read_json(path) for name, path in told.items() if path.exists()}


def primary_pixels(story: Telling) -> list[str]:
    """In what the images of the primary's two arms still differ."""
    first = story.recipe.primary
    one, other = (trained_on(story, arm) for arm in (first.arm, first.against))
    return pixels_notes(pixels(story.sets), one, other)


def trained_on(story: Telling, arm: str) -> Sequence[str]:
    """The sources of an arm; of one that chooses, what it has chosen."""
    if arm in story.choices:
        return (story.choices[arm].source,)
    return story.recipe.arms[arm].sources if arm in story.recipe.arms else ()


def notes(story: Telling) -> list[str]:
    """What must be said beside the numbers."""
    recipe, images = story.recipe, story.task.images
    said = [
        f"{arm} has {story.available[arm]:,} images, so it is not trained at {n:,}."
        for arm in story.available
        if not recipe.arms[arm].reference
        for n in recipe.scales
        if n > story.available[arm]
    ]
    said += [f"{arm} is {choice.sentence}." for arm, choice in story.choices.items()]
    if "val" not in images:
        said.append("No val split: every trial is its last epoch, at the recipe's first rate.")
    if "train" not in images and "linear_probe" in recipe.metrics:
        said.append("No train split: there is no linear probe.")
    if "test" not in images:
        said.append("No test split: decontamination is not possible, every call is unmeasured.")
    if len(recipe.seeds) == 1:
        said.append("One seed: intervals are over test images alone.")
    said += gate_notes(story.gate)
    said += topped_up_notes(recipe, story.task, story.sets)
    said += primary_pixels(story)
    said += [new for name in recipe.sources if (new := how_new(story, name))]
    said += [copies for name in recipe.sources if (copies := copies_found(story, name))]
    return said


def copies_found(story: Telling, source: str) -> str:
    """How many copies of evaluation images were dropped from a source; empty where none was."""
    decisions = read_decisions(story.sets[source])
    found = decisions.filter(~pl.col("kept") & pl.col("step").str.contains(r"^no_copy(_\d+)?$"))
    return (
        f"{source}: {len(found):,} copies of evaluation images were dropped." if len(found) else ""
    )


def how_new(story: Telling, source: str) -> str:
    """How many of a source's images the pool has already; empty if that was not asked."""
    folder = story.root / NOVELTY / source
    if not (folder / DONE).exists():
        return ""
    counts = read_step(folder)["counts"]
    shares = (counts[band] / max(counts["images"], 1) for band in BANDS)
    memorized, near, new = (f"{share:.1%}" for share in shares)
    return (
        f"{source}: of {counts['images']:,} images, {memorized} are memorized (copies of pool"
        f" images), {near} near one, {new} new.{own_twins(folder)}"
    )


def own_twins(folder: Path) -> str:
    """How many of the pool's own images count as copies of each other, where that was measured."""
    told = read_json(folder / RECORD)
    if told["descriptor"] is None or not told["measured"]["sampled"]:
        return ""
    share = told["measured"]["twins"] / told["measured"]["sampled"]
    return f" Of the pool's own images {share:.1%} have a copy in it by the same rule."


def gallery(story: Telling) -> dict[str, dict[str, list[bytes]]]:
    """Images side by side: the task's own, then a few kept by each source, per class.

    Which ones is drawn by id, so that a perturbed set shows its parent's images again.
    """
    rows = {GROUND_TRUTH: ground_truth(story.task)}
    for name, folder in story.sets.items():
        if story.recipe.sources[name].split is None:
            rows[name] = some_images(folder, story.task.labels)
    return {name: row for name, row in rows.items() if any(row.values())}


def ground_truth(task: Task) -> dict[str, list[bytes]]:
    """A few images of the train (else val) split; test images are not shown."""
    split = next((s for s in ("train", "val") if s in task.images), None)
    if split is None:
        return {}
    images = load_split(task, split)
    order = sorted(range(len(images)), key=lambda row: stable_seed(images.ids[row]))
    return {
        label: [encode_png(images.images[row]) for row in order if images.targets[row] == index][
            :GALLERY
        ]
        for index, label in enumerate(task.labels)
    }


def some_images(folder: Path, labels: Sequence[str]) -> dict[str, list[bytes]]:
    """A few images of a set per class, drawn by id."""
    drawn: dict[str, list[tuple[int, bytes]]] = {label: [] for label in labels}
    for table in iter_pairs(folder, ["id", "label", "image"]):
        rows = zip(table["id"], table["label"], table["image"], strict=True)
        for pair_id, label, image in rows:
            if label in drawn:
                drawn[label].append((stable_seed(pair_id), image["bytes"]))
        drawn = {label: sorted(found)[:GALLERY] for label, found in drawn.items()}
    return {label: [data for _, data in found] for label, found in drawn.items()}


def sizes(story: Telling) -> pl.DataFrame:
    """What each source weighs: images kept, images considered, bytes on disk."""
    rows = []
    for name, folder in story.sets.items():
        counts = read_funnel(folder)
        considered, kept = (total(counts, counts["steps"][i]) for i in (0, -1))
        rows.append((name, considered, kept, read_json(folder / DONE)["bytes"]))
    columns = ["source", "considered", "kept", "bytes"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def costs(root: Path) -> pl.DataFrame:
    """`cost.parquet`: what every step of a study took, by folder; of painted sets more is known."""
    rows = [_cost_row(root, path.parent) for path in sorted(root.rglob(DONE))]
    schema = {
        "folder": pl.String, "verb": pl.String, "seconds": pl.Float64, "bytes": pl.Int64,
        "images": pl.Int64, "gpu_seconds": pl.Float64, "joules": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _cost_row(root: Path, folder: Path) -> tuple[str | float | None, ...]:
    told, cost = read_json(folder / DONE), sum_costs(read_costs(folder))
    painted = (cost.images, cost.gpu_seconds, cost.joules) if cost else (None, None, None)
    place = folder.relative_to(root).as_posix()
    return place, told["verb"], told["seconds"], told["bytes"], *painted
