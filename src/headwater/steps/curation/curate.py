"""`curate`: a set -> a set of its best pairs, free of copies of the evaluation images.

    pixels        every image passes one pixel path: same size, same codec for every source
    clip_score    per class, by CLIP similarity to the class's texts
    no_copy       not a copy of an image of the splits it will be tested on
    not_rejected  not marked as bad by a person

The gates between the first and the last are the rules of the curation, in their order. Each writes
a decision for every pair it drops. prepare.py makes pixels and scores, judge.py applies the rules,
result.py writes what is left.
"""

from __future__ import annotations

from pathlib import Path

from headwater.clip import Clip
from headwater.curate.rules import drop, staying
from headwater.curate.scoring import open_score
from headwater.pairs import read_decisions, read_funnel, shard_paths
from headwater.steps.curation.candidates import PIXELS, write_candidates
from headwater.steps.curation.copies import choose_descriptor, descriptor_facts, known_splits
from headwater.steps.curation.judge import judge
from headwater.steps.curation.prepare import Bench, prepare_pixels, prepare_scores
from headwater.steps.curation.refusals import refuse_other_rows, refuse_twice, refuse_unfit
from headwater.steps.curation.rejections import (
    NOT_REJECTED,
    grow_ledger,
    merged,
    read_ledger,
    read_rejections,
    refuse_unknown,
    rejection_reasons,
)
from headwater.steps.curation.result import say_empty_classes, tell, write_looks, write_parts
from headwater.steps.curation.settings import Curation
from headwater.steps.exam import split_digests
from headwater.steps.sets import finish_set
from headwater.store import DONE, Json, digest_value, read_json, read_step, step
from headwater.task import Task


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
    decisions = read_decisions(source)
    refuse_other_rows(source, decisions, scores)
    descriptor = choose_descriptor(how, rules, out)
    rejected = merged(
        read_ledger(out), *([read_rejections(Path(how.reject))] if how.reject else [])
    )
    refuse_unknown(rejected, decisions, name=source.name)
    inputs: Json = {
        "set": read_step(source)["digest"],
        "task": task.digest,
        "model": clip.digest,
        "scores": {score.name: score.digest for score in scores},
        "splits": split_digests(task, tuple(splits)),
        "descriptor": descriptor_facts(descriptor),
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
        write_parts(bench, decisions, judged, last=gates[-1] if gates else PIXELS, scores=scores)
        counts = read_funnel(source)
        finish_set(
            this, labels=list(counts["classes"]), gates=[*counts["steps"], PIXELS, *gates],
            title=f"{task.name}: curated", story=tell(how, rules, splits, descriptor),
        )  # fmt: skip
        say_empty_classes(read_json(out / "funnel.json"), out)
        return this.counts
