"""`curate`: a set -> a set of its best pairs, free of copies of the evaluation images.

    pixels        every image passes one pixel path: same size, same codec for every source
    clip_score    per class, by CLIP similarity to the class's texts
    no_copy       not a copy of an image of the splits it will be tested on
    not_rejected  not marked as bad by a person

The gates between the first and the last are the rules of the curation, in their order. Each writes
a decision for every pair it drops. prepare.py makes pixels and scores, judge.py applies the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from headwater.clip import Clip
from headwater.curate.pixels import PIXELS_FILE, summarize
from headwater.curate.rules import drop, staying
from headwater.curate.scoring import NamedScore, open_score
from headwater.descriptors import Descriptor
from headwater.errors import InputError, SetError
from headwater.pairs import (
    DECISION_SCHEMA,
    WAITING,
    join_decisions,
    read_decisions,
    read_funnel,
    read_shard,
    set_size,
    shard_paths,
)
from headwater.progress import say
from headwater.splits import split_digest
from headwater.steps.curation.candidates import COPY, LOOKS, PIXELS, write_candidates
from headwater.steps.curation.judge import judge
from headwater.steps.curation.prepare import Bench, prepare_pixels, prepare_scores
from headwater.steps.curation.rejections import (
    NOT_REJECTED,
    grow_ledger,
    merged,
    read_ledger,
    read_rejections,
    refuse_unknown,
    rejection_reasons,
)
from headwater.steps.curation.settings import (
    CopiesRule,
    Curation,
    DuplicatesRule,
    Rules,
    ScoreRule,
    compared_splits,
)
from headwater.steps.described import copy_descriptor
from headwater.steps.sets import Part, finish_set, make_parts
from headwater.store import (
    DONE,
    STARTED,
    Json,
    digest_value,
    read_json,
    read_step,
    step,
    write_json,
)
from headwater.task import Task

USUAL_SPLITS = ("train", "val", "test")  # a task may do without any of them


def curate(
    source: Path,
    task: Task,
    out: Path,
    *,
    clip: Clip,
    how: Curation | None = None,
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Make the set `out` of the best pairs of the set `source`.

    Args:
        source: a finished set.
        task: whose filter prompts score, and whose splits must not leak in.
        out: the new set's folder.
        clip: the model that scores.
        how: the settings; the paper's constants by default.
        engine, workers: what runs side by side, as `run_shards` takes them.

    Returns:
        Pairs left after each gate, those of the source first.

    Raises:
        SetError: the source is unfinished, curated already, or has pairs without an image; or a
            rejected pair was never considered.
        InputError: a score that cannot be made of these pairs, such as a class the task lacks.
    """
    how = how or Curation()
    verb = str(read_step(source)["verb"])
    rules, gates = how.rules_for(verb), how.gates_for(verb)
    splits = known_splits(task, rules)
    refuse_unfit(source, verb)
    refuse_twice([*read_funnel(source)["steps"], PIXELS, *gates, NOT_REJECTED])
    scores = [open_score(n, heads=how.heads, aggregate=how.aggregate) for n in how.columns]
    refuse_other_rows(source, scores)
    descriptor = choose_descriptor(how, rules, out)
    rejected = merged(
        read_ledger(out), *([read_rejections(Path(how.reject))] if how.reject else [])
    )
    refuse_unknown(rejected, read_decisions(source), name=source.name)
    inputs = {
        "set": read_step(source)["digest"],
        "task": task.digest,
        "model": clip.digest,
        "scores": {score.name: score.digest for score in scores},
        "splits": {split: split_digest(task, split) for split in splits},
        "descriptor": _facts(descriptor),
        "rejected": digest_value(rejected.rows()) if len(rejected) else None,
    }
    # Until the set is there, a score of the user's own that failed may be mended.
    renewed = ("rejected",) if (out / DONE).exists() else ("rejected", "scores")
    with step(out, "curate", arguments=how.arguments, inputs=inputs, may_change=renewed) as this:
        if this.finished:
            return this.counts
        grow_ledger(out, rejected)
        bench = Bench(out, tuple(shard_paths(source)))
        prepare_pixels(bench, how, engine=engine, workers=workers)
        prepare_scores(bench, scores, task=task, clip=clip)
        judged = judge(bench, rules, gates, task=task, descriptor=descriptor)
        if len(rejected):
            reasons = rejection_reasons(staying(judged), rejected).to_list()
            judged, gates = drop(judged, reasons, gate=NOT_REJECTED), [*gates, NOT_REJECTED]
        write_candidates(out, judged, [score.name for score in scores])
        write_looks(bench, judged)
        write_parts(bench, source, judged, last=gates[-1] if gates else PIXELS, scores=scores)
        counts = read_funnel(source)
        finish_set(
            this, labels=list(counts["classes"]), gates=[*counts["steps"], PIXELS, *gates],
            title=f"{task.name}: curated", story=tell(how, rules, splits, descriptor),
        )  # fmt: skip
        say_empty_classes(read_json(out / "funnel.json"), out)
        return this.counts


def refuse_unfit(source: Path, verb: str) -> None:
    """Raise `SetError` if a set that `verb` made cannot be curated.

    Curated sets are not curated again, and a set of URLs only has no image to look at.
    """
    counts = read_funnel(source)
    if PIXELS in counts["steps"] or verb == "perturb":
        raise SetError(
            f"{source} is curated already", expected="a set as it was sourced",
            seen=f"a {verb} set", do="Curate the set it was made from.",
        )  # fmt: skip
    waiting = sum(row.get(WAITING, 0) for row in counts["classes"].values())
    if waiting:
        raise SetError(
            f"{source} has pairs that are URLs only", expected="an image in every pair",
            seen=f"{waiting:,} pairs without",
            do="Download them, with img2dataset for one, and retrieve from the result.",
        )  # fmt: skip


def refuse_other_rows(source: Path, scores: Sequence[NamedScore]) -> None:
    """Raise `SetError` unless a set holds the pairs that it says, and no column of a score.

    Pairs that were added, lost or doubled by hand would make a funnel that adds up to nothing.
    """
    kept, held = int(read_decisions(source)["kept"].sum()), set_size(source)
    if kept != held:
        raise SetError(
            f"{source} does not hold what its decisions say", expected=f"{kept:,} pairs",
            seen=f"{held:,}", do="Make the set again.",
        )  # fmt: skip
    own = {*LOOKS, *COPY, *(score.name for score in scores)}
    for path in shard_paths(source):
        taken = own.intersection(pl.read_parquet_schema(path))
        if taken:
            raise SetError(
                f"{path} has columns that a curation makes", expected="a set as it was sourced",
                seen=", ".join(sorted(taken)), do="Rename or remove them.",
            )  # fmt: skip


def refuse_twice(gates: Sequence[str]) -> None:
    """Raise `InputError` if a gate is called like another: a funnel has one line for each."""
    twice = next((gate for at, gate in enumerate(gates) if gate in gates[:at]), None)
    if twice is not None:
        raise InputError(
            f"a rule's score cannot be called {twice}", expected="a name that no gate has yet",
            seen=", ".join(gates), do="Rename the function.",
        )  # fmt: skip


def known_splits(task: Task, rules: Rules) -> list[str]:
    """The splits the rules compare with; one the task may lack is told, not refused.

    Raises:
        TaskError: a split that neither the task nor anybody else has.
    """
    against = compared_splits(rules)
    for split in against:
        if split not in task.images and split not in USUAL_SPLITS:
            task.folder(split)
    copies = [rule for rule in rules if isinstance(rule, CopiesRule)]
    splits = list(dict.fromkeys(split for rule in copies for split in rule.among(task.images)))
    if against and not splits:
        say(f"task {task.name} has no {' or '.join(against)} images: no decontamination")
    return splits


def choose_descriptor(how: Curation, rules: Rules, out: Path) -> Descriptor | None:
    """What copies are told by, where a rule asks; `auto` stays with what `out` was begun with."""
    if not any(isinstance(rule, CopiesRule | DuplicatesRule) for rule in rules):
        return None
    begun = next((out / file for file in (DONE, STARTED) if (out / file).exists()), None)
    if how.descriptor == "auto" and begun is not None:
        told = read_json(begun).get("inputs", {}).get("descriptor") or {}
        how = how.model_copy(update={"descriptor": told.get("name", how.descriptor)})
    return copy_descriptor(how)


def _facts(descriptor: Descriptor | None) -> Json | None:
    if descriptor is None:
        return None
    return {name: getattr(descriptor, name) for name in ("name", "digest", "threshold")}


def write_looks(bench: Bench, judged: pl.DataFrame) -> None:
    """What the images of the set were like before and after the pixel path."""
    kept = judged.filter(pl.col("gate").is_null())
    looks = [
        read_shard(bench.pixels(n), ["before", "after"])[kept.filter(shard=n)["row"]]
        for n in range(bench.shards)
    ]
    write_json(bench.out / PIXELS_FILE, summarize(pl.concat(looks)))


def write_parts(
    bench: Bench, source: Path, judged: pl.DataFrame, *, last: str, scores: Sequence[NamedScore]
) -> None:
    """The shards of the set and the decisions on every pair of its source."""
    earlier = read_decisions(source).filter(~pl.col("kept"))
    value = pl.col(scores[0].name) if scores else pl.lit(None)
    decided = judged.with_columns(
        kept=pl.col("gate").is_null(),
        step=pl.col("gate").fill_null(last),
        reason=pl.col("reason").fill_null("kept"),
        score=pl.when(pl.col("gate").is_null()).then(value).otherwise("fell_by"),
    )
    own = [score.name for score in scores]
    jobs = [
        (bench, n, decided.filter(pl.col("shard") == n).select(*DECISION_SCHEMA, *own),
         earlier if n == 0 else earlier.clear())
        for n in range(bench.shards)
    ]  # fmt: skip
    make_parts(bench.out, _part, jobs, label="writing the set", workers=1)


def _part(job: tuple[Bench, int, pl.DataFrame, pl.DataFrame]) -> Part:
    bench, number, decided, earlier = job
    own = decided.drop(*DECISION_SCHEMA)
    pairs = read_shard(bench.pixels(number)).drop("came", "before", "after").with_columns(own)
    decisions = [
        earlier,
        read_shard(bench.broken(number)),
        decided.select(pl.col(name).cast(kind) for name, kind in DECISION_SCHEMA.items()),
    ]
    return Part(pairs.filter(decided["kept"]), join_decisions(decisions))


def say_empty_classes(counts: Json, out: Path) -> None:
    """Say which classes have no pair left."""
    last = counts["steps"][-1]
    empty = [label for label, left in counts["classes"].items() if not left[last]]
    if empty:
        more = f" and {len(empty) - 5:,} more" if len(empty) > 5 else ""
        say(f"{out.name}: no pair is left of {', '.join(empty[:5])}{more}")


def tell(how: Curation, rules: Rules, splits: Sequence[str], descriptor: Descriptor | None) -> str:
    """What was done, in words, for the set's card."""
    path = f"Every image is {how.size} x {how.size} pixels, JPEG quality {how.quality}."
    told = ["Images are as they came." if how.pixels == "reference" else path]
    for rule in rules:
        if isinstance(rule, ScoreRule):
            share = f"the top {rule.fraction:.3g} of each class" if rule.fraction else ""
            cap = f"at most {rule.cap:,} of each class" if rule.cap else ""
            least = f"what reaches {rule.threshold:g}" if rule.threshold is not None else ""
            kept = ", ".join(part for part in (share, cap, least) if part)
            told.append(f"By {rule.column}: {kept}.")
        elif isinstance(rule, CopiesRule):
            told.append(_tell_copies(rule, splits, descriptor))
        else:
            told.append("Of images that copy each other the best scored stays.")
    return " ".join(told if rules else [*told, "Nothing is selected."])


def _tell_copies(rule: CopiesRule, splits: Sequence[str], descriptor: Descriptor | None) -> str:
    compared = rule.among(splits)
    if not compared or descriptor is None:
        asked = " and ".join(rule.copies)
        return f"Decontamination was not possible: the task has no {asked} images."
    limit = descriptor.threshold if rule.threshold is None else rule.threshold
    return (
        f"Copies of the {' and '.join(compared)} images are dropped"
        f" ({descriptor.name} descriptor, above {limit:g})."
    )
