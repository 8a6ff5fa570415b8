"""Perturbed sets: paired with their parent whatever the workers, a kill or a broken image do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from tests.tiny_garden import import_set, make_task, numbered, picture
from tests.tiny_pipeline import SIDE, build_tiny_pipeline, one_thread

from headwater.decode import decode_rgb
from headwater.errors import InputError, SetError
from headwater.pairs import image_column, read_decisions, read_pairs, to_pairs
from headwater.steps.sets import finish_set, make_parts, sift
from headwater.steps.synthesis.painter import close_painter
from headwater.steps.synthesis.perturb import (
    folder_name,
    paired_pairs,
    perturb,
    perturb_curve,
    prompt_for,
)
from headwater.steps.synthesis.settings import Perturbation
from headwater.store import DONE, WORK, contents, digest_file, read_json, step
from headwater.synthesize.gamma import AUTOENCODER
from headwater.task import Task

SETTINGS: dict[str, Any] = {"source": "found", "size": SIDE, "save_size": None, "steps": 4}

SLOW = f"""
import sys, time, torch
from pathlib import Path
from headwater.steps.synthesis import painter, perturb as verb, retouch
from headwater.steps.synthesis.settings import Perturbation
from headwater.task import load_task

torch.set_num_threads(1)
painter.LEAST = 2
quick = retouch.encode_jpeg
retouch.encode_jpeg = lambda *a, **k: (time.sleep(0.2), quick(*a, **k))[1]
garden, out = map(Path, sys.argv[1:])
how = Perturbation(**{ {**SETTINGS, "gamma": 0.5, "block": 2}!r})
verb.perturb(
    garden / "found", load_task(garden / "garden.yaml"), out, generator=garden / "generator",
    how=how, workers=1,
)
"""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
    close_painter()


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task, the set `found` of ten pairs, and a generator."""
    folder = tmp_path_factory.mktemp("garden")
    import_set(folder / "found", make_task(folder), numbered(400, 5))
    build_tiny_pipeline(folder / "generator")
    return folder


@pytest.fixture(scope="module")
def task(garden: Path) -> Task:
    from headwater.task import load_task

    return load_task(garden / "garden.yaml")


def how(**changes: Any) -> Perturbation:
    return Perturbation(**{**SETTINGS, "gamma": 0.5, "block": 2, **changes})


def run(garden: Path, task: Task, out: Path, **changes: Any) -> Any:
    told = {"generator": garden / "generator", "how": how(), "workers": 1, **changes}
    return perturb(garden / "found", task, out, **told)


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): digest_file(p) for p in contents(folder)}


def set_of(folder: Path, images: dict[str, bytes | None], *, label: str = "rose") -> Path:
    """A set of encoded images by id, as a pool gave them."""
    labels = ["rose", "fern"] if label else [""]
    table = to_pairs(
        pl.DataFrame({"id": list(images), "label": label}).with_columns(
            image_column(list(images.values()), list(images))
        )
    )
    with step(folder, "retrieve", arguments={}) as this:
        make_parts(folder, lambda rows: sift(rows, [None] * len(rows), gate="decodes"), [table],
                   label="", workers=1)  # fmt: skip
        finish_set(this, labels=labels, gates=("found", "decodes"), title="t", story="s")
    return folder


def encoded(image: Image.Image, kind: str) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@contextmanager
def no_rewriting(path: Path) -> Iterator[None]:
    before = path.stat().st_mtime_ns
    yield
    assert path.stat().st_mtime_ns == before


def images_of(folder: Path) -> dict[str, np.ndarray]:
    table = read_pairs(folder, ["id", "image"])
    return {i: decode_rgb(one["bytes"]) for i, one in table.iter_rows()}


def test_it_has_the_pairs_of_its_parent(garden: Path, task: Task, tmp_path: Path) -> None:
    counts = run(garden, task, tmp_path / "g")
    assert counts == {"inherited": 10, "valid": 10}
    told = ["id", "label", "caption", "pool", "url"]
    parent, child = (read_pairs(f, told) for f in (garden / "found", tmp_path / "g"))
    assert parent.equals(child)
    assert read_pairs(tmp_path / "g", ["source"])["source"].unique().to_list() == ["perturbed"]


def test_bytes_depend_neither_on_workers_nor_on_a_kill(
    garden: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is killed in the middle; two others end with the bytes of one that was not."""
    out = tmp_path / "g"
    victim = subprocess.Popen([sys.executable, "-c", SLOW, str(garden), str(out)])
    done = [out / WORK / f"decisions-{part:05d}.parquet" for part in range(5)]
    while not done[1].exists():
        assert victim.poll() is None
        time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not done[4].exists() and not (out / DONE).exists()
    monkeypatch.setattr("headwater.steps.synthesis.painter.LEAST", 2)
    run(garden, task, tmp_path / "whole")
    with no_rewriting(out / "data" / "pairs-00000-of-00005.parquet"):
        run(garden, task, out, workers=2)
    told = digests(out)
    assert sum(name.startswith("data/") for name in told) == 5
    assert told == digests(tmp_path / "whole")


def test_images_of_any_kind_and_shape(garden: Path, task: Task, tmp_path: Path) -> None:
    photo = picture(7)
    wide, tall = photo.resize((90, 20)), photo.resize((3, 300))
    shapes = {
        "w:webp": encoded(photo, "WEBP"), "w:cmyk": encoded(photo.convert("CMYK"), "JPEG"),
        "w:gray": encoded(photo.convert("L"), "PNG"), "w:wide": encoded(wide, "PNG"),
        "w:tall": encoded(tall, "JPEG"), "w:dot": encoded(photo.resize((1, 1)), "PNG"),
        "w:clear": encoded(photo.convert("RGBA"), "PNG"),
    }  # fmt: skip
    parent = set_of(tmp_path / "found", shapes)
    for gamma in (0, AUTOENCODER, 0.5):
        out = tmp_path / f"{gamma}"
        perturb(parent, task, out, generator=garden / "generator", how=how(gamma=gamma))
        made = images_of(out)
        assert list(made) == list(shapes)
        assert {image.shape for image in made.values()} == {(SIDE, SIDE, 3)}
    left = images_of(tmp_path / "0")["w:wide"]
    assert (left[:10] > 240).all()  # a wide image lies on white


def test_a_set_without_labels_is_prompted_without_a_class(
    garden: Path, task: Task, tmp_path: Path
) -> None:
    drawn = set_of(tmp_path / "drawn", {"w:1": encoded(picture(1), "PNG")}, label="")
    counts = perturb(drawn, task, tmp_path / "g", generator=garden / "generator", how=how())
    assert counts == {"inherited": 1, "valid": 1}
    assert read_pairs(tmp_path / "g", ["label"])["label"].to_list() == [""]
    named = set_of(tmp_path / "named", {"w:1": encoded(picture(1), "PNG")})
    perturb(named, task, tmp_path / "h", generator=garden / "generator", how=how())
    one, other = images_of(tmp_path / "g")["w:1"], images_of(tmp_path / "h")["w:1"]
    assert not np.array_equal(one, other)


def test_a_prompt_may_lack_its_class() -> None:
    told = {"a photo of {}": "a photo", "a photo of {a} {c}, outdoors": "a photo",
            "a close-up of the {}": "a close-up", "{}, drawn": ""}  # fmt: skip
    assert {template: prompt_for("", {}, template) for template in told} == told


def test_a_broken_image_is_a_decision_and_takes_none_with_it(
    garden: Path, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {f"w:{n}": encoded(picture(n), "PNG") for n in range(3)}
    parent = set_of(tmp_path / "found", {**images, "w:1": b"<html>"})
    counts = perturb(parent, task, tmp_path / "g", generator=garden / "generator", how=how())
    assert counts == {"inherited": 3, "valid": 2}
    dropped = read_decisions(tmp_path / "g").filter(~pl.col("kept"))
    assert dropped.select("id", "step", "reason").rows() == [("w:1", "valid", "not an image")]
    assert "1 of 3 images came out broken at 0.5" in capsys.readouterr().err


def test_the_sets_of_a_curve_are_paired_where_all_are_valid(
    garden: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gammas = [0, AUTOENCODER, 0.25, "1"]
    told = {"generator": garden / "generator", "how": how(), "workers": 1}
    made = perturb_curve(garden / "found", task, tmp_path, gammas=gammas, **told)
    assert list(made) == ["gamma=0", "gamma=autoencoder", "gamma=0.25", "gamma=1"]
    folders = [tmp_path / name for name in made]
    assert len(paired_pairs(folders)) == 10
    away = [np.abs(_stack(folder) - _stack(folders[0])).mean() for folder in folders]
    assert away[0] == 0 < away[1] < away[3] and away[2] < away[3]
    with pytest.raises(SetError, match="is a set: "):
        perturb_curve(garden / "found", task, folders[0], gammas=[0.5], **told)


def _stack(folder: Path) -> np.ndarray:
    return np.stack(list(images_of(folder).values())).astype(float)


def test_a_pair_that_breaks_at_one_gamma_is_paired_at_none(
    garden: Path, task: Task, tmp_path: Path
) -> None:
    whole = set_of(tmp_path / "a", {"w:1": encoded(picture(1), "PNG"), "w:2": b""})
    folders = []
    for name, parent in (("whole", garden / "found"), ("part", whole)):
        folders.append(tmp_path / name)
        perturb(parent, task, folders[-1], generator=None, how=how(gamma=0))
    assert paired_pairs(folders[1:]).rows() == [("w:1", "rose")]
    assert paired_pairs(folders).rows() == []


def test_sets_that_cannot_be_perturbed_are_refused(
    garden: Path, task: Task, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"gamma 0\.5 needs a generator"):
        run(garden, task, tmp_path / "a", generator=None)
    other = Task.model_validate({"format": 1, "name": "other", "classes": ["rose", "oak"]})
    with pytest.raises(SetError, match="not made for the classes of task other"):
        run(garden, other, tmp_path / "b")
    with pytest.raises(InputError, match="prompt without a class"):
        run(garden, task, tmp_path / "c", how=how(prompt="a photo"))
    assert not any(tmp_path.iterdir())


def test_a_set_of_urls_is_refused(garden: Path, task: Task, tmp_path: Path) -> None:
    waiting = to_pairs(pl.DataFrame({"id": ["w:1"], "label": ["rose"], "url": ["http://x/1.jpg"]}))
    with step(tmp_path / "found", "retrieve", arguments={}) as this:
        make_parts(tmp_path / "found", lambda rows: sift(rows, [None], gate="safe"), [waiting],
                   label="", workers=1)  # fmt: skip
        finish_set(this, labels=task.labels, gates=("safe", "decodes"), title="t", story="s",
                   waiting=True)  # fmt: skip
    with pytest.raises(SetError, match=r"pairs that are URLs only.*saw 1 pairs without.*Download"):
        perturb(tmp_path / "found", task, tmp_path / "g", generator=None, how=how(gamma=0))


def test_a_set_refuses_another_gamma_and_keeps_what_is_done(
    garden: Path, task: Task, tmp_path: Path
) -> None:
    run(garden, task, tmp_path / "g", how=how(gamma=0))
    before = digests(tmp_path / "g")
    run(garden, task, tmp_path / "g", how=how(gamma="0"))
    assert digests(tmp_path / "g") == before
    with pytest.raises(SetError, match=r"arguments\.gamma autoencoder, saw 0"):
        run(garden, task, tmp_path / "g", how=how(gamma=AUTOENCODER))


def test_what_it_cost_is_told(garden: Path, task: Task, tmp_path: Path) -> None:
    run(garden, task, tmp_path / "g")
    costs = pl.read_parquet(tmp_path / "g" / "cost.parquet")
    assert costs["images"].sum() == 10
    assert costs["device"].unique().to_list() == ["cpu"]
    assert costs["seconds"].min() > 0
    assert read_json(tmp_path / "g" / "pixels.json")["images"] == 10


def test_a_folder_is_called_by_its_gamma() -> None:
    assert [folder_name(g) for g in (0.0, 0.30, 1.0)] == ["gamma=0", "gamma=0.3", "gamma=1"]


def test_blocks_that_do_not_fit_are_on_record(
    garden: Path,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decode = AutoencoderKL.decode

    def small(self: AutoencoderKL, latents: torch.Tensor, **settings: Any) -> Any:
        if len(latents) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return decode(self, latents, **settings)

    monkeypatch.setattr("headwater.steps.synthesis.painter.LEAST", 4)
    monkeypatch.setattr(AutoencoderKL, "decode", small)
    counts = run(garden, task, tmp_path / "g", how=how(block=4))
    assert counts == {"inherited": 10, "valid": 10, "halved": 3}
    told = read_json(tmp_path / "g" / "blocks.json")
    assert (told["block"], told["blocks"]) == (4, [[0, 2]])
    assert "memory made blocks smaller 3 times" in capsys.readouterr().err
    monkeypatch.undo()
    run(garden, task, tmp_path / "h", how=how(block=2))
    one, other = images_of(tmp_path / "g"), images_of(tmp_path / "h")
    assert all(np.array_equal(one[name], other[name]) for name in one)
