"""Phrase search over captions in Parquet: Headwater against SQLite's FTS5, on this machine.

    python benchmarks/captions.py                       # 2,000,000 rows, three paired runs
    python benchmarks/captions.py --captions FOLDER     # real captions, repeated to as many rows

Both read the same Parquet files and look for the same names as phrases. FTS5 builds a table of
the rows in memory, then answers one MATCH a name. Each run is a process of its own, so that its
peak memory is its own; starting Python and importing are not timed. Then the same with twice the
names. Measured on two idle cores, ImageNet's names, real captions: 8.9 times faster than FTS5, 2.5
million captions/s, 250 MB; twice the names take 1.5 times as long (LOG.md).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import polars as pl

from headwater.retrieve.words import CaptionMatcher

DATA = Path(
    os.environ.get("HEADWATER_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
FILES = 8
TOKENIZER = "unicode61 remove_diacritics 2"


def main() -> None:
    options = arguments()
    if options.run:
        print(json.dumps(measured(options.run, Path(options.folder), options.doubled)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_inputs(folder, options)
        print(f"{options.rows:,} rows of {source}, {os.cpu_count()} cores")
        pairs = [
            [child(who, folder) for who in ("fts5", "headwater")] for _ in range(options.pairs)
        ]
        ratios = []
        for fts5, ours in pairs:
            ratios.append(fts5["seconds"] / ours["seconds"])
            print(f"{line('FTS5', fts5)}   {line('Headwater', ours)}   {ratios[-1]:.1f} times")
            assert fts5["matches"] == ours["matches"], "they do not find the same"
        print(f"median: {statistics.median(ratios):.1f} times faster than FTS5")
        twice = [
            [child("headwater", folder, doubled=d)["seconds"] for d in (False, True)] for _ in pairs
        ]
        ratio = statistics.median(b / a for a, b in twice)
        print(f"with twice the classes: {ratio:.2f} times the seconds")


def arguments() -> argparse.Namespace:
    """The command line; real captions if they are there, unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=Path, help="a folder of Parquet with a column caption")
    parser.add_argument("--names", type=Path, help="JSON with a list `classes`; ImageNet's")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--run", choices=["fts5", "headwater"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--doubled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows < 1 or options.pairs < 1:
        parser.error("--rows and --pairs must be at least 1")
    if options.captions and not any(options.captions.glob("*.parquet")):
        parser.error(f"no Parquet in {options.captions}")
    if options.names and not options.names.is_file():
        parser.error(f"no file {options.names}")
    options.captions = options.captions or DATA / "captions"
    options.names = options.names or DATA / "benchmarks" / "imagenet.json"
    options.real = options.captions.is_dir() and options.names.is_file()
    return options


def write_inputs(folder: Path, options: argparse.Namespace) -> str:
    """Captions and names, written into `folder`; says which."""
    if options.real:
        facts = json.loads(options.names.read_text())
        classes = list(dict.fromkeys(facts["classes"]))
        more = sorted({n for counts in facts.get("laion2b_captions", {}).values() for n in counts})
        texts = pl.read_parquet(options.captions / "*.parquet")["caption"].drop_nulls()
        source = "real captions"
    else:
        classes, more, texts = synthetic()
        source = "synthetic captions"
    more = random.Random(0).sample(more, len(more))
    others = [name for name in more if name not in set(classes)][: len(classes)]
    (folder / "names.json").write_text(json.dumps({"once": classes, "twice": classes + others}))
    repeated = pl.concat([texts] * -(-options.rows // len(texts))).head(options.rows)
    for number, start in enumerate(range(0, options.rows, -(-options.rows // FILES))):
        part = repeated.slice(start, -(-options.rows // FILES))
        part.to_frame("caption").write_parquet(folder / f"{number:05d}.parquet")
    return f"{source}, {len(classes)} names"


def synthetic() -> tuple[list[str], list[str], pl.Series]:
    """Names of one to three words, as many more, and captions that hold some of them."""
    draw = random.Random(0)
    sounds = [a + b for a in "bcdfghjklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "or")]
    words = sorted({"".join(draw.choices(sounds, k=draw.choice([1, 2, 3]))) for _ in range(20_000)})
    weights = list(accumulate(1 / (rank + 10) for rank in range(len(words))))
    draw.shuffle(words)
    names = sorted(
        {" ".join(draw.choices(words[100:], k=draw.choice([1, 1, 2, 2, 3]))) for _ in range(2000)}
    )
    draw.shuffle(names)

    def caption() -> str:
        text = draw.choices(words, cum_weights=weights, k=draw.randint(4, 14))
        if draw.random() < 0.2:
            text.insert(draw.randrange(len(text)), draw.choice(names))
        return " ".join(text).capitalize() + draw.choice([".", "", "!", " - photo"])

    return names[:1000], names[1000:], pl.Series([caption() for _ in range(200_000)])


def child(who: str, folder: Path, *, doubled: bool = False) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", who, "--folder", str(folder)]
    done = subprocess.run(command + ["--doubled"] * doubled, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measured(who: str, folder: Path, doubled: bool) -> dict[str, float]:
    names = json.loads((folder / "names.json").read_text())["twice" if doubled else "once"]
    paths = sorted(folder.glob("*.parquet"))
    start = time.perf_counter()
    matches = {"fts5": run_fts5, "headwater": run_headwater}[who](paths, names)
    seconds = time.perf_counter() - start
    rows = pl.scan_parquet(paths).select(pl.len()).collect().item()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "rows": rows, "matches": matches, "megabytes": peak}


def run_headwater(paths: list[Path], names: list[str]) -> int:
    matcher = CaptionMatcher({name: name for name in names})
    return sum(len(found) for found in matcher.match_many(read(paths)))


def run_fts5(paths: list[Path], names: list[str]) -> int:
    with sqlite3.connect(":memory:") as db:
        db.execute(f"create virtual table t using fts5(c, tokenize='{TOKENIZER}')")
        for batch in read(paths):
            db.executemany("insert into t(c) values (?)", ((caption,) for caption in batch))
        ask = "select rowid from t where t match ?"
        return sum(len(db.execute(ask, [f'"{name}"']).fetchall()) for name in names)


def read(paths: list[Path]) -> Iterator[pl.Series]:
    for path in paths:
        yield pl.read_parquet(path, columns=["caption"])["caption"]


def line(name: str, run: dict[str, float]) -> str:
    speed = run["rows"] / run["seconds"]
    return f"{name} {run['seconds']:.2f} s, {speed:,.0f} captions/s, {run['megabytes']:,.0f} MB"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
