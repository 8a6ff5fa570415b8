"""The copy descriptor that needs no weights: a copy's inner product with its original is high.

Cropping is what makes copies hard, so a picture is seen through many windows, as it is and in the
mirror: a crop of a picture shares some of them with it. Every window becomes edges and colors
pooled in cells, a vector z of length one or less; the descriptor is the sum over windows of

    f(z) = (cos(w_1 z), ..., sin(w_1 z), ...),    w random normal with variance SHARPNESS

scaled to length one. Since f(y) f(z) is about exp(-SHARPNESS |y - z|^2 / 2) (random Fourier
features, Rahimi and Recht 2007), the inner product of two descriptors counts the pairs of windows
that look alike and hardly anything else, and does not change when either picture is mirrored.

Copies are looked for in curate/copies.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from headwater.descriptors.descriptor import Descriptor
from headwater.descriptors.pictures import Floats, Images, Pixels, as_rgb, in_blocks
from headwater.store import digest_value

VERSION = 1
"""To be raised whenever the numbers change without one of the constants below."""

DIMENSIONS = 1024
COPY_THRESHOLD = 0.2
"""Copies lie above. Of 5,288 comparisons of another photograph (Flickr8k, Tiny ImageNet) with 200
to 600 references, 4 do. Of 1,900 such photographs re-encoded at quality 30, halved, squashed,
mirrored, made 15 % brighter or more colorful, black and white, or cropped by 10 % off the centre,
at least 99 % do; cropped by 15 % at a corner, 58 %. Of 75 labelled candidates all 38 copies do and
none of the 37 others (lowest copy 0.485, highest other 0.159). Textures are harder (DTD: 2 % of
others do, 87 % or more of crops), and pictures alike by their making (one product in one pose, one
digit) need their own: `headwater.curate.calibration.calibrate_threshold`. The bounds that
tests/real/test_copies_real.py holds are looser: 95 % and 2 %."""

WINDOWS = {1.0: 1, 0.93: 2, 0.87: 3, 0.8: 3, 0.73: 1}
"""Side of the windows, as a share of the picture's, and how many stand along each side of it."""

SIDE = 32  # pixels a picture is shrunk to
CELLS = 8  # along a window's side
PLANES = 6  # edges to the right, down, left, up; blue, red
MIRRORED = (2, 1, 0, 3, 4, 5)  # right and left change places in the mirror
SHARPNESS = 11.0
COLOR = 0.2  # of |z|^2; more would tell more pictures apart, but miss black-and-white copies
SPREAD = 2.0  # pixels that contrast is evened out over
NOISE = 6.0  # gray levels: edges much weaker are noise and stay weak
FAINT = 2.0  # the same for colors
BLOCK = 64
"""Pictures described at once, the last block filled up: how a matrix product rounds may change with
the number of its rows, and a picture's row must not depend on the pictures beside it."""


def builtin_descriptor() -> Descriptor:
    """The descriptor as the others are given; its digest changes with its numbers.

    Example:
        >>> builtin_descriptor().name
        'builtin'
    """
    digest = f"builtin-{VERSION}-{digest_value(_parameters())}"
    return Descriptor("builtin", COPY_THRESHOLD, digest, describe)


def _parameters() -> list[object]:
    """All constants that decide a row."""
    shapes = [DIMENSIONS, list(WINDOWS.items()), SIDE, CELLS, PLANES, MIRRORED]
    return [*shapes, SHARPNESS, COLOR, SPREAD, NOISE, FAINT]


def describe(images: Images) -> Floats:
    """Descriptors of pictures; the inner product of two says how alike the pictures are.

    A picture that is not square is seen twice, squashed to a square and cut to its middle square,
    so that a copy of either shape is known again.

    Args:
        images: PIL images, or uint8 arrays (h, w, 3), of any sizes; a generator will do.

    Returns:
        (n, 1024) float32, L2-normalized; about 1 for a picture re-encoded or resized, about 0 for
        another picture. `COPY_THRESHOLD` is where copies begin.

    Raises:
        InputError: something that is no picture.

    Example:
        >>> photo = np.random.default_rng(0).integers(256, size=(8, 12, 3)).astype(np.uint8)
        >>> large = photo.repeat(9, axis=0).repeat(9, axis=1)
        >>> copy, other = large[5:, -4:3:-1], large.transpose(1, 0, 2)  # cropped, mirrored
        >>> a, b, c = describe([large, copy, other])
        >>> bool(a @ b > COPY_THRESHOLD > a @ c)
        True
    """
    blocks = [_describe(squares) for squares in in_blocks(map(_squares, images), BLOCK)]
    return np.concatenate([np.zeros((0, DIMENSIONS), np.float32), *blocks])


def _squares(image: Image.Image | Pixels) -> list[Pixels]:
    """A picture squashed to a square, and its middle square if that is another."""
    picture = as_rgb(image)
    boxes: list[tuple[float, float, float, float]] = [(0, 0, *picture.size)]
    if picture.width != picture.height:
        boxes.append(_middle(picture))
    return [_shrink(picture, box) for box in boxes]


def _describe(squares: list[list[Pixels]]) -> Floats:
    seen = _see(np.stack([whole for whole, *_ in squares]))
    oblong = [row for row, both in enumerate(squares) if len(both) == 2]
    if oblong:
        seen[oblong] += _see(np.stack([squares[row][1] for row in oblong]))
    return np.asarray(seen / np.linalg.norm(seen, axis=1, keepdims=True), np.float32)


def _middle(image: Image.Image) -> tuple[float, float, float, float]:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def _shrink(image: Image.Image, box: tuple[float, float, float, float]) -> Pixels:
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(small)


def _see(pixels: Pixels) -> Floats:
    """The sum of f over all windows, not scaled: (n, SIDE, SIDE, 3) to (n, DIMENSIONS)."""
    whole = np.zeros((BLOCK, *pixels.shape[1:]), np.float32)
    whole[: len(pixels)] = pixels
    seen = np.zeros((BLOCK, 2, DIMENSIONS // 2), np.float32)
    for z in _windows(_planes(whole)):
        for waves in _waves():
            angles = z @ waves
            seen[:, 0] += np.cos(angles)
            seen[:, 1] += np.sin(angles)
    return seen.reshape(BLOCK, DIMENSIONS)[: len(pixels)]


def _planes(pixels: Floats) -> Floats:
    """What is looked at in a picture: (n, PLANES, SIDE, SIDE)."""
    gray = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    colors = (pixels[..., 2] - gray, pixels[..., 0] - gray)
    return np.concatenate([_edges(gray), np.stack(colors, axis=1)], axis=1)


def _edges(gray: Floats) -> Floats:
    """How steeply brightness rises to the right, down, left and up: (n, 4, SIDE, SIDE).

    Relative to the contrast around, so that faint parts of a picture count as strong ones do.
    """
    across, down = np.zeros_like(gray), np.zeros_like(gray)
    across[:, :, 1:-1] = gray[:, :, 2:] - gray[:, :, :-2]
    down[:, 1:-1] = gray[:, 2:] - gray[:, :-2]
    strength = np.hypot(across, down)
    blur = _bells(0, 1, SIDE, SPREAD)
    around = blur @ strength @ blur.T + 0.2 * strength.mean(axis=(1, 2), keepdims=True) + NOISE
    across, down = across / around, down / around
    return np.asarray(np.maximum(np.stack([across, down, -across, -down], axis=1), 0))


def _windows(planes: Floats) -> Iterator[Floats]:
    """The z of every window: rows (n, PLANES x CELLS x CELLS), all zero for a blank picture."""
    for side, count in WINDOWS.items():
        starts = np.linspace(0, 1 - side, count) if count > 1 else [(1 - side) / 2]
        pools = [_bells(start, side, CELLS, 0.5 * side * SIDE / CELLS) for start in starts]
        for rows in pools:
            pooled = rows @ planes
            for columns in pools:
                yield _weigh(np.asarray(pooled @ columns.T, np.float32))


def _weigh(cells: Floats) -> Floats:
    """Edges and colors each scaled to their share of |z|^2, strong edges damped."""
    edges = cells[:, :4] / np.maximum(cells[:, :4].mean(axis=(1, 2, 3), keepdims=True), 1e-6)
    edges = _centered(np.sqrt(edges + 0.02))
    colors = _centered(cells[:, 4:])
    edges *= np.sqrt(1 - COLOR) / np.maximum(_length(edges), 1e-6)
    colors *= np.sqrt(COLOR) / (_length(colors) + FAINT * np.sqrt(2) * CELLS)
    return np.concatenate([edges, colors], axis=1).reshape(len(cells), -1)


def _centered(cells: Floats) -> Floats:
    return np.asarray(cells - cells.mean(axis=(2, 3), keepdims=True))


def _length(cells: Floats) -> Floats:
    return np.asarray(np.sqrt(np.square(cells).sum(axis=(1, 2, 3), keepdims=True)))


@cache
def _bells(start: float, length: float, count: int, width: float) -> Floats:
    """`count` bell curves, evenly over a stretch of the side, each of sum 1: (count, SIDE)."""
    centers = (start + (np.arange(count) + 0.5) * length / count) * SIDE - 0.5
    bells = np.exp(-0.5 * ((np.arange(SIDE) - centers[:, None]) / width) ** 2)
    return np.asarray(bells / bells.sum(axis=1, keepdims=True), np.float32)


@cache
def _waves() -> tuple[Floats, Floats]:
    """The random w (PLANES x CELLS x CELLS, DIMENSIONS / 2), and the same for mirrored pictures."""
    shape = (PLANES, CELLS, CELLS, DIMENSIONS // 2)
    waves = np.random.default_rng(0).normal(0, np.sqrt(SHARPNESS), shape).astype(np.float32)
    flat = PLANES * CELLS * CELLS, DIMENSIONS // 2
    mirrored = np.ascontiguousarray(waves[list(MIRRORED)][:, :, ::-1])
    return waves.reshape(flat), mirrored.reshape(flat)
