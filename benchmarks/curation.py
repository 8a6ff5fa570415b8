"""What curation does to real photos whose truth is known: the funnel, scores, copies.

    python benchmarks/curation.py                           # the photos pool, task tiny20
    python benchmarks/curation.py --chart docs/curation.svg # and a picture of the scores

Three questions, a table each:

    funnel   the set that captions find, with the usual rules: what is left of each class, and the
             share that shows its class (`precision`) before and after
    scores   precision of the best 10, 30 and 50 % of each class by one score: for the same set, for
             a dirtier one (captions matched letter by letter, inside words too), and for both of 20
             other classes, which the small CLIP has been trained on
    copies   all photos of the pool against 200 reference photos, of which the data name 38 copies
             in the pool, at 64 px; and against the test photos of tiny20, none of which is there

What a photo shows is told as in `retrieval.py`: the WordNet id in `url`. Without the real data
there is nothing to measure, and the benchmark says so.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from headwater.curate.audit import audit_scores
from headwater.pairs import CANDIDATES, read_decisions, read_funnel, read_pairs
from headwater.steps.curation.curate import curate
from headwater.steps.curation.settings import Curation
from headwater.steps.retrieve import retrieve
from headwater.steps.settings import Retrieval
from retrieval import HOME, mark_right, open_learner, tiny20_names, truth, write_task

SETS = [
    ("tiny20", "phrase"),
    ("tiny20", "substring"),
    ("seen20", "phrase"),
    ("seen20", "substring"),
]
SCORES = ["clip_score", "clip_score, max", "caption_score", "sharpness"]
FRACTIONS = [0.1, 0.3, 0.5]
GATES = ["matched", "safe", "decodes", "pixels", "clip_score", "no_copy"]


def seen20(data, rows):
    """Twenty classes that the learner knows, by name and WordNet id, spread over the alphabet."""
    tiny = {path.name for path in (data / "tasks" / "tiny20" / "test").iterdir()}
    ids = dict(path.stem.split("_", 1)[::-1] for path in (data / "copies" / "reference").iterdir())
    common = rows["truth"].value_counts().filter(pl.col("count") >= 50)["truth"].to_list()
    known = {name.replace("_", " "): x for name, x in sorted(ids.items()) if x in common}
    names = [name for name in known if name not in tiny]
    return {name: known[name] for name in names[:: len(names) // 20][:20]}


def funnel_rows(source, kept, known):
    """A row a class: pairs left after each gate, precision before and after the rules."""
    classes = read_funnel(kept)["classes"]
    before = mark_right(read_pairs(source, ["id", "label"]), *known)
    after = mark_right(read_pairs(kept, ["id", "label"]), *known)
    rows = []
    for label, counts in {**classes, "all": None}.items():
        mine = [t if counts is None else t.filter(label=label) for t in (before, after)]
        left = [sum(c[gate] for c in classes.values()) if counts is None else counts[gate]
                for gate in GATES]  # fmt: skip
        rows.append([label, *left, *(share(t["right"].mean()) for t in mine)])
    return rows


def all_scores(folders, known):
    """Every pair considered with a column a score; the max over texts is of a second run."""
    mean, most = (pl.read_parquet(folder / CANDIDATES) for folder in folders)
    most = most.select("id", "label", pl.col("clip_score").alias("clip_score, max"))
    return mark_right(mean.join(most, on=["id", "label"]), *known)


def precision_at(pairs, fraction):
    """Precision of what each score, and none, keeps of the same pairs."""
    audit = audit_scores(pairs, SCORES, fraction=fraction)
    return {name: float(np.mean(audit.right[kept])) for name, kept in audit.kept.items()}


def copies_found(out):
    """Ids of the pairs compared and of those that fell as copies; what stayed closest."""
    table = pl.read_parquet(out / CANDIDATES)
    dropped = read_decisions(out).filter(~pl.col("kept"), pl.col("step") == "no_copy")["id"]
    stayed = table.filter(~pl.col("id").is_in(dropped.implode()))["copy_similarity"].max()
    return set(table["id"]), set(dropped), stayed


def copy_rows(home, data, clip, how):
    """A row a split: photos compared, copies named by the data, found, others dropped."""
    names = pl.read_parquet(data / "pool-photos" / "*.parquet").select(
        ("pool:" + pl.col("key")).alias("id"), pl.col("url").str.extract(r"([^/]+)$").alias("name")
    )
    told = json.loads((data / "copies" / "labels.json").read_text())
    copies = {each["candidate"] for each in told if each["copy"]}
    true = set(names.filter(pl.col("name").is_in(list(copies)))["id"])
    # An ImageFolder needs a class; which one says nothing to copies.
    split = home / "references"
    shutil.copytree(data / "copies" / "reference", split / "bullfrog")
    test = data / "tasks" / "tiny20" / "test"
    task = write_task(home / "c.yaml", tiny20_names(data), reference=split, test=test)
    pool = data / "pool-photos"
    retrieve(pool, task, home / "whole", how=Retrieval(by="random", n=len(names)))
    for name, named in (("reference", true), ("test", set())):
        began = time.perf_counter()
        only = Curation(descriptor=how.descriptor, rules=({"copies": [name]},), scores=())
        curate(home / "whole", task, home / f"against-{name}", clip=clip, how=only)
        there, dropped, stayed = copies_found(home / f"against-{name}")
        here = named & there
        found, others = len(here & dropped), len(dropped - here)
        seconds = f"{time.perf_counter() - began:.0f}"
        yield [name, len(there), len(here), found, others, f"{stayed:.3f}", seconds]


def draw(curves, path):
    """Precision against the share kept, a line a score, a panel a set."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "headwater", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(curves), figsize=(9, 2.8), sharey=True, layout="constrained"
    )
    for axes, (name, lines) in zip(panels, curves.items(), strict=True):
        for score, (shares, values) in lines.items():
            style = {"color": "#7f7f7f", "linestyle": "--"} if score == "none" else {}
            axes.plot(shares, values, label=score, **style)
        axes.set(xlabel="share kept of each class", title=name, xlim=(0, 1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("precision of what is kept")
    panels[-1].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def show(title, columns, rows):
    print(f"\n**{title}**\n\n| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")
    for row in rows:
        print("| " + " | ".join(f"{x:,}" if isinstance(x, int) else str(x) for x in row) + " |")


def share(value):
    return "-" if value is None else f"{100 * value:.1f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=HOME, help="the folder with the real data")
    parser.add_argument("--chart", type=Path, help="where to draw an SVG")
    parser.add_argument("--descriptor", default="builtin", help="builtin, isc or sscd")
    parser.add_argument("--only", nargs="*", default=["scores", "copies"])
    asked = parser.parse_args()
    if not (asked.data / "pool-photos").is_dir():
        sys.exit(f"nothing to measure: no photos pool in {asked.data}")
    clip, known = open_learner(asked.data), truth(asked.data)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HEADWATER_CACHE"] = f"{folder}/cache"  # all is computed here, and timed
        home = Path(folder)
        how = Curation(descriptor=asked.descriptor)
        if "scores" in asked.only:
            measure_scores(home, asked, clip, known, how)
        if "copies" in asked.only:
            columns = ["split", "photos", "copies named", "found", "others", "next", "seconds"]
            show("copies", columns, copy_rows(home, asked.data, clip, how))


def measure_scores(home, asked, clip, known, how):
    """The first two tables, and the chart."""
    rows, ids = known
    tasks = {"tiny20": tiny20_names(asked.data)}
    ids = {"tiny20": ids, "seen20": seen20(asked.data, rows)}
    tasks["seen20"] = {name: [name] for name in ids["seen20"]}
    test = asked.data / "tasks" / "tiny20" / "test"
    table, curves = [], {}
    for name, mode in SETS:
        splits = {"test": test} if name == "tiny20" else {}
        task = write_task(home / f"{name}.yaml", tasks[name], **splits)
        source = home / f"{name}-{mode}"
        found_by = Retrieval(by="captions", mode=mode)
        retrieve(asked.data / "pool-photos", task, source, how=found_by)
        outs = [home / f"{source.name}-{kind}" for kind in ("mean", "max")]
        for kind, out in zip(("mean", "max"), outs, strict=True):
            curate(source, task, out, clip=clip, how=how.model_copy(update={"aggregate": kind}))
        known = rows, ids[name]
        if source.name == "tiny20-phrase":
            columns = ["class", *GATES, "precision before", "after"]
            show("funnel", columns, funnel_rows(source, outs[0], known))
        pairs = all_scores(outs, known)
        parts = [precision_at(pairs, fraction) for fraction in FRACTIONS]
        for score in parts[0]:
            table.append([name, mode, score, *(share(part[score]) for part in parts)])
        all_of_them = [share(pairs["right"].mean())] * len(parts)
        table.append([name, mode, f"all {len(pairs):,}", *all_of_them])
        steps = np.linspace(0.05, 1, 20)
        along = [precision_at(pairs, fraction) for fraction in steps]
        curves[f"{name}, {mode}"] = {s: (steps, [at[s] for at in along]) for s in along[0]}
    show("scores", ["task", "mode", "score", *(f"{f:.0%}" for f in FRACTIONS)], table)
    if asked.chart:
        draw(curves, asked.chart)


if __name__ == "__main__":
    main()
