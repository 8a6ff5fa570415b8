"""The one pixel path: every image at one size in one codec, whatever it was before.

Retrieved images come padded or odd-shaped as JPEG, synthetic ones square as PNG; a model trained on
one and tested on the other would be told apart by that alone. `one_path` takes the padding off,
resizes the shortest side, cuts out the center and writes JPEG; `as_it_came` leaves an image alone.
Both tell what the image was like before and after, and `summarize` what a whole set was like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from headwater.clip import resize_images
from headwater.decode import Image8, encode_jpeg, open_image

NEAR = 24
"""A pixel is of the border's color when no channel differs by more: JPEG rings beside an edge."""

BARE = 0.02  # share of a border line's pixels that may be of another color all the same
FULL = 0.7  # share of another color that the first lines of the picture have at least
LEAST = 0.02  # of the picture's side: what each border takes, and by how much the two may differ
MOST = 0.75  # of the picture's side: what both take, as of a picture four times as wide as high
BARS = 0.1  # share of lines within the picture that may look like border: stripes are no padding
SAMPLED = 512  # pixels of a line that are looked at

LOOK_SCHEMA = {
    "width": pl.Int32,
    "height": pl.Int32,
    "codec": pl.String,
    "bytes": pl.Int64,
    "padding": pl.Float32,
}
QUANTILES = (("p5", 0.05), ("median", 0.5), ("p95", 0.95))

Box = tuple[int, int, int, int]
Json = dict[str, Any]


class Look(NamedTuple):
    """What an image is like.

    Attributes:
        width: in pixels, of the upright image.
        height: likewise.
        codec: JPEG, PNG, WEBP, ...
        bytes: of the encoded image.
        padding: share of the picture that is padding; see `inner`.
    """

    width: int
    height: int
    codec: str
    bytes: int
    padding: float


class Passed(NamedTuple):
    """An encoded image that went through the path, and its look before and after."""

    data: bytes
    before: Look
    after: Look


def one_path(data: bytes, *, size: int = 256, quality: int = 95) -> Passed:
    """One image through the one pixel path.

    Args:
        data: an encoded image.
        size: of the square it becomes, in pixels.
        quality: of the JPEG it becomes.

    Raises:
        DecodeError: with the reason.

    Example:
        >>> from headwater.decode import encode_png
        >>> passed = one_path(encode_png(np.zeros((40, 60, 3), np.uint8)), size=32)
        >>> passed.before[:3], passed.after[:3]
        ((60, 40, 'PNG'), (32, 32, 'JPEG'))
    """
    opened = open_image(data)
    whole = np.asarray(opened.image)
    box = inner(whole)
    square = resize_images([opened.image.crop(box)], size)[0]
    made = encode_jpeg(square, quality=quality)
    before = Look(*opened[1:], len(data), padding(whole, box))
    after = Look(size, size, "JPEG", len(made), padding(square, inner(square)))
    return Passed(made, before, after)


def as_it_came(data: bytes) -> Passed:
    """An image whose bytes stay what they are.

    Raises:
        DecodeError: with the reason.
    """
    opened = open_image(data)
    whole = np.asarray(opened.image)
    look = Look(*opened[1:], len(data), padding(whole, inner(whole)))
    return Passed(data, look, look)


def padding(picture: Image8, box: Box) -> float:
    """The share of a picture (h, w, 3) that lies outside a box."""
    left, top, right, bottom = box
    return 1 - (right - left) * (bottom - top) / (picture.shape[0] * picture.shape[1])


def inner(picture: Image8) -> Box:
    """Where a picture (h, w, 3) lies within its padding: left, top, right, bottom.

    Padding is what tools lay around a picture to make it square: borders of one color on two
    opposite sides, equally wide, that end in a straight sharp edge. A thing photographed on white
    has no such edge.

    Example:
        >>> padded = np.full((30, 30, 3), 255, np.uint8)
        >>> padded[5:25] = 100
        >>> inner(padded)
        (0, 6, 30, 24)
    """
    top, bottom = _between_borders(picture)
    left, right = _between_borders(picture[top:bottom].transpose(1, 0, 2))
    return left, top, right, bottom


def _between_borders(lines: Image8) -> tuple[int, int]:
    """The lines (n, length, 3) that are the picture: from, to. One more goes on each side, since
    the edge is smeared.
    """
    n = len(lines)
    sampled = lines[:, :: max(1, lines.shape[1] // SAMPLED)]
    color = np.median(sampled[0], axis=0).astype(np.int16)
    if _other_color(sampled[[0, -1]], color).max() > BARE:
        return 0, n
    other = _other_color(sampled, color)
    begin, end = _first_and_behind(other > BARE)
    above, below, least = begin, n - end, max(2.0, LEAST * n)
    if min(above, below) < least or abs(above - below) > least or above + below > MOST * n:
        return 0, n
    edges = other[begin : begin + 3].max(), other[end - 3 : end].max()
    if min(edges) < FULL or (other[begin:end] <= BARE).mean() > BARS:
        return 0, n
    return begin + 1, end - 1


def _other_color(lines: Image8, color: NDArray[np.int16]) -> NDArray[np.float64]:
    """The share of each line's pixels that are of another color."""
    far = np.abs(lines.astype(np.int16) - color).max(axis=2) > NEAR
    share: NDArray[np.float64] = far.mean(axis=1)
    return share


def _first_and_behind(marked: NDArray[np.bool_]) -> tuple[int, int]:
    """The first marked line and the one behind the last; (0, 0) of none."""
    found = np.flatnonzero(marked)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def look_table(looks: Sequence[Look]) -> pl.DataFrame:
    """One row a look."""
    return pl.DataFrame(looks, schema=LOOK_SCHEMA, orient="row")


def summarize(before: pl.DataFrame, after: pl.DataFrame) -> Json:
    """What the images of a set were like, before and after the path: the content of `pixels.json`.

    Args:
        before: a row an image, with the columns of `look_table`.
        after: the same images, in any order.

    Example:
        >>> came = look_table([Look(40, 30, "PNG", 2400, 0.25), Look(20, 20, "JPEG", 400, 0.0)])
        >>> summarize(came, came)["before"]["padded"]
        0.5
    """
    return {"images": len(before), "before": summary(before), "after": summary(after)}


def summary(looks: pl.DataFrame) -> Json:
    """Shares and quantiles of the looks of some images; see docs/formats.md."""
    width, height, padded = looks["width"], looks["height"], looks["padding"] > 0
    short = pl.Series(np.minimum(width, height))
    codecs = looks["codec"].value_counts(normalize=True, sort=True).sort("codec")
    return {
        "short_side": {name: _rounded(short.quantile(q, "linear")) for name, q in QUANTILES},
        "not_square": _rounded((width != height).mean()),
        "padded": _rounded(padded.mean()),
        "padding": _rounded(looks["padding"].filter(padded).median()),
        "codecs": {codec: _rounded(share) for codec, share in codecs.iter_rows()},
        "bytes_per_pixel": _rounded((looks["bytes"] / (width.cast(pl.Int64) * height)).median()),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
