"""What a top-up did to the classes that were topped up, apart from what it did to all others.

If only these classes hold synthetic images, artifacts can give them away: test images of other
classes are then taken for one of them. So false positives are counted into both groups, for the
top-up, its controls, the set it began with and the learner as it comes. As in `findings.py`,
everything is read from the trials' folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import polars as pl

from headwater.classes import many
from headwater.findings import TEST, read_metrics, read_tested
from headwater.recipe import OFF_THE_SHELF, Recipe
from headwater.steps.hybrid.settings import TOP_UP, TopUp
from headwater.steps.hybrid.top_up import topped_up_classes
from headwater.store import DONE, read_step
from headwater.task import Task
from headwater.trials import Heat, reference_folder, test_folder

TOPPED, OTHERS = "topped up", "others"
BEGAN, AS_IT_COMES = "began", "as it comes"  # roles of arms that no top-up made
SHOWN = 5  # classes that a note names

TOPPED_UP_SCHEMA = {
    "hybrid": pl.String, "role": pl.String, "arm": pl.String, "scale": pl.Int64,
    "metric": pl.String, "classes": pl.String, "labels": pl.Int64, "images": pl.Int64,
    "accuracy": pl.Float64, "false_positives": pl.Float64, "share": pl.Float64, "seeds": pl.Int64,
}  # fmt: skip

Place = tuple[str, int, str]  # arm, scale, metric


class Group(NamedTuple):
    """How some classes fared in one trial.

    Attributes:
        images: test images of these classes.
        right: of these, how many were predicted right.
        false_positives: test images of all other classes that were taken for one of these.
        others: test images of all other classes.
    """

    images: int
    right: int
    false_positives: int
    others: int


def tell_topped_up(
    root: Path, recipe: Recipe, task: Task, heats: Sequence[Heat], sets: Mapping[str, Path]
) -> pl.DataFrame:
    """Test accuracy and false positives of topped-up classes and of the others.

    Args:
        root: of the study.
        recipe: which sources are topped up, and which arms are trained on what.
        task: its classes.
        heats: those that are finished.
        sets: source -> the set that is trained on.

    Returns:
        A row a topped-up source (`hybrid`), arm, scale, metric and group (`classes`), with the role
        of the arm (began: on the set that was topped up; top_up, spread, repeat; as it comes: the
        learner), labels (how many classes the group has), images, accuracy, false_positives and
        their share of the test images of other classes; means over `seeds`. Empty where nothing was
        topped up or tested.
    """
    rows: list[tuple[Any, ...]] = []
    for hybrid in hybrids(recipe, sets) if TEST in task.images else []:
        topped = set(topped_up_classes(sets[hybrid]))
        sides = {TOPPED: topped, OTHERS: set(task.labels) - topped}
        roles = arms_beside(recipe, hybrid)
        for place, folders in find_predictions(root, heats, list(roles)).items():
            tables = [read_tested(folder, place[2]) for folder in folders]
            for side, labels in sides.items():
                told = mean_over_seeds([count_group(table, labels) for table in tables])
                role = roles.get(place[0], AS_IT_COMES)
                rows.append((hybrid, role, *place, side, len(labels), *told, len(folders)))
    return pl.DataFrame(rows, schema=TOPPED_UP_SCHEMA, orient="row")


def hybrids(recipe: Recipe, sets: Mapping[str, Path]) -> list[str]:
    """The sources that are topped up (controls are none) and made."""
    found = [name for name, source in recipe.sources.items() if _is_top_up(source.top_up)]
    return [name for name in found if (sets[name] / DONE).exists()]


def arms_beside(recipe: Recipe, hybrid: str) -> dict[str, str]:
    """The arms to look at, and the role of each; that of the set a top-up began with is first."""
    own = recipe.sources[hybrid].top_up
    assert own is not None
    roles = {own.source: BEGAN, hybrid: own.how}
    for name, source in recipe.sources.items():
        if source.top_up and _asked(source.top_up) == _asked(own):
            roles.setdefault(name, source.top_up.how)
    arms = recipe.arms.items()
    return {
        name: role for source, role in roles.items() for name, arm in arms
        if arm.sources == (source,)
    }  # fmt: skip


def find_predictions(
    root: Path, heats: Sequence[Heat], arms: Sequence[str]
) -> dict[Place, list[Path]]:
    """Where the test predictions of some arms lie, one folder a seed; the learner's own last."""
    found: dict[Place, list[Path]] = {}
    for heat in sorted((h for h in heats if h.arm in arms), key=lambda h: arms.index(h.arm)):
        for metric in heat.measured:
            found.setdefault((heat.arm, heat.n, metric), []).append(test_folder(heat, metric))
    folder = reference_folder(root)
    for metric, told in read_metrics(folder).items():
        if TEST in told:
            found[OFF_THE_SHELF, 0, metric] = [folder]
    return found


def count_group(table: pl.DataFrame, labels: Set[str]) -> Group:
    """Count one trial's predictions for some classes.

    Args:
        table: label and predicted, a row a test image.
        labels: the classes.

    Example:
        >>> told = pl.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "b", "a"]})
        >>> count_group(told, {"a"})
        Group(images=2, right=1, false_positives=1, others=1)
    """
    wanted = list(labels)
    own = table.filter(pl.col("label").is_in(wanted))
    others = table.filter(~pl.col("label").is_in(wanted))
    taken = others["predicted"].is_in(wanted)
    right = own["label"] == own["predicted"]
    return Group(len(own), int(right.sum()), int(taken.sum()), len(others))


def mean_over_seeds(seeds: Sequence[Group]) -> tuple[int, float | None, float, float | None]:
    """Images, and the means of accuracy, of false positives and of their share.

    Example:
        >>> mean_over_seeds([Group(4, 2, 1, 10), Group(4, 4, 2, 10)])
        (4, 0.75, 1.5, 0.15)
    """
    images, others = seeds[0].images, seeds[0].others
    taken = fmean(group.false_positives for group in seeds)
    accuracy = fmean(group.right for group in seeds) / images if images else None
    return images, accuracy, taken, taken / others if others else None


def topped_up_notes(recipe: Recipe, task: Task, sets: Mapping[str, Path]) -> list[str]:
    """What was topped up, in a sentence each."""
    names = hybrids(recipe, sets)
    told = [_note(name, task, sets[name]) for name in names]
    return [*told, *(note for name in names for note in _short_controls(name, recipe, sets))]


def _short_controls(name: str, recipe: Recipe, sets: Mapping[str, Path]) -> Iterator[str]:
    """The controls that could not add as many images: a class may have none to repeat."""
    own = recipe.sources[name].top_up
    added = read_step(sets[name])["counts"]["added"]
    for other, source in recipe.sources.items():
        how = source.top_up
        if how is None or own is None or how == own or _asked(how) != own:
            continue
        if (sets[other] / DONE).exists():
            count = read_step(sets[other])["counts"]["added"]
            if count < added:
                yield f"{other} adds only {many(count, 'image')}, where {name} adds {added:,}."


def _note(name: str, task: Task, folder: Path) -> str:
    counts, topped = read_step(folder)["counts"], topped_up_classes(folder)
    if not topped:
        return f"{name} is the same set: no hole was filled."
    some = ", ".join(task.name_of[label] for label in topped[:SHOWN])
    more = ", ..." if len(topped) > SHOWN else ""
    classes = f"{len(topped):,} of {len(task.labels):,} classes"
    lacking = f"; {counts['lacking']:,} more are lacking" if counts["lacking"] else ""
    return f"{name}: {counts['added']:,} images top up {classes} ({some}{more}){lacking}."


def _is_top_up(how: TopUp | None) -> bool:
    return how is not None and how.how == TOP_UP


def _asked(how: TopUp) -> TopUp:
    """What a top-up and its controls have in common."""
    return how.model_copy(update={"how": TOP_UP})
