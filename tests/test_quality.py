"""What images are like by themselves, on pictures one can picture and against a plain version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from headwater.curate.quality import LUMA, aspects, sharpness, short_sides


def plain_sharpness(image: np.ndarray) -> float:
    gray = image.astype(np.float64) @ LUMA.astype(np.float64)
    seen = [
        gray[y - 1, x] + gray[y + 1, x] + gray[y, x - 1] + gray[y, x + 1] - 4 * gray[y, x]
        for y in range(1, gray.shape[0] - 1)
        for x in range(1, gray.shape[1] - 1)
    ]
    return float(np.var(seen))


@given(
    st.tuples(st.integers(3, 9), st.integers(3, 9)).flatmap(
        lambda size: arrays(np.uint8, (*size, 3))
    )
)
def test_sharpness_is_the_variance_of_the_laplacian(image: np.ndarray) -> None:
    assert sharpness(image) == pytest.approx(plain_sharpness(image), rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("shape", [(2, 9, 3), (9, 1, 3), (2, 2, 3)])
def test_an_image_without_an_inside_has_no_sharpness(shape: tuple[int, int, int]) -> None:
    assert np.isnan(sharpness(np.zeros(shape, np.uint8)))


def board(side: int, squares: int = 8) -> Image.Image:
    small = np.indices((squares, squares)).sum(axis=0) % 2 * 255
    return Image.fromarray(small.astype(np.uint8)).convert("RGB").resize((side, side), 0)


def test_a_blurred_picture_is_less_sharp() -> None:
    sharp = board(64)
    soft = sharp.resize((16, 16), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BICUBIC)
    assert sharpness(np.asarray(soft)) < 0.5 * sharpness(np.asarray(sharp))


def test_sharpness_compares_images_of_one_size_only() -> None:
    """The same picture twice as large is the same picture, and scores lower."""
    small = np.asarray(board(64).resize((64, 64), Image.Resampling.BICUBIC))
    large = np.asarray(Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC))
    assert sharpness(large) < 0.5 * sharpness(small)


def test_color_alone_is_no_edge() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = (0, 100, 0)
    image[:, 4:] = (196, 0, 0)  # as bright: 0.299 * 196 = 0.587 * 100, nearly
    assert sharpness(image) < 0.1


def test_sizes_as_they_came() -> None:
    width, height = [640, 3, np.nan], [480, 4, 5]
    assert short_sides(width, height).tolist() == pytest.approx([480, 3, np.nan], nan_ok=True)
    assert aspects(width, height).tolist() == pytest.approx([0.75, 0.75, np.nan], nan_ok=True)


def test_an_image_of_no_size_has_no_aspect() -> None:
    assert np.isnan(aspects([0], [0])).all()
