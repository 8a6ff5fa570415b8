"""`top_up`: a set of real images, with synthetic ones only where it, or the pool, has too few.

    top_up   images of another set fill the holes
    spread   control: as many of them, over all classes evenly
    repeat   control: the same holes filled with the set's own images, once more
    holes.parquet   label, attribute, upstream, had, wanted, added

If only some classes hold synthetic images, a model may tell these classes by how the images were
made. Spread has the images without that; repeat has the larger classes without the images. Where
the holes are, and what fills them, is decided in `plan.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from headwater.curate.pixels import PIXELS_FILE
from headwater.errors import InputError, SetError
from headwater.pairs import (
    PAIR_SCHEMA,
    decide,
    join_decisions,
    read_funnel,
    read_shard,
    shard_paths,
    to_pairs,
)
from headwater.progress import say
from headwater.report.pixels import pixels_notes
from headwater.steps.agreement import check_classes
from headwater.steps.curation.refusals import refuse_waiting
from headwater.steps.hits import UNTARGETED
from headwater.steps.hybrid.composition import read_composition
from headwater.steps.hybrid.picks import HOLE_SCHEMA, Key
from headwater.steps.hybrid.plan import Material, Plan, make_plan, name_hole
from headwater.steps.hybrid.settings import REPEAT, SPREAD, TopUp
from headwater.steps.sets import Part, finish_set, make_parts
from headwater.store import Json, read_json, read_step, step, write_table
from headwater.task import Task

GATES = ("considered", "needed")
HOLES = "holes.parquet"
NOT_NEEDED = "fills no hole"
SHOWN = 5  # holes that a line names


def top_up(
    base: Path,
    fill: Path,
    task: Task,
    out: Path,
    *,
    how: TopUp,
    seed: int = 0,
    composition: Path | None = None,
) -> Json:
    """Make the set `out` of all pairs of `base`, and of images where there are too few.

    Args:
        base: a finished set of real images; curated, if both are.
        fill: a finished set of synthetic images.
        task: whose classes both are of.
        out: the new set's folder.
        how: target and attributes, and whether it is the top-up or one of its controls.
        seed: of the order in which images are taken.
        composition: captions of the pool, as `chart` counted them; needed for attributes.

    Returns:
        Pairs considered and needed, holes, images added, and how many are lacking.

    Raises:
        SetError: a set that is unfinished, for other classes, or without classes or images.
        InputError: attributes without a composition, or one that did not count them.
    """
    inputs = {"set": read_step(base)["digest"], "fill": read_step(fill)["digest"]}
    inputs["task"] = task.digest
    if composition is not None:
        inputs["composition"] = read_step(composition)["digest"]
    arguments = {"seed": seed, **how.arguments}
    renewed = ("set", "fill")  # rejections by hand make a set smaller
    with step(out, "top-up", arguments=arguments, inputs=inputs, may_change=renewed) as this:
        if this.finished:
            return this.counts
        for folder in (base, fill):
            _refuse_unfit(folder, task)
        upstream, mode = _upstream(how, task, composition)
        stuff = Material(base, fill, task, how, seed, mode, upstream)
        plan = make_plan(stuff)
        holes = pl.DataFrame(plan.holes, schema=HOLE_SCHEMA, orient="row")
        write_table(out / HOLES, holes)
        write_parts(stuff, plan, out)
        warning = "" if how.how == REPEAT else pixels_warning(base, fill)
        title = f"{task.name}: {how.how.replace('_', ' ')}"
        story = " ".join(filter(None, [tell(how, plan), warning]))
        finish_set(this, labels=task.labels, gates=GATES, title=title, story=story)
        added, wanted = len(plan.added), int(holes["wanted"].sum())
        this.counts |= {"holes": len(holes), "added": added, "lacking": wanted - added}
        for line in filter(None, [warning, what_is_lacking(how, plan)]):
            say(f"{out.name}: {line}")
        return this.counts


def write_parts(stuff: Material, plan: Plan, out: Path) -> None:
    """The shards of the set: its own first, then those it is topped up from."""
    own, donors = shard_paths(stuff.base), shard_paths(stuff.fill)
    repeats = stuff.how.how == REPEAT
    extra = _extra_columns([*own, *donors])
    jobs: list[tuple[Path, pl.DataFrame | None]] = [(path, None) for path in own]
    jobs += [(path, plan.added) for path in (own if repeats else donors)]
    known = None if repeats else stuff.others.select("id", "label")

    def work(job: tuple[Path, pl.DataFrame | None]) -> Part:
        path, added = job
        pairs = _with_columns(read_shard(path), extra)
        if added is None:
            return Part(pairs, decide(pairs, kept=True, step=GATES[-1], reason="kept"))
        return _added_part(pairs, added, known)

    make_parts(out, work, jobs, label="topping up", workers=1)


def _added_part(pairs: pl.DataFrame, added: pl.DataFrame, known: pl.DataFrame | None) -> Part:
    """The pairs of a shard that are added, and decisions on those that might have been."""
    key = ["id", "label"]
    mine = pairs.join(added, on=key, maintain_order="left_right")
    kept = mine.with_columns(id="new_id").drop("new_id", "reason")
    said = decide(
        mine.with_columns(id="new_id"), kept=True, step=GATES[-1], reason=pl.col("reason")
    )
    if known is None:
        return Part(kept, said)
    left = pairs.join(known, on=key, how="semi", maintain_order="left")
    left = left.join(added, on=key, how="anti", maintain_order="left")
    no = decide(left, kept=False, step=GATES[-1], reason=NOT_NEEDED)
    return Part(kept, join_decisions([said, no]))


def _extra_columns(paths: Sequence[Path]) -> dict[str, pl.DataType]:
    """The score columns that any of the shards has: all shards of a set have the same columns."""
    found: dict[str, pl.DataType] = {}
    for path in paths:
        for name, kind in pl.read_parquet_schema(path).items():
            if name not in PAIR_SCHEMA:
                found.setdefault(name, kind)
    return found


def _with_columns(pairs: pl.DataFrame, extra: Mapping[str, pl.DataType]) -> pl.DataFrame:
    columns = [
        (pl.col(name) if name in pairs.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in extra.items()
    ]
    return to_pairs(pairs).select(*PAIR_SCHEMA, *columns)


def tell(how: TopUp, plan: Plan) -> str:
    """What was done, in words, for the set's card."""
    if how.attributes:
        what = f"attributes of classes with fewer than {how.target:,} captions in the pool"
    else:
        what = f"classes with fewer than {how.target:,} images"
    ways = {
        SPREAD: f"{len(plan.added):,} synthetic images over all classes evenly: as many as fill",
        REPEAT: f"{len(plan.added):,} of these images once more, for",
    }
    way = ways.get(how.how, f"{len(plan.added):,} synthetic images for")
    return f"All images of a set, and {way} {len(plan.holes):,} holes ({what})."


def pixels_warning(base: Path, fill: Path) -> str:
    """What gives the images of one set away by how they were made into files; empty if nothing."""
    files = {"real": base / PIXELS_FILE, "synthetic": fill / PIXELS_FILE}
    if not all(path.exists() for path in files.values()):
        return "Not both sets were curated, so synthetic images may be told by their size or codec."
    told = {name: read_json(path) for name, path in files.items()}
    return " ".join(pixels_notes(told, ["real"], ["synthetic"]))


def topped_up_classes(folder: Path) -> list[str]:
    """The classes that a set was topped up in, in order.

    Raises:
        SetError: unfinished, or not made by `top_up`.
    """
    read_step(folder)
    holes = read_shard(folder / HOLES, list(HOLE_SCHEMA))
    return holes.filter(pl.col("added") > 0)["label"].unique(maintain_order=True).to_list()


def what_is_lacking(how: TopUp, plan: Plan) -> str:
    """One line on the holes that stay open; empty where none does."""
    if how.how == SPREAD:
        return ""
    left = [(hole, hole.wanted - hole.added) for hole in plan.holes if hole.added < hole.wanted]
    some = ", ".join(f"{name_hole(hole)} ({n:,})" for hole, n in left[:SHOWN])
    more = ", ..." if len(left) > SHOWN else ""
    whole = sum(n for _, n in left)
    holes = f"{len(left):,} of {len(plan.holes):,} holes"
    return f"{whole:,} images are lacking in {holes}: {some}{more}" if left else ""


def _refuse_unfit(folder: Path, task: Task) -> None:
    check_classes(folder, task)
    refuse_waiting(folder)
    if list(read_funnel(folder)["classes"]) == [UNTARGETED]:
        raise SetError(
            f"{folder} has no classes", expected="pairs of the task's classes",
            seen="pairs drawn at random", do="Top up a set that was retrieved for the task.",
        )  # fmt: skip
    record = read_step(folder)
    if record["verb"] == "top-up" and record["arguments"].get("how") == REPEAT:
        raise SetError(
            f"{folder} repeats images, as a control", expected="a set without repeated images",
            seen="a top-up by repeating", do="Name the set that it was made from.",
        )  # fmt: skip


def _upstream(how: TopUp, task: Task, composition: Path | None) -> tuple[dict[Key, int], str]:
    """Captions per class and attribute, and how they were matched."""
    if composition is None:
        if how.attributes:
            raise InputError(
                "attributes are topped up by what the pool lacks", expected="a composition of it",
                seen="none", do="Count captions with `headwater composition` and name its folder.",
            )  # fmt: skip
        return {}, "phrase"
    table, record = read_composition(composition, task)
    counts = {(label, attribute): n for label, attribute, n in table.iter_rows()}
    unknown = [a for a in how.attributes if (task.labels[0], a) not in counts]
    if unknown:
        raise InputError(
            f"{composition} did not count an attribute", expected=", ".join(how.attributes),
            seen=", ".join(record["arguments"]["attributes"]) or "none",
            do="Count it with `headwater composition`.",
        )  # fmt: skip
    return counts, str(record["arguments"]["mode"])
