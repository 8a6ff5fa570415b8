"""The ways a picture comes back: what a copy must still be known by.

Thresholds are measured on pictures changed like this (calibration.py), and the built-in descriptor
is held to them.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageEnhance

Picture = Image.Image


def encoded(picture: Picture, quality: int = 30) -> Picture:
    """Saved as JPEG and opened again.

    Example:
        >>> encoded(Image.new("RGB", (8, 6))).size
        (8, 6)
    """
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def resized(picture: Picture, *, width: float, height: float) -> Picture:
    """Both sides multiplied.

    Example:
        >>> resized(Image.new("RGB", (8, 6)), width=0.5, height=1).size
        (4, 6)
    """
    size = max(1, round(width * picture.width)), max(1, round(height * picture.height))
    return picture.resize(size)


def cropped(picture: Picture, *, left: float, top: float, share: float = 0.1) -> Picture:
    """A share of each side cut off; `left` and `top` say how much of it there, 0 to 1.

    Example:
        >>> cropped(Image.new("RGB", (80, 60)), left=0, top=1).size
        (72, 54)
    """
    width = max(1, round((1 - share) * picture.width))
    height = max(1, round((1 - share) * picture.height))
    x, y = round(left * (picture.width - width)), round(top * (picture.height - height))
    return picture.crop((x, y, x + width, y + height))


def mirrored(picture: Picture) -> Picture:
    """Left and right changed."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _all_at_once(picture: Picture) -> Picture:
    half = resized(cropped(mirrored(picture), left=1, top=1), width=0.5, height=0.5)
    return encoded(half, quality=50)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "re-encoded": encoded,
    "halved": lambda picture: resized(picture, width=0.5, height=0.5),
    "squashed": lambda picture: resized(picture, width=1, height=0.65),
    "64 pixels square": lambda picture: picture.resize((64, 64)),
    "cropped at a corner": lambda picture: cropped(picture, left=0, top=1),
    "cropped at a side": lambda picture: cropped(picture, left=1, top=0.5),
    "mirrored": mirrored,
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.85),
    "more color": lambda picture: ImageEnhance.Color(picture).enhance(1.15),
    "less color": lambda picture: ImageEnhance.Color(picture).enhance(0.85),
    "black and white": lambda picture: picture.convert("L").convert("RGB"),
    "mirrored, cropped, halved, saved": _all_at_once,
}
"""Of RGB pictures. Crops take 10 % off each side, colors change by 15 %, JPEG quality is 30."""
