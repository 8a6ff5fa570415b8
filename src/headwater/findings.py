"""What the trials of a study show: the table of results, and the verdict on them.

Everything here is read from the trials' folders, so it can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.compare import verdict_rows
from headwater.recipe import OFF_THE_SHELF, Recipe
from headwater.steps.hybrid.settings import CONTROLS, TOP_UP
from headwater.store import Json, read_json
from headwater.task import Task
from headwater.trials import Heat, choose, reference_folder, test_folder

TEST = "test"  # the split verdicts are about

RESULT_SCHEMA = {
    "arm": pl.String,
    "scale": pl.Int64,
    "seed": pl.Int64,
    "lr": pl.Float64,
    "epoch": pl.Int64,
    "split": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "chosen": pl.Boolean,
}

Correct = NDArray[np.bool_]
Key = tuple[str, int | None, str]  # metric, scale, arm


def tell_results(root: Path, heats: Iterable[Heat]) -> pl.DataFrame:
    """The table of every val accuracy, and the test accuracies of what val chose."""
    rows = list(reference_rows(root))
    for heat in heats:
        rows += heat_rows(heat)
    return pl.DataFrame(rows, schema=RESULT_SCHEMA, orient="row")


def reference_rows(root: Path) -> Iterator[tuple[Any, ...]]:
    """The rows of the learner as it comes; it has no scale, seed or rate."""
    told = read_metrics(reference_folder(root))
    for metric, by_split in told.items():
        for split, values in by_split.items():
            yield (OFF_THE_SHELF, 0, 0, None, 0, split, metric, values["top1"], True)


def heat_rows(heat: Heat) -> Iterator[tuple[Any, ...]]:
    """The rows of one heat: every rate on val, the chosen one on the test splits."""
    for metric in heat.measured:
        chosen = choose(heat, metric)
        epochs = {lr: read_json(heat.folder(lr) / "metrics.json")[metric] for lr in heat.lrs}
        for lr, told in epochs.items():
            if told["val"] is not None:
                common = (heat.arm, heat.n, heat.seed, lr, told["epoch"])
                yield (*common, "val", metric, told["val"], lr == chosen)
        common = (heat.arm, heat.n, heat.seed, chosen, epochs[chosen]["epoch"])
        for split, values in read_metrics(test_folder(heat, metric)).get(metric, {}).items():
            yield (*common, split, metric, values["top1"], True)


def read_metrics(folder: Path) -> Json:
    """The metrics an evaluation left, by metric and split; nothing where there is none."""
    path = folder / "metrics.json"
    return {k: v for k, v in read_json(path).items() if k != "format"} if path.exists() else {}


def judge(root: Path, recipe: Recipe, task: Task, heats: Sequence[Heat]) -> list[Json]:
    """The verdict's entries: the primary comparison, and every arm against the reference lines."""
    if TEST not in task.images:
        return []
    correct = gather_correct(root, heats)
    references = [OFF_THE_SHELF, *(n for n, arm in recipe.arms.items() if arm.reference)]
    primary = recipe.primary
    pairs = [pair for pair in wanted_pairs(recipe) if comparable(correct, pair, references)]
    first = (primary.metric, None, primary.arm, primary.against)
    named = first if (primary.arm, primary.against) in pairs else None
    return verdict_rows(
        correct, pairs=pairs, primary=named, references=references, margin=recipe.margin,
        seed=recipe.seed,
    )  # fmt: skip


def wanted_pairs(recipe: Recipe) -> list[tuple[str, str]]:
    """Which arms are compared: the primary pair, each with its rival, each with off-the-shelf.

    An arm that is topped up is also compared with its controls, and with what it tops up.
    """
    primary = (recipe.primary.arm, recipe.primary.against)
    others = [arm for arm in recipe.arms if arm not in primary]
    rivals = [(arm, primary[1]) for arm in others if primary[1] != OFF_THE_SHELF]
    lines = [(arm, OFF_THE_SHELF) for arm in recipe.arms]
    return list(dict.fromkeys([primary, *rivals, *top_up_pairs(recipe), *lines]))


def top_up_pairs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Every arm that is topped up, with each of its controls and each arm on what it tops up."""
    for name, arm in recipe.arms.items():
        how = recipe.sources[arm.source].top_up if arm.source else None
        if how is None or how.how != TOP_UP:
            continue
        controls = [how.model_copy(update={"how": control}) for control in CONTROLS]
        for other, told in recipe.arms.items():
            source = recipe.sources[told.source] if told.source else None
            if source and (told.source == how.source or source.top_up in controls):
                yield name, other


def comparable(
    correct: dict[Key, Correct], pair: tuple[str, str], references: Sequence[str]
) -> bool:
    """Whether two arms have been tested at a common scale (reference lines have none)."""
    scales = [{scale for _, scale, arm in correct if arm == name} for name in pair]
    if not all(scales):
        return False
    return bool(scales[0] & scales[1]) or any(name in references for name in pair)


def gather_correct(root: Path, heats: Sequence[Heat]) -> dict[Key, Correct]:
    """Which test images each arm got right: (metric, scale, arm) -> (seeds, images)."""
    rows: dict[Key, list[Correct]] = {}
    folder = reference_folder(root)
    for metric in read_metrics(folder):
        rows[(metric, 0, OFF_THE_SHELF)] = [read_correct(folder, metric)]
    for heat in heats:
        for metric in heat.measured:
            key = (metric, heat.n, heat.arm)
            rows.setdefault(key, []).append(read_correct(test_folder(heat, metric), metric))
    return {key: np.stack(seeds) for key, seeds in rows.items()}


def without_copies(root: Path, heats: Sequence[Heat], touched: Set[str]) -> pl.DataFrame:
    """Test accuracy on all images, and on those that have no copy in what was learned from.

    Args:
        root: of the study.
        heats: those that are finished.
        touched: ids of test images that have a copy; the table is empty where there are none.

    Returns:
        arm, scale (the largest), metric, images, accuracy, left (images without a copy), without
        (their accuracy, null where none is left); means over seeds.
    """
    schema = {
        "arm": pl.String, "scale": pl.Int64, "metric": pl.String, "images": pl.Int64,
        "accuracy": pl.Float64, "left": pl.Int64, "without": pl.Float64,
    }  # fmt: skip
    rows = []
    correct = gather_correct(root, heats) if touched else {}
    largest = {arm: scale for _, scale, arm in sorted(correct, key=lambda key: key[1] or 0)}
    for (metric, scale, arm), right in correct.items():
        if scale == largest[arm]:
            clean = ~np.isin(test_ids(reference_folder(root), metric), list(touched))
            without = float(right[:, clean].mean()) if clean.any() else None
            counts = (len(clean), float(right.mean()), int(clean.sum()), without)
            rows.append((arm, scale, metric, *counts))
    return pl.DataFrame(rows, schema=schema, orient="row")


def read_correct(folder: Path, metric: str) -> Correct:
    """Which test images were predicted right, in the order of their ids."""
    table = read_tested(folder, metric)
    return table.select(pl.col("label") == pl.col("predicted")).to_series().to_numpy()


def test_ids(folder: Path, metric: str) -> list[str]:
    """The ids of the test images, in that order."""
    return read_tested(folder, metric)["id"].to_list()


def read_tested(folder: Path, metric: str) -> pl.DataFrame:
    """Predictions on the test split by one metric, in the order of ids."""
    table = pl.read_parquet(folder / "predictions.parquet")
    return table.filter(pl.col("metric") == metric, pl.col("split") == TEST).sort("id")
