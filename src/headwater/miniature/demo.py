"""`headwater demo`: build the miniature world, then run its recipe as any other recipe is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from headwater.clip import resize_images
from headwater.decode import Image8, decode_rgb
from headwater.errors import DecodeError
from headwater.miniature.generator import train_generator
from headwater.miniature.learner import train_learner
from headwater.miniature.scans import SIZE
from headwater.miniature.world import build_world
from headwater.pool import open_pool, read_images, read_table
from headwater.recipe import load_recipe
from headwater.store import STARTED, Json, digest_value, read_step, step
from headwater.study import Study, run_study
from headwater.task import load_task

Train = Callable[..., None]

PAIRS = 6000
QUICK_PAIRS = 1500
QUICK = (
    "sources.neighbors.retrieve.k=15",
    "sources.random.retrieve.n=200",
    "sources.synthetic.synthesize.n=200",
    "curate.rules.0.cap=30",
    "scales=[40, 80]",
    "seeds=[0, 1]",
    "lr=[2.0e-3]",
    "adapt.epochs=3",
)
"""What `--quick` changes in the recipe: a smaller world, fewer and shorter trials."""

CACHE = "HEADWATER_CACHE"
"""Names a folder where trained models are kept between demos; else each demo trains its own."""


def run_demo(out: Path, *, quick: bool = False, workers: int | None = None) -> Study:
    """Build the world in `out/world` and run `recipes/miniature.yaml` on it, in `out`.

    Args:
        out: the demo's folder; run again, it goes on where it was.
        quick: a smaller world that takes a minute.
        workers: processes.
    """
    world = out / "world"
    build(world, quick=quick)
    recipe = load_recipe("miniature", base=out, changes=QUICK if quick else ())
    return run_study(recipe, out, workers=workers)


def build(world: Path, *, quick: bool = False, seed: int = 0) -> None:
    """Make pool and task in `world`, and train learner and generator on the pool beside them."""
    pairs = QUICK_PAIRS if quick else PAIRS
    with step(world / "upstream", "build", arguments={"pairs": pairs, "seed": seed}) as this:
        if not this.finished:
            build_world(this.folder, pairs=pairs, seed=seed)
    told: Json = {"quick": quick, "seed": seed}
    once(world / "learner", _learner, upstream=world / "upstream", told=told)
    once(world / "generator", _generator, upstream=world / "upstream", told=told)


def once(folder: Path, train: Train, *, upstream: Path, told: Json) -> None:
    """Train a model into `folder`, unless it is there or the cache has one of the same digest."""
    inputs = {"world": read_step(upstream)["digest"]}
    with step(folder, f"train {folder.name}", arguments=told, inputs=inputs) as this:
        if this.finished:
            return
        key = digest_value([folder.name, told, inputs])
        kept = (
            Path(os.environ[CACHE]) / f"{folder.name}-{key[:16]}" if CACHE in os.environ else None
        )
        if kept is None or not kept.is_dir():
            train(folder, upstream, **told)
        if kept is not None:
            _copy(*((kept, folder) if kept.is_dir() else (folder, kept)))


def read_upstream(upstream: Path) -> tuple[Image8, list[str]]:
    """Every pair of the pool that decodes: images (n, SIZE, SIZE, 3) and captions."""
    images, captions = [], []
    for shard in open_pool(upstream / "pool").shards:
        table = read_table(shard)
        text = dict(zip(table["key"], table["caption"], strict=True))
        for key, _, data in read_images(shard, list(text)):
            try:
                images.append(decode_rgb(data))
            except DecodeError:
                continue
            captions.append(text[key])
    return resize_images(images, SIZE), captions


def _learner(folder: Path, upstream: Path, *, quick: bool, seed: int) -> None:
    images, captions = read_upstream(upstream)
    task = load_task(upstream / "task.yaml")
    train_learner(images, captions, folder, task=task, quick=quick, seed=seed)


def _generator(folder: Path, upstream: Path, *, quick: bool, seed: int) -> None:
    images, captions = read_upstream(upstream)
    train_generator(images, captions, folder, quick=quick, seed=seed)


def _copy(source: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside, ignore=shutil.ignore_patterns(STARTED))
    for path in beside.iterdir():
        target.mkdir(parents=True, exist_ok=True)
        path.replace(target / path.name)
    beside.rmdir()
