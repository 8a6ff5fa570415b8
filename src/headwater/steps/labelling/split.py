"""`task label --answers`: what a person said of a sample's pictures -> a split of the task.

    FOLDER/test/LABEL/KEY.jpg   the pool's own bytes, one folder a class
    FOLDER/task.yaml            the task, its images.test pointing there

The page that asks is made in `page.py`; what a CSV of answers may say is in `answers.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from headwater.classes import file_name
from headwater.decode import decode_rgb
from headwater.errors import DecodeError, InputError, PoolError, TaskError, plain
from headwater.pairs import check_namespace, sha256_of
from headwater.pool import Pool, PoolShard, find_rows, has_images, open_pool, read_images
from headwater.progress import say, track
from headwater.report.label import NONE, SKIPPED
from headwater.splits import IMAGE_SUFFIXES
from headwater.steps.labelling.answers import Answer, read_answers
from headwater.store import Json, digest_value, stable_seed, step, write_bytes, write_text
from headwater.task import Task

LONGEST = 200  # bytes of a name in a folder; most file systems take 255
VAL = "val"


def make_split(
    pool_path: str | Path,
    task: Task,
    answers: Path,
    out: Path,
    *,
    split: str = "test",
    val: float = 0.0,
    seed: int = 0,
    pool_name: str = "pool",
) -> Json:
    """Make the folder `out`: the answered images as a split, and the task that has it.

    Args:
        pool_path: the pool that was labelled.
        task: whose classes were asked for.
        answers: the CSV that the page gave.
        out: the new folder.
        split: what the split is called.
        val: the share of the images that becomes a split `val` instead.
        seed: of that division.
        pool_name: the namespace of the ids.

    Returns:
        Images in each split, answers left out, and how many classes have no image.

    Raises:
        InputError: a CSV that cannot be used, by its line, or a share out of bounds.
        TaskError: the task has such a split already.
        PoolError: an image that is no longer there, or no longer decodes.
    """
    check_labels(task)
    _check_splits(task, split, val)
    told = read_answers(answers, task)
    labelled = [each for each in told if each.names_a_class]
    if not labelled:
        raise InputError(f"{answers.name} labels no image", expected="classes", seen="none of them")
    pool = open_images(pool_path, name=pool_name)
    places = _places(pool, told, answers)
    splits = {each.id: _split_of(each.id, split, val, seed) for each in labelled}
    arguments: Json = {"split": split, "val": val, "pool_name": pool.name}
    arguments |= {"seed": seed} if val else {}
    said = digest_value(sorted((each.id, each.label) for each in told))
    inputs = {"pool": pool.digest, "task": task.digest, "answers": said}
    with step(out, "task label", arguments=arguments, inputs=inputs) as this:
        if not this.finished:
            names = {each.id: f"{splits[each.id]}/{file_name(each.label)}" for each in labelled}
            for pair, name, data in _images(list(names), places):
                write_bytes(out / names[pair] / name, data)
            folders = {name: out / name for name in sorted(set(splits.values()))}
            grown = task.model_copy(update={"images": {**task.images, **folders}})
            write_text(out / "task.yaml", grown.to_yaml(out))
            this.counts = _counts(told, splits)
    _tell(task, labelled, splits)
    return this.counts


def locate(pool: Pool, ids: Sequence[str]) -> dict[str, PoolShard]:
    """The shard in which each pair stands; ids that the pool lacks are left out.

    Raises:
        PoolError: two shards have the same key, so that nobody knows which pair is meant.
    """
    head = f"{pool.name}:"
    keys = {each.removeprefix(head) for each in ids if each.startswith(head)}
    found: dict[str, PoolShard] = {}
    for shard in track(pool.shards, label="looking for keys"):
        for key in find_rows(shard, keys)["key"]:
            if head + key in found:
                raise PoolError(
                    f"two pairs of the pool have the key {key}", expected="keys of their own",
                    seen=f"{key} in {found[head + key].name} and in {shard.name}",
                )  # fmt: skip
            found[head + key] = shard
    return found


def open_images(path: str | Path, *, name: str) -> Pool:
    """A pool that has images.

    Raises:
        PoolError: no pool, or one of URLs.
    """
    check_namespace(name)
    pool = open_pool(path, name=name)
    if not any(map(has_images, pool.shards)):
        raise PoolError(
            "the pool has no images to label", expected="images", seen="URLs only",
            do="img2dataset fetches them.",
        )  # fmt: skip
    return pool


def check_labels(task: Task) -> None:
    """Raise `TaskError` if a label cannot be told from "none of these", or is no folder's name."""
    for label in task.labels:
        if label in (NONE, SKIPPED):
            raise TaskError(f"no class can be labelled {label}", do="Give it another label.")
        if len(file_name(label).encode()) > LONGEST:
            raise TaskError(
                "a label is too long for a folder", expected=f"{LONGEST} bytes at most", seen=label
            )


def tell_classes(what: str, labels: Sequence[str], task: Task) -> None:
    """Say what is true of some classes, if of any."""
    if labels:
        some = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        say(plain(f"{what} {len(labels)} of {len(task.labels)} classes: {some}"))


def _check_splits(task: Task, split: str, val: float) -> None:
    if not 0 <= val < 1:
        raise InputError("no share for val", expected="0 to less than 1", seen=str(val))
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", split, re.ASCII) or (val and split == VAL):
        raise InputError(
            "no name for a split", expected="letters, digits and -, as test", seen=split
        )
    for name in [split, *([VAL] if val else [])]:
        if name in task.images:
            raise TaskError(
                f"task {task.name} has a {name} split already", expected="a new one", seen=name,
                do="Name another with --split.",
            )  # fmt: skip


def _places(pool: Pool, told: Sequence[Answer], answers: Path) -> dict[str, PoolShard]:
    places = locate(pool, [each.id for each in told])
    for each in told:
        if each.id not in places:
            raise InputError(
                f"{answers.name}, line {each.line}: the pool has no such pair",
                expected=f"an id such as {next(iter(places), pool.name + ':KEY')}", seen=each.id,
                do="Give the pool, and the --pool-name, that the page was made of.",
            )  # fmt: skip
    return places


def _split_of(pair: str, split: str, val: float, seed: int) -> str:
    """By a hash, so that a pair stays where it is when more are labelled."""
    return VAL if stable_seed(seed, pair) < val * 2**63 else split


def _images(
    pairs: Sequence[str], places: Mapping[str, PoolShard]
) -> Iterator[tuple[str, str, bytes]]:
    """The images of some pairs as the pool has them: id, a safe name of a file, bytes."""
    for shard in track(list(dict.fromkeys(places[pair] for pair in pairs)), label="copying images"):
        left = {pair.split(":", 1)[1]: pair for pair in pairs if places[pair] is shard}
        for key, name, data in read_images(shard, list(left)):
            pair = left.pop(key)
            try:
                decode_rgb(data)
            except DecodeError as error:
                raise PoolError(f"{pair} cannot be used", seen=str(error)) from None
            yield pair, _image_name(pair, name), data
        for pair in left.values():
            raise PoolError(f"{pair} has no image any more", do="Take it out of the answers.")


def _image_name(pair: str, name: str) -> str:
    """A name that no two pairs share, from the id without its namespace."""
    suffix = PurePosixPath(name).suffix.lower()
    stem = file_name(pair.split(":", 1)[1])
    if len(stem.encode()) > LONGEST:
        stem = sha256_of(pair.encode())
    return stem + (suffix if suffix in IMAGE_SUFFIXES else ".jpg")


def _counts(told: Sequence[Answer], splits: Mapping[str, str]) -> Json:
    said = Counter(each.label for each in told)
    images = dict(sorted(Counter(splits.values()).items()))
    return {**images, "none_of_these": said[NONE], "skipped": said[SKIPPED]}


def _tell(task: Task, labelled: Sequence[Answer], splits: Mapping[str, str]) -> None:
    """Name the classes that no image of a split shows."""
    for split in sorted(set(splits.values())):
        seen = {each.label for each in labelled if splits[each.id] == split}
        bare = [label for label in task.labels if label not in seen]
        tell_classes(f"no {split} image shows", bare, task)
