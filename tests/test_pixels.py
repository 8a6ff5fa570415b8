"""The one pixel path: what goes in differs in size, padding and codec, what comes out does not."""

from __future__ import annotations

import io
import os
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headwater.clip import resize_images
from headwater.curate.pixels import (
    LOOK_SCHEMA,
    Look,
    as_it_came,
    inner,
    one_path,
    padding,
    summarize,
)
from headwater.decode import decode_rgb, encode_jpeg, encode_png, open_rgb
from headwater.errors import DecodeError

DATA = Path(os.environ.get("HEADWATER_DATA", Path(__file__).parents[2] / "shared" / "data"))


def photo(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Soft blots on a mid-gray, as a photograph has them."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 200, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def padded(picture: Image.Image, side: int, color: str = "white") -> Image.Image:
    """In the middle of a square, as img2dataset's `border` mode leaves it."""
    square = Image.new("RGB", (side, side), color)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def saved(picture: Image.Image, codec: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, codec, **options)
    return buffer.getvalue()


def whole(picture: Image.Image) -> tuple[int, int, int, int]:
    return (0, 0, *picture.size)


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP"])
def test_every_image_comes_out_alike(codec: str) -> None:
    data = saved(photo(90, 60), codec)
    passed = one_path(data, size=32)
    assert passed.before == Look(90, 60, codec, len(data), 0)
    assert passed.after == Look(32, 32, "JPEG", len(passed.data), 0)
    assert open_rgb(passed.data).size == (32, 32)


def test_the_path_is_the_models_geometry_and_one_codec() -> None:
    data = encode_png(np.asarray(photo(90, 60)))
    square = resize_images([decode_rgb(data)], 32)[0]
    assert one_path(data, size=32, quality=80).data == encode_jpeg(square, quality=80)
    assert one_path(data, size=32, quality=80) == one_path(data, size=32, quality=80)


def test_the_reference_leaves_bytes_alone() -> None:
    data = saved(padded(photo(80, 40), 80))
    passed = as_it_came(data)
    assert passed.data == data
    assert (
        passed.before
        == passed.after
        == Look(80, 80, "JPEG", len(data), pytest.approx(0.5, abs=0.05))
    )


@pytest.mark.parametrize("path", [one_path, as_it_came])
def test_what_does_not_decode_says_why(path: object) -> None:
    assert callable(path)
    with pytest.raises(DecodeError, match="not an image"):
        path(b"<html>")


@pytest.mark.parametrize("color", ["white", "black", "#777700"])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_padding_is_seen_through_jpeg_noise(color: str, quality: int) -> None:
    data = saved(padded(photo(128, 72), 128, color), quality=quality)
    left, top, right, bottom = inner(open_rgb(data))
    assert (left, right) == (0, 128)
    assert abs(top - 28) <= 2
    assert abs(bottom - 100) <= 2


def test_padding_is_taken_off_and_told() -> None:
    picture = photo(128, 72)
    bare, bordered = one_path(saved(picture, "PNG")), one_path(saved(padded(picture, 128), "PNG"))
    assert bordered.before.padding == pytest.approx(1 - 72 / 128, abs=0.03)
    assert bordered.after.padding == 0
    difference = np.abs(decode_rgb(bare.data).astype(int) - decode_rgb(bordered.data))
    assert difference.mean() < 4


def test_a_narrow_frame_is_padding_on_all_sides() -> None:
    framed = Image.new("RGB", (100, 100), "white")
    framed.paste(photo(80, 80), (10, 10))
    assert inner(framed) == (11, 11, 89, 89)


@given(st.integers(8, 80), st.integers(8, 80), st.integers(0, 3))
def test_what_lies_within_the_padding_is_the_picture(width: int, height: int, seed: int) -> None:
    side = max(width, height)
    left, top, right, bottom = inner(padded(photo(width, height, seed=seed), side))
    x, y = (side - width) // 2, (side - height) // 2
    found = (left, top, right, bottom)
    smeared = (x and x + 1, y and y + 1, x + width - (x > 0), y + height - (y > 0))
    assert found in (smeared, (0, 0, side, side))
    thin, thick = min(x or side, y or side), max(x, y)
    if thin >= max(2, 0.05 * side) and thick and 2 * thick + 2 < 0.6 * side:
        assert found == smeared


def thing_on_white(seed: int) -> Image.Image:
    """A round thing in the middle of white paper, its ends at the same distance from the edges."""
    y, x = np.mgrid[-1:1:100j, -1:1:100j]
    paper = np.full((100, 100, 3), 255, np.uint8)
    paper[(x / 0.99) ** 2 + (y / 0.6) ** 2 < 1] = np.random.default_rng(seed).integers(0, 200, 3)
    return Image.fromarray(paper)


def striped() -> Image.Image:
    rows = np.where((np.arange(120) // 10) % 2 == 0, 250, 20)
    rows = np.append(rows, rows[:10])
    return Image.fromarray(np.broadcast_to(rows[:, None, None], (130, 130, 3)).astype(np.uint8))


def sky(height: int) -> Image.Image:
    """White sky above, snow below, unequal."""
    picture = Image.new("RGB", (100, 100), "white")
    picture.paste(photo(100, height), (0, 70 - height))
    return picture


@pytest.mark.parametrize(
    "picture",
    [thing_on_white(0), striped(), sky(50), photo(80, 60), Image.new("RGB", (50, 50), "white"),
     padded(photo(90, 10), 90), photo(1, 1), photo(2, 90)],
    ids=["thing", "stripes", "sky", "photo", "blank", "line", "dot", "pole"],
)  # fmt: skip
def test_what_is_no_padding_stays(picture: Image.Image) -> None:
    assert inner(picture) == whole(picture)
    assert padding(picture, inner(picture)) == 0
    assert one_path(saved(picture, "PNG"), size=16).before.padding == 0


def test_the_path_goes_to_worker_processes() -> None:
    work = pickle.loads(pickle.dumps(partial(one_path, size=16, quality=90)))
    data = saved(photo(20, 30))
    assert work(data) == one_path(data, size=16, quality=90)
    assert pickle.loads(pickle.dumps(work(data))) == work(data)


def looks(*rows: Look) -> pl.Series:
    return pl.Series([row._asdict() for row in rows], dtype=pl.Struct(LOOK_SCHEMA))


def test_what_a_set_was_like() -> None:
    came = [
        Look(100, 200, "JPEG", 20_000, 0.0),
        Look(200, 200, "JPEG", 20_000, 0.5),
        Look(300, 300, "PNG", 270_000, 0.25),
        Look(400, 400, "WEBP", 16_000, 0.0),
    ]
    after = looks(*[Look(64, 64, "JPEG", 4096, 0.0)] * 4)
    told = summarize(pl.DataFrame({"before": looks(*came), "after": after}))
    assert told["images"] == 4
    assert told["before"] == {
        "short_side": {"p5": 115.0, "median": 250.0, "p95": 385.0},
        "not_square": 0.25,
        "padded": 0.5,
        "padding": 0.375,
        "codecs": {"JPEG": 0.5, "PNG": 0.25, "WEBP": 0.25},
        "bytes_per_pixel": 0.75,
    }
    assert told["after"]["codecs"] == {"JPEG": 1.0}
    assert told["after"]["padding"] is None


def test_an_empty_set_can_be_told_of() -> None:
    told = summarize(pl.DataFrame({"before": looks(), "after": looks()}))
    assert told["images"] == 0
    assert told["before"]["codecs"] == {}
    assert told["before"]["padded"] is None


@pytest.mark.skipif(not DATA.exists(), reason="no shared data")
@pytest.mark.parametrize("task", ["clothing", "tiny20"])
def test_photographs_keep_their_edges(task: str) -> None:
    paths = sorted((DATA / "tasks" / task / "train").rglob("*.*"))
    found = [
        padding(picture, inner(picture)) > 0
        for picture in (open_rgb(path.read_bytes()) for path in paths)
    ]
    assert len(found) > 500
    assert np.mean(found) < 0.01  # some photographs do have a frame
