"""How fast copies are found, against the bare matrix product of the same blocks and against faiss.

    python benchmarks/copies.py                                            # 1 minute
    python benchmarks/copies.py --candidates 1000000 --references 50000 --runs 1 --ways copies

Unit vectors in all directions, 256 dimensions, float32, all in memory; every 50th candidate is a
copy of a reference, shifted a little, found above 0.604169 as ISC descriptors are. One process
takes turns on two cores:

    product     torch.mm of the blocks that `nearest` takes, into memory it writes over: no answer
    copies      find_copies, candidates x references
    nearest     nearest, the same
    duplicates  find_duplicates of as many candidates as make half a product of the same size

The ratio is that of throughputs (similarities a second) to `product`. Peak memory is that of a
process which reads the arrays and calls find_copies, torch and all.

The peers, start-up and reading not counted: `faiss.knn` with k = 1 (exact, inner product), in a
virtual environment made here with pip; and imagededup's search in 20,000 rows, without its network,
in a folder made here with pip (torch and scikit-learn are those at hand). Answers are compared with
what was planted and with the peers'.

Measured, 2 cores (a shared machine, so ratios move by 0.05):

    300,000 x 30,000       copies 0.94, nearest 0.85, duplicates 0.93
    200,000 x 20,000       copies 0.87 to 0.93, nearest 0.75, duplicates 0.78, faiss 0.66 to 0.70
    1,000,000 x 50,000     copies 70 to 72 s, 0.88; peak 1.63 GB, of it 1.08 GB the descriptors
    20,000 rows            duplicates 0.36 s; imagededup 9.2 s and 2.5 GB, the same answer
"""

import argparse
import json
import logging
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

import numpy as np

CORES = 2
BATCH = 50_000
COPY_EVERY = 50
WAYS = ("copies", "nearest", "duplicates", "faiss", "imagededup")
DEDUPED = 20_000  # rows for imagededup, which keeps all their similarities: 2.5 GB
THRESHOLD = 0.604169  # the paper's, for ISC descriptors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=200_000)
    parser.add_argument("--references", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--timed", choices=TIMED, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the data go; a temporary one if absent")
    asked = parser.parse_args()
    if asked.timed:
        print(json.dumps(TIMED[asked.timed](asked.folder, asked)))
    elif asked.folder:
        asked.folder.mkdir(parents=True, exist_ok=True)
        compare(asked.folder, asked)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), asked)


def compare(folder, asked):
    make_data(folder, asked)
    cells = asked.candidates * asked.references
    print(f"{asked.candidates:,} x {asked.references:,} x {asked.dimensions}, float32")
    peak = run(sys.executable, "peak", folder, asked)
    print(f"peak memory of find_copies {peak['peak']:,.0f} MB, {peak['before']:,.0f} before it")
    print(f"{peak['right']:,} of {peak['planted']:,} copies, {peak['wrong']:,} others", flush=True)
    seconds = run(sys.executable, "ours", folder, asked)
    peer = make_peer(folder) if "faiss" in asked.ways else None
    if peer:
        seconds |= run(peer, "peer", folder, asked)
    print(f"{'':>12} {'s':>8} {'1e9/s':>7} ratio")
    for name, each in seconds.items():
        ratio = median(p / s for p, s in zip(seconds["product"], each, strict=True))
        print(f"{name:>12} {median(each):>8.2f} {cells / median(each) / 1e9:>7.2f} {ratio:>5.2f}")
    if peer and "nearest" in asked.ways:
        print(disagreement(folder))
    if "faiss" in asked.ways and not peer:
        print("no peer: faiss-cpu could not be installed with pip")
    if "imagededup" in asked.ways:
        print(against_imagededup(folder, asked))


def make_data(folder, asked):
    rng = np.random.default_rng(0)
    references = unit(rng, (asked.references, asked.dimensions))
    np.save(folder / "references.npy", references)
    shape = asked.candidates, asked.dimensions
    path = folder / "candidates.npy"
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        part[:] = unit(rng, part.shape)
        copied = references[copied_by(np.arange(start, start + len(part), COPY_EVERY), asked)]
        part[::COPY_EVERY] += copied
        part[::COPY_EVERY] /= np.linalg.norm(part[::COPY_EVERY], axis=1, keepdims=True)
    rows.flush()


def copied_by(candidates, asked):
    """The reference that each of these candidates is a copy of; about 0.71 alike."""
    return candidates * 7919 % asked.references


def unit(rng, shape):
    vectors = rng.standard_normal(shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_peer(folder):
    """A Python that has faiss, or None."""
    home = folder / "faiss"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "faiss-cpu", "numpy"]
    done = subprocess.run(install, capture_output=True)
    return python if done.returncode == 0 else None


def against_imagededup(folder, asked):
    """Duplicates within some thousand rows: theirs, in a folder of its own, and ours."""
    home = folder / "imagededup"
    packages = ["--no-deps", "--target", home, "imagededup", "PyWavelets"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", *packages]
    if not home.exists() and subprocess.run(install, capture_output=True).returncode:
        return "no imagededup: it could not be installed with pip"
    path = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    told = run(sys.executable, "imagededup", folder, asked, PYTHONPATH=path)
    return (
        f"{told['rows']:,} rows: imagededup {told['theirs']:.2f} s and {told['peak']:,.0f} MB,"
        f" find_duplicates {told['ours']:.2f} s; {told['duplicates']:,} duplicates,"
        f" {told['differ']:,} of them not imagededup's"
    )


def run(python, what, folder, asked, **more):
    told = ["--timed", what, "--folder", folder, "--runs", str(asked.runs), "--ways", *asked.ways]
    command = [python, __file__, *told]
    environment = {**os.environ, "OMP_NUM_THREADS": str(CORES), **more}
    talk = subprocess.DEVNULL if more else None  # a peer's progress bars
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=talk, env=environment, check=True)
    return json.loads(done.stdout)


def two_cores():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def load(folder):
    return np.load(folder / "candidates.npy"), np.load(folder / "references.npy")


def peak(folder, asked):
    """Memory, and whether what was planted is found."""
    two_cores()
    from headwater.curate.copies import find_copies

    candidates, references = load(folder)
    find_copies(candidates[:10], references[:10], threshold=THRESHOLD)
    before = most_memory()
    found = find_copies(candidates, references, threshold=THRESHOLD)
    planted = np.arange(0, len(candidates), COPY_EVERY)
    right = int((found[planted] == planted * 7919 % len(references)).sum())
    wrong = int((found >= 0).sum()) - right
    told = {"planted": len(planted), "right": right, "wrong": wrong}
    return told | {"before": before, "peak": most_memory()}


def most_memory():
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if MAC else 1e3)


MAC = sys.platform == "darwin"  # which counts bytes where Linux counts thousands


def ours(folder, asked):
    two_cores()
    from headwater.curate.copies import find_copies, nearest
    from headwater.curate.duplicates import find_duplicates

    candidates, references = load(folder)
    half = candidates[: math.isqrt(2 * len(candidates) * len(references))]
    ways = {
        "product": lambda: bare_product(candidates, references),
        "copies": lambda: find_copies(candidates, references, threshold=THRESHOLD),
        "nearest": lambda: np.save(folder / "ours.npy", nearest(candidates, references)[1]),
        "duplicates": lambda: find_duplicates(half, threshold=0.9),
    }
    bare_product(candidates[:BATCH], references[:1000])
    seconds = {name: [] for name in ways if name in ("product", *asked.ways)}
    for _ in range(asked.runs):
        for name in seconds:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    smaller = len(half) ** 2 / 2 / (len(candidates) * len(references))
    if "duplicates" in seconds:
        seconds["duplicates"] = [s / smaller for s in seconds["duplicates"]]
    return seconds


def bare_product(candidates, references):
    import torch

    from headwater.curate.similarity import COLUMNS, ROWS

    left, right = torch.from_numpy(candidates), torch.from_numpy(references)
    memory = torch.empty(ROWS * COLUMNS)
    for rows in left.split(ROWS):
        for columns in right.split(COLUMNS):
            out = memory[: len(rows) * len(columns)].view(len(rows), len(columns))
            torch.mm(rows, columns.T, out=out)


def peer(folder, asked):
    two_cores()
    import faiss

    candidates, references = load(folder)
    faiss.knn(candidates[:BATCH], references[:1000], 1, metric=faiss.METRIC_INNER_PRODUCT)
    seconds = []
    for _ in range(asked.runs):
        start = time.perf_counter()
        _, index = faiss.knn(candidates, references, 1, metric=faiss.METRIC_INNER_PRODUCT)
        seconds.append(time.perf_counter() - start)
    np.save(folder / "peer.npy", index[:, 0])
    return {"faiss": seconds}


def imagededup(folder, asked):
    two_cores()
    from imagededup.methods import CNN

    from headwater.curate.duplicates import find_duplicates

    rows = np.array(np.load(folder / "candidates.npy", mmap_mode="r")[:DEDUPED])
    rows[1::COPY_EVERY] = rows[::COPY_EVERY][: len(rows[1::COPY_EVERY])]
    find_duplicates(rows[:1000], threshold=0.9)
    start = time.perf_counter()
    mine = np.flatnonzero(find_duplicates(rows, threshold=0.9) >= 0)
    ours = time.perf_counter() - start
    named = {f"{i:06d}": row for i, row in enumerate(rows)}
    search = CNN.__new__(CNN)  # without its network, which would be fetched: only the search
    search.logger, search.verbose = logging.getLogger(), False
    start = time.perf_counter()
    found = search.find_duplicates(
        encoding_map=named, min_similarity_threshold=0.9, num_sim_workers=0
    )
    theirs = time.perf_counter() - start
    copied = {int(name) for name, like in found.items() if any(other < name for other in like)}
    told = {"rows": len(rows), "ours": ours, "theirs": theirs, "peak": most_memory()}
    return told | {"duplicates": len(mine), "differ": len(copied ^ set(mine.tolist()))}


def disagreement(folder):
    mine, theirs = np.load(folder / "ours.npy"), np.load(folder / "peer.npy")
    candidates, references = (rows.astype(np.float64) for rows in load(folder))
    differ = np.flatnonzero(mine != theirs)
    own, other = (
        np.einsum("nd,nd->n", candidates[differ], references[index[differ]])
        for index in (mine, theirs)
    )
    least = (own - other).min(initial=0)
    return (
        f"{len(differ)} of {len(mine):,} nearest are not faiss's; in float64 they are nearer by"
        f" {(own - other).max(initial=0):.0e} at most, by {least:.0e} at least"
    )


TIMED = {"ours": ours, "peer": peer, "peak": peak, "imagededup": imagededup}

if __name__ == "__main__":
    main()
