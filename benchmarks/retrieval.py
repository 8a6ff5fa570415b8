"""How right and how complete each way to retrieve is, on real photos whose truth is known.

    python benchmarks/retrieval.py                            # the photos pool, task tiny20
    python benchmarks/retrieval.py --chart docs/retrieval.svg # and a picture of it

The pool's Tiny ImageNet rows carry their WordNet id in `url`; the id that most captions with a
class's name have is that class's. `precision`: the share of retrieved pairs that show their class;
`recall`: the share of the pool's photos of the 20 classes that were retrieved. Captions lie for
3 % of those rows, so no way by captions is perfect. Without the real data there is nothing to
measure, and the benchmark says so.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import yaml

from headwater.clip import load_clip
from headwater.pairs import read_pairs
from headwater.steps.embed import embed
from headwater.steps.retrieve import retrieve
from headwater.steps.settings import Retrieval
from headwater.task import load_task

HOME = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
PROMPTS = ["a photo of a {}.", "a photo of the {}.", "{}", "a close-up photo of a {}."]
WAYS = {  # name -> (whether synonyms are asked for, settings)
    "captions, names only": (False, {"by": "captions"}),
    "captions": (True, {"by": "captions"}),
    "captions, all tokens": (True, {"by": "captions", "mode": "all"}),
    "captions, substring": (True, {"by": "captions", "mode": "substring"}),
    "neighbors, k = 60": (True, {"by": "neighbors", "k": 60}),
    "neighbors, class means": (True, {"by": "neighbors", "k": 60, "average": True}),
    "neighbors, example means": (
        True,
        {"by": "neighbors", "k": 60, "average": True, "examples": True},
    ),
    "both, k = 60": (True, {"by": "both", "k": 60}),
    "random, 1,200": (True, {"by": "random", "n": 1200}),
}


def tiny20_names(data, *, synonyms=True):
    """What each class of tiny20 is called: by WordNet's synonyms too, or by its name alone."""
    names = json.loads((data / "tasks" / "tiny20" / "synonyms.json").read_text())
    return {name: queries if synonyms else [name] for name, queries in names.items()}


def write_task(path, names, **images):
    """A task file of classes and what they are called, with folders of splits if there are any."""
    told = {
        "format": 1,
        "name": path.stem,
        "classes": [{"label": name, "queries": queries} for name, queries in names.items()],
        "prompts": {"retrieval": PROMPTS, "filter": PROMPTS},
        "images": {split: str(folder.resolve()) for split, folder in images.items()},
    }
    path.write_text(yaml.safe_dump(told))
    return load_task(path)


def open_learner(data):
    """The small CLIP that comes with the data."""
    model = data / "models" / "mini-RN-64" / "mini-RN-64"
    return load_clip(
        "mini-RN-64", config=f"{model}.json", pretrained=f"{model}.safetensors", activation="gelu"
    )


def truth(data):
    """The pool's rows with their WordNet id, and the id of each class."""
    rows = pl.read_parquet(data / "pool-photos" / "*.parquet").select(
        ("pool:" + pl.col("key")).alias("id"),
        pl.col("url").str.extract(r"/(n\d{8})_").alias("truth"),
        pl.col("caption").str.to_lowercase(),
    )
    ids = {
        name: rows.filter(pl.col("caption").str.contains(rf"\b{name.lower()}\b"))["truth"]
        .drop_nulls()
        .mode()[0]
        for name in tiny20_names(data)
    }
    return rows.drop("caption"), ids


def mark_right(pairs, rows, ids):
    """The pairs with a column `right`: whether each shows its class."""
    meant = pl.col("label").replace_strict(ids, default=None)
    told = pairs.join(rows.select("id", "truth"), on="id", how="left", maintain_order="left")
    return told.with_columns(right=(meant == pl.col("truth")).fill_null(False)).drop("truth")


def judge(pairs, rows, ids):
    """Precision and recall of a set of pairs."""
    told = mark_right(pairs, rows, ids)
    there = rows.filter(pl.col("truth").is_in(list(ids.values()))).height
    return told["right"].mean(), told.filter("right")["id"].n_unique() / there


def draw(table, path):
    """Recall against precision, a point a way."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "headwater", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    points = table.group_by("precision", "recall", maintain_order=True).agg("way")
    for precision, recall, ways in points.iter_rows():
        color = {"c": "#1f77b4", "n": "#d62728", "b": "#9467bd", "r": "#7f7f7f"}[ways[0][0]]
        side, shift = ("right", (-6, -11)) if recall > 0.8 else ("left", (6, 4))
        axes.plot(recall, precision, "o", color=color, clip_on=False)
        axes.annotate(
            " = ".join(ways), (recall, precision), xytext=shift, ha=side,
            textcoords="offset points",
        )  # fmt: skip
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=HOME, help="the folder with the real data")
    parser.add_argument("--chart", type=Path, help="where to draw an SVG")
    asked = parser.parse_args()
    pool = asked.data / "pool-photos"
    if not pool.is_dir():
        sys.exit(f"nothing to measure: no photos pool in {asked.data}")
    clip = open_learner(asked.data)
    rows, ids = truth(asked.data)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        embed(pool, home / "vectors", clip=clip)
        names = {s: tiny20_names(asked.data, synonyms=s) for s in (False, True)}
        tasks = {s: write_task(home / f"tiny20-{s}.yaml", names[s]) for s in names}
        results = []
        for number, (name, (synonyms, settings)) in enumerate(WAYS.items()):
            if "examples" in settings:
                settings |= {"examples": str(asked.data / "tasks" / "tiny20" / "train")}
            began = time.perf_counter()
            out = home / str(number)
            how = Retrieval(**settings)
            retrieve(pool, tasks[synonyms], out, how=how, clip=clip, vectors=home / "vectors")
            seconds = time.perf_counter() - began
            pairs = read_pairs(out, ["id", "label"])
            results.append((name, len(pairs), *judge(pairs, rows, ids), seconds))
    columns = ["way", "pairs", "precision", "recall", "seconds"]
    table = pl.DataFrame(results, schema=columns, orient="row")
    for name, pairs, precision, recall, seconds in table.iter_rows():
        print(f"| {name} | {pairs:,} | {precision:.1%} | {recall:.1%} | {seconds:.1f} |")
    if asked.chart:
        draw(table, asked.chart)


if __name__ == "__main__":
    main()
