"""How the miniature world shows a scan: the task's own kind of picture, and all the others.

`show` photographs one scan in one context. The task's kind is `PLAIN`: one upright digit in
white chalk on a blackboard. What is written under the pictures is told in `wording.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headwater.miniature.scans import SIZE, Floats, render

Pixels = NDArray[np.uint8]
Draw = Callable[[Floats, int, np.random.Generator], Floats]

PLAIN = "plain"
JUNK = "junk"
SHARES = {  # of the pool; like the web, most of it is not the task
    PLAIN: 0.085,
    "red": 0.055,
    "green": 0.055,
    "blue": 0.055,
    "yellow": 0.055,
    "inverted": 0.11,
    "upside-down": 0.07,
    "sideways": 0.06,
    "striped": 0.08,
    "crowded": 0.09,
    "several": 0.10,
    "small": 0.08,
    JUNK: 0.105,
}
HOLES = ((7, "red"), (4, "upside-down"))  # (digit, context) that upstream never shows

INKS = {
    "red": (225, 45, 40),
    "green": (60, 190, 75),
    "blue": (70, 110, 235),
    "yellow": (235, 205, 60),
}
FILL = 0.84  # of the picture's side that a digit takes
SMUDGE = 40.0  # grey levels between a clean place on the board and a chalky one
SEVERAL = 3  # scans a picture of several digits is made of, at most


def show(context: str, scans: Floats, rng: np.random.Generator, *, size: int = SIZE) -> Pixels:
    """Photograph `scans` (at least SEVERAL, 8, 8) in `context`: (size, size, 3) uint8.

    All contexts but "several" show the first scan; "crowded" scatters the others behind it.

    Example:
        >>> from headwater.miniature.scans import all_scans
        >>> show("red", all_scans().pixels[:3], np.random.default_rng(0)).shape
        (32, 32, 3)
    """
    picture = DRAWINGS[context](scans, size, rng)
    lit = picture * _light(size, rng)[..., None] + rng.normal(0, 4, (size, size, 1))
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def _plain(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    return _chalk(_digit(scans[0], size, rng), size, rng)


def _inked(color: str) -> Draw:
    def draw(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
        ink = np.array(INKS[color]) + rng.uniform(-20, 20, 3)
        return _paint(_digit(scans[0], size, rng), ink, _board(size, rng))

    return draw


def _inverted(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    return _paint(_digit(scans[0], size, rng), _dark(rng), _white(rng))


def _turned(quarters: int) -> Draw:
    def draw(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
        return _chalk(np.rot90(_digit(scans[0], size, rng), quarters), size, rng)

    return draw


def _striped(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    stripes = _waves(size, rng)[..., None] * rng.uniform(60, 150, 3)
    return _paint(_digit(scans[0], size, rng), _white(rng), stripes)


def _crowded(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    behind = np.zeros((size, size))
    for other in np.repeat(scans[1:], 2, axis=0):
        scrap = np.rot90(render(other, size // 2), int(rng.integers(4)))
        behind = np.maximum(behind, _placed(scrap, size, rng))
    board = _paint(0.45 * behind, _white(rng), _board(size, rng))
    return _paint(_digit(scans[0], size, rng), _white(rng), board)


def _several(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    count = int(rng.integers(2, SEVERAL + 1))
    side = size // 2
    corners = [(0, 0), (0, side), (side, 0), (side, side)]
    ink = np.zeros((size, size))
    down = int(rng.integers(0, side + 1)) if count == 2 else 0
    for scan, (top, left) in zip(scans[:count], corners, strict=False):
        ink[top + down : top + down + side, left : left + side] = render(scan, side)
    return _chalk(ink, size, rng)


def _small(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    ink = render(scans[0], int(size * rng.uniform(0.3, 0.45)))
    return _chalk(_placed(ink, size, rng), size, rng)


def _junk(scans: Floats, size: int, rng: np.random.Generator) -> Floats:
    del scans  # no digit here
    colors = rng.uniform(0, 255, (2, 3))
    masks = (_waves, _disc, _box, _blots)
    return _paint(masks[rng.integers(len(masks))](size, rng), colors[0], colors[1])


DRAWINGS: dict[str, Draw] = {
    PLAIN: _plain,
    **{color: _inked(color) for color in INKS},
    "inverted": _inverted,
    "upside-down": _turned(2),
    "sideways": _turned(1),
    "striped": _striped,
    "crowded": _crowded,
    "several": _several,
    "small": _small,
    JUNK: _junk,
}


def _digit(scan: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Ink of one upright digit, near the middle: (size, size) in 0..1."""
    side = round(size * FILL)
    slack = size - side
    top, left = np.clip(slack // 2 + rng.integers(-1, 2, 2), 0, slack)
    ink = np.zeros((size, size))
    ink[top : top + side, left : left + side] = render(scan, side)
    return ink


def _placed(ink: Floats, size: int, rng: np.random.Generator) -> Floats:
    side = len(ink)
    top, left = rng.integers(0, size - side + 1, 2)
    page = np.zeros((size, size))
    page[top : top + side, left : left + side] = ink
    return page


def _chalk(ink: Floats, size: int, rng: np.random.Generator) -> Floats:
    return _paint(ink, _white(rng), _board(size, rng))


def _paint(ink: Floats, color: Floats, paper: Floats) -> Floats:
    """Mix a color (3,) into paper (3,) or (size, size, 3) where the ink (size, size) is."""
    return np.asarray(paper + (color - paper) * ink[..., None])


def _white(rng: np.random.Generator) -> Floats:
    return np.full(3, rng.uniform(190, 245))


def _dark(rng: np.random.Generator) -> Floats:
    return np.full(3, rng.uniform(15, 55))


def _board(size: int, rng: np.random.Generator) -> Floats:
    """A blackboard (size, size, 3), badly wiped: no two are alike, as no two photographs are."""
    smudges = render(rng.uniform(0, 1, (5, 5)), size) - 0.5
    return np.asarray(_dark(rng) + SMUDGE * smudges[..., None])


def _light(size: int, rng: np.random.Generator) -> Floats:
    """Uneven light: a gentle slope of brightness in some direction, (size, size) about 1."""
    across, down = rng.uniform(-0.12, 0.12, 2)
    line = np.linspace(-1, 1, size)
    return np.asarray(1 + across * line[None, :] + down * line[:, None])


def _waves(size: int, rng: np.random.Generator) -> Floats:
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 9)
    line = np.arange(size)
    phase = line[None, :] * np.cos(angle) + line[:, None] * np.sin(angle)
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * phase / period + rng.uniform(0, 6)))


def _disc(size: int, rng: np.random.Generator) -> Floats:
    y, x = rng.uniform(0.3, 0.7, 2) * size
    line = np.arange(size)
    gap = np.hypot(line[:, None] - y, line[None, :] - x)
    return np.asarray(np.clip(rng.uniform(0.2, 0.4) * size - gap, 0, 1))


def _box(size: int, rng: np.random.Generator) -> Floats:
    top, left = rng.integers(0, size // 2, 2)
    tall, wide = rng.integers(size // 4, size // 2, 2)
    page = np.zeros((size, size))
    page[top : top + tall, left : left + wide] = 1
    return page


def _blots(size: int, rng: np.random.Generator) -> Floats:
    return render(rng.uniform(0, 1, (8, 8)), size)
