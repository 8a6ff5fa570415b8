"""The one pixel path: every image at one size in one codec, whatever it was before.

Retrieved images come padded or odd-shaped as JPEG, synthetic ones square as PNG; a model trained on
one and tested on the other would be told apart by that alone. `one_path` takes the padding off,
resizes the shortest side, cuts out the center and writes JPEG; `as_it_came` leaves an image alone.
Both tell what the image was like before and after, and `summarize` what a whole set was like.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from headwater.clip import resize_images
from headwater.decode import Image8, encode_jpeg, open_image

NEAR = 24
"""A pixel is of the border's color when no channel differs by more: JPEG rings beside an edge."""

BARE = 0.02  # share of a border line's pixels that may be of another color all the same
FULL = 0.7  # share of another color that the first lines of the picture have at least
LEAST = 0.02  # of the picture's side: what each border takes, and by how much the two may differ
MOST = 0.6  # of the side: what both take, as of a picture 2.5 times as wide as high
BARS = 0.1  # share of lines within the picture that may look like border: stripes are no padding
SAMPLED = 512  # pixels of a line that are looked at

LOOK_SCHEMA = {
    "width": pl.Int32,
    "height": pl.Int32,
    "codec": pl.String,
    "bytes": pl.Int64,
    "padding": pl.Float32,
}
PIXELS_FILE = "pixels.json"

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

    A large JPEG is decoded whole and not at a half or a quarter, which other codecs do not offer:
    that the arms differ in codec is what this takes away. (19 ms instead of 9 at 1,024 px.)

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
    box = inner(opened.image)
    square = resize_images([opened.image.crop(box)], size)[0]
    made = encode_jpeg(square, quality=quality)
    before = Look(*opened[1:], len(data), padding(opened.image, box))
    seen = Image.fromarray(square)
    after = Look(size, size, "JPEG", len(made), padding(seen, inner(seen)))
    return Passed(made, before, after)


def as_it_came(data: bytes) -> Passed:
    """An image whose bytes stay what they are.

    Raises:
        DecodeError: with the reason.
    """
    opened = open_image(data)
    look = Look(*opened[1:], len(data), padding(opened.image, inner(opened.image)))
    return Passed(data, look, look)


def padding(picture: Image.Image, box: Box) -> float:
    """The share of a picture that lies outside a box."""
    left, top, right, bottom = box
    return 1.0 - (right - left) * (bottom - top) / (picture.width * picture.height)


def inner(picture: Image.Image) -> Box:
    """Where an RGB picture lies within its padding: left, top, right, bottom.

    Padding is what tools lay around a picture to make it square: borders of one color on two
    opposite sides, equally wide, that end in a straight sharp edge. A thing photographed on white
    has no such edge.

    Example:
        >>> padded = Image.new("RGB", (30, 30), "white")
        >>> padded.paste("navy", (0, 5, 30, 25))
        >>> inner(padded)
        (0, 6, 30, 24)
    """
    width, height = picture.size
    top, bottom = 0, height
    if _ends_alike(picture.crop((0, 0, width, 1)), picture.crop((0, height - 1, width, height))):
        top, bottom = _between_borders(np.asarray(picture))
    left, right = 0, width
    if _ends_alike(
        picture.crop((0, top, 1, bottom)), picture.crop((width - 1, top, width, bottom))
    ):
        left, right = _between_borders(np.asarray(picture)[top:bottom].transpose(1, 0, 2))
    return left, top, right, bottom


def _ends_alike(first: Image.Image, last: Image.Image) -> bool:
    """Whether two lines are of one color; most pictures need no further look."""
    lines = np.stack([np.asarray(line).reshape(-1, 3) for line in (first, last)])
    return bool(_other_color(lines, _color(lines[0])).max() <= BARE)


def _between_borders(lines: Image8) -> tuple[int, int]:
    """Which lines (n, length, 3) are the picture: from, to; without the line the edge smears."""
    n = len(lines)
    sampled = lines[:, :: max(1, lines.shape[1] // SAMPLED)]
    other = _other_color(sampled, _color(sampled[0]))
    begin, end = _first_and_behind(other > BARE)
    above, below, least = begin, n - end, max(2.0, LEAST * n)
    if min(above, below) < least or abs(above - below) > least or above + below > MOST * n:
        return 0, n
    edges = other[begin : begin + 3].max(), other[end - 3 : end].max()
    if min(edges) < FULL or (other[begin:end] <= BARE).mean() > BARS:
        return 0, n
    return begin + 1, end - 1


def _color(line: Image8) -> NDArray[np.int16]:
    color: NDArray[np.int16] = np.median(line, axis=0).astype(np.int16)
    return color


def _other_color(lines: Image8, color: NDArray[np.int16]) -> NDArray[np.float64]:
    """The share of each line's pixels that are of another color."""
    far = np.abs(lines.astype(np.int16) - color) > NEAR
    share: NDArray[np.float64] = (far[..., 0] | far[..., 1] | far[..., 2]).mean(axis=1)
    return share


def _first_and_behind(marked: NDArray[np.bool_]) -> tuple[int, int]:
    """The first marked line and the one behind the last; (0, 0) of none."""
    found = np.flatnonzero(marked)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def looks_column(name: str, looks: Iterable[Look]) -> pl.Series:
    """Looks as a column of structs."""
    return pl.Series(name, [look._asdict() for look in looks], pl.Struct(LOOK_SCHEMA))


def summarize(looks: pl.DataFrame) -> Json:
    """What the images of a set were like before and after the path: the content of `pixels.json`.

    Args:
        looks: a row an image, with the structs `before` and `after` of `LOOK_SCHEMA`.

    Example:
        >>> came = [Look(40, 30, "PNG", 2400, 0.25), Look(20, 20, "JPEG", 400, 0.0)]
        >>> told = summarize(pl.DataFrame([looks_column(n, came) for n in ("before", "after")]))
        >>> told["before"]["codecs"], told["before"]["padded"]
        ({'JPEG': 0.5, 'PNG': 0.5}, 0.5)
    """
    return {"images": len(looks), **{when: _summary(looks[when]) for when in ("before", "after")}}


def _summary(looks: pl.Series) -> Json:
    table = looks.struct.unnest()
    width, height, padded = table["width"], table["height"], table.filter(pl.col("padding") > 0)
    codecs = table["codec"].value_counts(normalize=True).sort("codec")
    short = table.select(pl.min_horizontal("width", "height")).to_series()
    pixels = width.cast(pl.Int64) * height
    return {
        "short_side": {name: _rounded(short.quantile(q, "linear")) for name, q in QUANTILES},
        "not_square": _rounded((width != height).mean()),
        "padded": _rounded((table["padding"] > 0).mean()),
        "padding": _rounded(padded["padding"].median()),
        "codecs": {codec: _rounded(share) for codec, share in codecs.iter_rows()},
        "bytes_per_pixel": _rounded((table["bytes"] / pixels).median()),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
