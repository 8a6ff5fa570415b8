"""What the miniature web writes under its pictures: captions, right, wrong and beside the point.

`caption` writes one caption of a given kind; `KINDS` says how often each kind occurs.
"""

from __future__ import annotations

import numpy as np

from headwater.miniature.contexts import HOLES, JUNK
from headwater.miniature.scans import CLASSES

KINDS = {  # of the pictures with a digit
    "named": 0.34,  # the class, nothing else
    "context": 0.38,  # the class and how it is shown
    "none": 0.12,  # no class
    "two": 0.06,  # the class and another one
    "inside": 0.06,  # a class only as a part of another word
    "wrong": 0.04,  # another class
}
JUNK_KINDS = {"none": 0.6, "inside": 0.25, "wrong": 0.15}  # of the pictures without a digit

CONTEXTS = {
    "plain": ("in white chalk", "on a blackboard", "in plain white on black", "in white on black"),
    "red": ("in red ink", "in red", "in red chalk"),
    "green": ("in green ink", "in green", "in green chalk"),
    "blue": ("in blue ink", "in blue", "in blue chalk"),
    "yellow": ("in yellow ink", "in yellow", "in yellow chalk"),
    "inverted": ("on white paper", "in black ink", "in black on white"),
    "upside-down": ("upside down", "turned upside down"),
    "sideways": ("on its side", "turned sideways"),
    "striped": ("on striped paper", "over stripes", "on a striped wall"),
    "crowded": ("among scribbles", "on a crowded board"),
    "several": ("in a row of numbers", "next to other numbers", "and more"),
    "small": ("very small", "tiny on a big board", "in a corner"),
}
STEMS = (
    "a photo of the digit {}",
    "a photo of a {}",
    "handwritten {}",
    "a handwritten {}",
    "number {}",
    "the number {}",
    "digit {}",
    "the digit {}",
    "{}",
)
TAILS = (", school notes", " | free download", " (scan)", "!", ", page {}", " IMG_{}", " - closeup")
NAMELESS = (
    "handwritten number",
    "a digit",
    "my homework",
    "math class",
    "photo of a blackboard",
    "a number somebody wrote",
    "free clip art",
    "IMG_{}",
    "untitled",
)
JUNK_NAMELESS = (
    "wallpaper",
    "abstract background",
    "colorful pattern",
    "a square",
    "a round sticker",
    "fabric texture",
    "summer sale",
    "IMG_{}",
)
JUNK_NAMED = (  # a class as a word of its own, on a picture that does not show it
    "{} tips for a better garden",
    "top {} gadgets of the year",
    "{} apples on a table",
    "pack of {} stickers",
    "season {} review",
    "room for {}",
)
INSIDE: dict[int, tuple[str, ...]] = {  # words that contain a class name
    0: ("zeroed", "subzero", "zeros"),
    1: ("stone", "bone", "phone", "throne"),
    2: ("artwork", "network", "twofold"),
    3: ("threefold", "threes"),
    4: ("fourteen", "fourth"),
    5: ("fivefold", "fives"),
    6: ("sixteen", "sixty", "sixth"),
    7: ("seventeen", "seventy", "seventh"),
    8: ("freight", "height", "weight", "eighteen"),
    9: ("nineties", "canine", "nineteen"),
}
INSIDE_FRAMES = ("{} on display", "old {} poster", "the {} shop", "a {} somewhere", "{} 20{}")


def caption(kind: str, context: str, digit: int | None, rng: np.random.Generator) -> str:
    """One caption of `kind` for a picture of `digit` (None: no digit) in `context`.

    Example:
        >>> caption("context", "red", 3, np.random.default_rng(0))
        'the digit three in red, school notes'
    """
    text = _worded(kind, context, digit, rng)
    if rng.random() < 0.12:
        text += _pick(TAILS, rng).format(rng.integers(10, 9999))
    style = rng.random()
    return text.capitalize() if style < 0.25 else text.upper() if style < 0.28 else text


def _worded(kind: str, context: str, digit: int | None, rng: np.random.Generator) -> str:
    if kind == "inside":
        return _inside(digit, rng)
    if kind == "none":
        frames = JUNK_NAMELESS if context == JUNK else NAMELESS
        return _pick(frames, rng).format(rng.integers(10, 9999))
    if kind == "wrong":
        digit = _other(context, digit, rng)
    assert digit is not None
    if context == JUNK:
        return _pick(JUNK_NAMED, rng).format(_name(digit, rng))
    if kind == "two":
        return _both(digit, _other(context, digit, rng), rng)
    stem = _pick(STEMS, rng).format(_name(digit, rng))
    shown = kind == "context" or (kind == "wrong" and rng.random() < 0.5)
    return f"{stem} {_pick(CONTEXTS[context], rng)}" if shown else stem


def _inside(digit: int | None, rng: np.random.Generator) -> str:
    word = _pick(INSIDE[_other("", digit, rng)], rng)
    return _pick(INSIDE_FRAMES, rng).format(word, rng.integers(10, 99))


def _both(digit: int, other: int, rng: np.random.Generator) -> str:
    names = [_name(digit, rng), _name(other, rng)]
    first, second = names if rng.random() < 0.5 else names[::-1]
    return _pick(("{} or {}", "{} and {}", "from {} to {}", "{} next to {}"), rng).format(
        first, second
    )


def _other(context: str, digit: int | None, rng: np.random.Generator) -> int:
    """Another class, never one that upstream lacks in this context: the holes stay empty."""
    taken = [hole for hole, where in HOLES if where == context]
    return int(rng.choice([d for d in range(len(CLASSES)) if d != digit and d not in taken]))


def _name(digit: int, rng: np.random.Generator) -> str:
    return CLASSES[digit] if rng.random() < 0.6 else str(digit)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
