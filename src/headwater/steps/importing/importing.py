"""`import`: images somebody made elsewhere become a set like any other.

Reads an ImageFolder, one folder a class; captions are taken from `captions.json`
({"rose/1.png": "a red rose"}) or from `NAME.txt` beside an image, where there are any.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from headwater.errors import SetError, plain
from headwater.pairs import check_namespace, image_column, sha256_of
from headwater.pool.layouts import leads_out
from headwater.splits import class_folders, image_files
from headwater.steps.sets import Part, finish_set, make_parts, sift_decodable
from headwater.store import Json, digest_file, digest_value, step
from headwater.task import Task

GATES = ("found", "decodes")
SHARD = 1000  # images a shard


def import_images(
    folder: Path,
    task: Task,
    out: Path,
    *,
    name: str = "imported",
    engine: str = "local",
    workers: int | None = None,
) -> Json:
    """Make the set `out` of the images in `folder`.

    Args:
        folder: one folder a class, called by its label or its name.
        task: whose classes they are.
        out: the new set's folder.
        name: the namespace of the ids, and the source they are known by.
        engine, workers: what runs side by side, as `run_shards` takes them.

    Returns:
        Images left after each gate.

    Raises:
        TaskError: a folder that is no class of the task.
        SetError: no such folder, or one without images.
    """
    check_namespace(name)
    rows = list_images(folder, task)
    files = [[path.relative_to(folder).as_posix(), digest_file(path)] for path, _ in rows]
    inputs = {"images": digest_value(files), "task": task.digest}
    with step(out, "import", arguments={"name": name}, inputs=inputs) as this:
        if not this.finished:
            captions = read_captions(folder)
            jobs = [
                (folder, name, rows[i : i + SHARD], captions) for i in range(0, len(rows), SHARD)
            ]
            label = "importing images"
            make_parts(out, _part, jobs, label=label, engine=engine, workers=workers)
            story = f"Images made elsewhere, imported as {name} for the task {task.name}."
            title = f"{task.name}: {name}"
            finish_set(this, labels=task.labels, gates=GATES, title=title, story=story)
        return this.counts


def list_images(folder: Path, task: Task) -> list[tuple[Path, str]]:
    """Image files with their labels, in the order of the labels."""
    if not folder.is_dir():
        raise SetError("nothing to import", expected=f"a folder {folder}", seen="nothing there")
    rows = [
        (path, task.labels[index])
        for sub, index in class_folders(folder, task)
        for path in image_files(sub)
    ]
    if not rows:
        raise SetError(
            f"no images in {folder}", expected="one folder a class with images in it",
            seen="none",
        )  # fmt: skip
    return rows


def read_captions(folder: Path) -> dict[str, str]:
    """The captions of `captions.json`, by path inside the folder; none where there is no file."""
    path = folder / "captions.json"
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetError("cannot read captions.json", expected="JSON", seen=str(error)) from None
    if not isinstance(value, dict):
        raise SetError("captions.json is not a mapping", expected='{"rose/1.png": "a red rose"}')
    captions = {key: text for key, text in value.items() if text is not None}
    odd = next((key for key, text in captions.items() if not isinstance(text, str)), None)
    if odd is not None:
        seen = f"{json.dumps(captions[odd])[:40]} for {odd}"
        raise SetError("captions.json holds what is no caption", expected="a text", seen=seen)
    # JSON can hold halves of characters, which no table can.
    return {key: text.encode("utf-8", "replace").decode() for key, text in captions.items()}


def _part(job: tuple[Path, str, list[tuple[Path, str]], dict[str, str]]) -> Part:
    folder, name, rows, captions = job
    data = [path.read_bytes() for path, _ in rows]
    inside = [path.relative_to(folder).as_posix() for path, _ in rows]
    pairs = pl.DataFrame(
        {
            "id": [f"{name}:{p}" for p in inside],
            "label": [label for _, label in rows],
            "image": image_column(data, [path.name for path, _ in rows]),
            "caption": [captions.get(p) or _beside(folder, p) for p in inside],
            "sha256": [sha256_of(d) for d in data],
        },
        schema_overrides={"caption": pl.String},
    ).with_columns(source=pl.lit(name), pool=pl.lit(name), found_by=pl.lit("import"))
    return sift_decodable(pairs, gate="decodes")


def _beside(folder: Path, image: str) -> str | None:
    """The text of `NAME.txt` beside an image; a link that leads out of the folder is not read."""
    text = (folder / image).with_suffix(".txt")
    if not text.is_file() or leads_out(str(folder), text.relative_to(folder).as_posix()):
        return None
    return plain(text.read_text(encoding="utf-8", errors="replace"))
