"""`import`: images somebody made elsewhere become a set like any other.

Which form they have is told in `forms.py`, and which label each of their classes gets in
`labels.py`; a lot of `samples.py` becomes a shard of the set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from headwater.classes import ClassNames, shown
from headwater.errors import SetError
from headwater.pairs import check_namespace, image_column, sha256_of
from headwater.progress import say
from headwater.steps.importing.forms import find_images
from headwater.steps.importing.labels import Classes, Labels, find_labels, read_classes
from headwater.steps.importing.samples import Images, Lot, Meant, Sample, listed
from headwater.steps.sets import Part, finish_set, make_parts, sift, why_undecodable
from headwater.store import Json, step
from headwater.task import Task

GATES = ("found", "decodes")
NO_IMAGE = "no image in the table"


def import_images(
    folder: Path,
    task: Task,
    out: Path,
    *,
    name: str = "imported",
    classes: str | Path | None = None,
    skip_unknown: bool = False,
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Make the set `out` of the images in `folder`.

    Args:
        folder: of class folders, tars or tables, or one .tar, .parquet or .arrow.
        task: whose classes they are.
        out: the new set's folder.
        name: the namespace of the ids, and the source they are known by.
        classes: a JSON file, {"their name": "a label of the task", "not wanted": null}; or
            `task`, where their numbers count the task's classes.
        skip_unknown: whether images of other classes are left out, not refused.
        engine, workers: what runs side by side, as `run_shards` takes them.

    Returns:
        Images left after each gate.

    Raises:
        TaskError: classes that are not the task's, two that are one, or numbers without names.
        SetError: `out` inside of `folder`; nothing there, or nothing that is known; no image of any
            class of the task.
        PoolError: a broken file.
    """
    check_namespace(name)
    _check_apart(folder, out)
    told = read_classes(classes, task) if classes is not None else {}
    images, labels = _look(folder, task, told, skip_unknown)
    plan = images.plan(labels.classes)
    inputs = {**plan.inputs, "task": task.digest}
    arguments = _arguments(name, told, skip_unknown)
    with step(out, "import", arguments=arguments, inputs=inputs) as this:
        if not this.finished:
            means = {meant: task.labels[index] for meant, index in labels.classes.items()}
            jobs = [(lot, name, means) for lot in plan.lots]
            label = "importing images"
            make_parts(out, _part, jobs, label=label, engine=engine, workers=workers)
            story = f"Images made elsewhere, imported as {name} for the task {task.name}."
            story = f"{story} {labels.skipped}".strip()
            title = f"{task.name}: {name}"
            finish_set(this, labels=task.labels, gates=GATES, title=title, story=story)
        return this.counts


def _check_apart(folder: Path, out: Path) -> None:
    """Raise `SetError` for a set among the images: read again, it would be one of their classes."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise SetError(
            f"{out} lies among the images it is made of", expected=f"a folder outside of {folder}",
            do="Choose another --out.",
        )  # fmt: skip


def _look(folder: Path, task: Task, told: Classes, skip_unknown: bool) -> tuple[Images, Labels]:
    """The images and what their classes mean; what a person should know is said."""
    known = ClassNames(task)
    images, said = find_images(folder, lambda text: _is_class(text, told, known))
    labels = find_labels(images, task, classes=told, skip_unknown=skip_unknown)
    if not labels.classes:
        raise _no_class(folder, task, images)
    for line in [*said, *images.said, *labels.said, labels.skipped]:
        if line:
            say(f"{folder.name}: {line}")
    return images, labels


def _no_class(folder: Path, task: Task, images: Images) -> SetError:
    theirs = sorted(shown(str(meant)) for meant in images.classes if meant is not None)
    untold = [f"{images.classes[None]:,} that tell no class"] if images.classes[None] else []
    return SetError(
        f"no image of {folder} is of a class of task {task.name}",
        expected="one folder a class, or a column, a .cls or a metadata.csv that tells it",
        seen="; ".join([*filter(None, [listed(theirs)]), *untold, *images.said]) or "no image",
    )  # fmt: skip


def _is_class(text: str, told: Classes, known: ClassNames) -> bool:
    return text in told or known.find(text).index is not None


def _arguments(name: str, told: Classes, skip_unknown: bool) -> Json:
    """What decides the set; what was not said stays out, as in sets of folders made before."""
    more = {"classes": dict(told)} if told else {}
    return {"name": name, **more, **({"skip_unknown": True} if skip_unknown else {})}


def _part(job: tuple[Lot, str, Mapping[Meant, str]]) -> Part:
    lot, name, means = job
    samples = [sample for sample in lot.read() if sample.meant in means]
    data = [sample.data or b"" for sample in samples]
    pairs = pl.DataFrame(
        {
            "id": [f"{name}:{sample.key}" for sample in samples],
            "label": [means[sample.meant] for sample in samples],
            "image": image_column(data, [sample.name for sample in samples]),
            "caption": [sample.caption for sample in samples],
            "sha256": [sha256_of(d) for d in data],
        },
        schema_overrides={"id": pl.String, "label": pl.String, "caption": pl.String,
                          "sha256": pl.String},
    ).with_columns(source=pl.lit(name), pool=pl.lit(name), found_by=pl.lit("import"))  # fmt: skip
    return sift(pairs, [_why_not(sample) for sample in samples], gate="decodes")


def _why_not(sample: Sample) -> str | None:
    """The reason an image is dropped, or None."""
    return NO_IMAGE if sample.data is None else why_undecodable(sample.data)
