"""How fast `top_k` streams float16 from disk, against faiss with everything in memory.

    python benchmarks/neighbors.py                         # 1M x 512, 700 queries, k 500; 1 minute
    python benchmarks/neighbors.py --rows 4000000          # memory must not grow: 4 GB of disk

Each runs in a process of its own, in turns, on two cores. The peer is `faiss.knn` (exact, inner
product, float32) in a virtual environment made here with pip; its start-up, reading and conversion
to float32 are not counted, its first call neither. Ours is counted from opening the file to the
last id, after one small call: `cached` with the file in memory as the system keeps it, `cold` after
the system was asked to drop it. The ratio is that of throughputs, cached: 0.7 is the promise.

Measured, 2 cores: 0.76 (0.66 to 0.80 in twelve runs), 3.2 s, 1.2 GB; more in LOG.md.
"""

import argparse
import json
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=700)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--timed", choices=TIMED, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the data go; a temporary one if absent")
    asked = parser.parse_args()
    if asked.timed:
        print(json.dumps(TIMED[asked.timed](asked.folder, asked.k)))
    elif asked.folder:
        asked.folder.mkdir(parents=True, exist_ok=True)
        compare(asked.folder, asked)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), asked)


def compare(folder, asked):
    make_data(folder, asked)
    peer = make_peer(folder)
    size = asked.rows * asked.dimensions * 2 / 1e9
    print(f"{asked.rows:,} x {asked.dimensions} float16, {asked.queries} queries, k {asked.k}")
    print(f"{'':>6} {'faiss s':>8} {'cached s':>8} {'GB/s':>6} {'cold s':>7} {'ratio':>6} peak MB")
    ratios = []
    for number in range(asked.runs):
        theirs = run(peer, "peer", folder, asked.k)["seconds"] if peer else float("nan")
        mine = run(sys.executable, "ours", folder, asked.k)
        cached = mine["cached"]
        ratios.append(theirs / cached)
        print(
            f"run {number + 1:>2} {theirs:>8.2f} {cached:>8.2f} {size / cached:>6.2f}"
            f" {mine['cold']:>7.2f} {ratios[-1]:>6.2f} {mine['peak']:>7.0f}",
            flush=True,
        )
    if peer:
        print(f"median ratio {median(ratios):.2f}; {disagreement(folder)}")
    else:
        print("no ratio: faiss-cpu could not be installed with pip")


def make_data(folder, asked):
    """Unit vectors in all directions: the hardest case, since nothing stands out."""
    rng = np.random.default_rng(0)
    shape = (asked.rows, asked.dimensions)
    pool = np.lib.format.open_memmap(folder / "pool.npy", mode="w+", dtype=np.float16, shape=shape)
    for start in range(0, asked.rows, BATCH):
        part = pool[start : start + BATCH]
        part[:] = unit(rng, part.shape)
    pool.flush()
    np.save(folder / "queries.npy", unit(rng, (asked.queries, asked.dimensions)))


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


def run(python, what, folder, k):
    command = [python, __file__, "--timed", what, "--folder", folder, "--k", str(k)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(CORES)}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    return json.loads(done.stdout)


def two_cores():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def peer(folder, k):
    two_cores()
    import faiss

    queries, pool = np.load(folder / "queries.npy"), np.load(folder / "pool.npy").astype(np.float32)
    faiss.knn(queries, pool[:BATCH], k, metric=faiss.METRIC_INNER_PRODUCT)
    start = time.perf_counter()
    _, ids = faiss.knn(queries, pool, k, metric=faiss.METRIC_INNER_PRODUCT)
    seconds = time.perf_counter() - start
    np.save(folder / "peer.npy", ids)
    return {"seconds": seconds}


def ours(folder, k):
    two_cores()
    from headwater.topk import top_k

    path, queries = folder / "pool.npy", np.load(folder / "queries.npy")
    top_k(queries, [np.load(path, mmap_mode="r")[:BATCH]], k)

    def seconds():
        start = time.perf_counter()
        np.save(folder / "ours.npy", top_k(queries, [path], k)[1])
        return time.perf_counter() - start

    cached = seconds()
    drop(path)
    cold = seconds()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if MAC else 1e3)
    return {"cached": cached, "cold": cold, "peak": peak}


MAC = sys.platform == "darwin"  # which counts bytes where Linux counts thousands


def drop(path):
    """Ask the system to forget a file, so that the next reading comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disagreement(folder):
    """Where ids differ as sets, and how far the scores of those stand apart in float64."""
    mine, theirs = np.load(folder / "ours.npy"), np.load(folder / "peer.npy")
    queries = np.load(folder / "queries.npy").astype(np.float64)
    pool = np.load(folder / "pool.npy", mmap_mode="r")
    apart, differ = 0.0, 0
    for query, own, other in zip(queries, mine, theirs, strict=True):
        more, less = np.setdiff1d(own, other), np.setdiff1d(other, own)
        differ += len(more)
        if len(more):
            scores = [np.sort(pool[ids].astype(np.float64) @ query) for ids in (more, less)]
            apart = max(apart, np.abs(scores[0] - scores[1]).max())
    return (
        f"{differ} of {mine.size:,} ids are not faiss's, whose scores differ by {apart:.0e} at most"
    )


TIMED = {"ours": ours, "peer": peer}

if __name__ == "__main__":
    main()
