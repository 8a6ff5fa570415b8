"""What a curation leaves: shards, decisions, what images were like, and its story in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from headwater.curate.pixels import PIXELS_FILE, summarize
from headwater.curate.scoring import NamedScore
from headwater.descriptors import Descriptor
from headwater.pairs import DECISION_SCHEMA, join_decisions, read_shard
from headwater.progress import say
from headwater.steps.curation.prepare import Bench
from headwater.steps.curation.settings import CopiesRule, Curation, Rules, ScoreRule
from headwater.steps.sets import Part, make_parts
from headwater.store import Json, write_json


def write_parts(
    bench: Bench,
    decisions: pl.DataFrame,
    judged: pl.DataFrame,
    *,
    last: str,
    scores: Sequence[NamedScore],
) -> None:
    """The shards of the set and the decisions on every pair of its source, `decisions` first."""
    earlier = decisions.filter(~pl.col("kept"))
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


def write_looks(bench: Bench, judged: pl.DataFrame) -> None:
    """What the images of the set were like before and after the pixel path."""
    kept = judged.filter(pl.col("gate").is_null())
    looks = [
        read_shard(bench.pixels(n), ["before", "after"])[kept.filter(shard=n)["row"]]
        for n in range(bench.shards)
    ]
    write_json(bench.out / PIXELS_FILE, summarize(pl.concat(looks)))


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
