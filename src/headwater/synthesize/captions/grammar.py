"""The writer that needs no model: class names put into a small grammar.

It says nothing twice about a class, in one kind, before it has said everything that kind allows;
then it starts over in another order, for two images of one caption differ by their noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import polars as pl

from headwater.errors import InputError, plain
from headwater.prompts import fill, has_slot
from headwater.store import digest_value
from headwater.synthesize.captions.backgrounds import GENERAL
from headwater.synthesize.captions.plan import (
    KINDS,
    SCHEMA,
    Backgrounds,
    Deck,
    plan_captions,
)
from headwater.synthesize.captions.wording import PREPOSITIONS
from headwater.synthesize.captions.writer import Ask

SUBJECTS = (
    "a photo of {a} {}", "a close-up photo of {a} {}", "a picture of {a} {}",
    "a snapshot of {a} {}", "a detailed photo of {a} {}", "a color photo of {a} {}",
    "a photo of one {}", "an amateur photo of {a} {}",
)  # fmt: skip

TEXTURES = (
    "a photo of {a} {} texture", "a photo of {a} {} pattern", "a photo of {a} {} surface",
    "a photo of {a} {} thing", "a photo of {a} {} object", "a close-up of {a} {} texture",
    "a detailed photo of {a} {} surface", "a picture of {a} {} pattern",
)  # fmt: skip

MANNERS = (
    "seen from the front", "seen from the side", "seen from above", "seen from behind",
    "seen from below", "at an angle", "from far away", "from very near", "in the center",
    "off to the left", "off to the right", "filling the frame", "partly out of frame",
    "in soft light", "in bright sunlight", "in the shade", "in evening light", "in morning light",
    "under a cloudy sky", "in dim light", "lit from behind", "lit from one side", "at night",
    "slightly out of focus", "in sharp focus", "with strong shadows", "in warm colors",
    "in cold colors", "taken with a phone", "taken with a long lens",
)  # fmt: skip

CLOSE_MANNERS = (
    "seen from above", "at an angle", "from very near", "filling the frame", "in soft light",
    "in bright sunlight", "in the shade", "in dim light", "lit from one side",
    "slightly out of focus", "in sharp focus", "with strong shadows", "in warm colors",
    "in cold colors", "taken with a phone",
)  # fmt: skip
"""What holds for a surface: it has no front, and nothing is behind it."""

OBJECTS = (
    "a wooden table", "a stone wall", "a tree", "a fence", "a bench", "a car", "a bicycle",
    "a red chair", "a cardboard box", "a blanket", "a window", "a door", "a lamp", "a bookshelf",
    "a potted plant", "a pile of leaves", "a puddle", "a basket", "a glass bottle", "a staircase",
    "a person", "a dog", "a cat", "a street sign", "a flower bed", "a rock", "a tent", "a boat",
    "a bucket", "a large mirror",
)  # fmt: skip


def write_captions(
    classes: Mapping[str, str],
    n: int | None = None,
    *,
    seed: int,
    per_class: int | None = None,
    kinds: Mapping[str, float] = KINDS,
    templates: Sequence[str] | None = None,
    backgrounds: Backgrounds = GENERAL,
    attributes: Sequence[str] = (),
    textures: bool = False,
) -> pl.DataFrame:
    """Prompts for a generator: columns index, label, caption, kind.

    Caption i depends on the seed, i, the classes and the grammar, never on how many are asked
    for: the first 100 of 1,000 captions are the 100 captions. A class says nothing twice in
    one kind until it has said everything that kind allows; then it starts over in another
    order (`repeated_captions` counts), for two images of one caption differ by their noise.

    Args:
        classes: display name by unique label.
        n: captions in all, each of a class drawn uniformly; or else
        per_class: captions of each class, exactly.
        seed: any integer.
        kinds: weight of each kind (`class`, `background`, `relation`, `texture`, `attribute`);
            they need not sum to 1.
        templates: what a caption begins with, in the words of `headwater.prompts.fill`; a task
            whose images have no background gives its own, with `kinds={"class": 1}`.
        backgrounds: phrases that follow the class ("on a sandy beach"), for all classes or
            by label.
        attributes: words or phrases the kind `attribute` says ("red", "with dew drops").
        textures: whether the classes are textures: "a photo of a dotted pattern".

    Raises:
        TaskError: no classes, or a class with an empty name.
        InputError: a count, kind, weight, template, background or attribute that cannot be used.

    Example:
        >>> write_captions({"a": "iris"}, 2, seed=0, kinds={"class": 1},
        ...                templates=["a photo of {a} {}", "{}, drawn"])["caption"].sort().to_list()
        ['a photo of an iris', 'iris, drawn']
    """
    asks = plan_captions(
        classes, n, per_class=per_class, seed=seed, kinds=kinds, backgrounds=backgrounds,
        attributes=attributes,
    )  # fmt: skip
    texts = Grammar(templates=templates, textures=textures).write(asks, seed=seed)
    rows = [(ask.index, ask.label, text, ask.kind) for ask, text in zip(asks, texts, strict=True)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def repeated_captions(captions: pl.DataFrame) -> int:
    """How many rows of a caption table say what an earlier row of the same label said.

    Example:
        >>> captions = write_captions({"a": "iris"}, 5, seed=0, kinds={"class": 1},
        ...                           templates=["one {}", "some {}"])
        >>> repeated_captions(captions)
        3
    """
    return captions.height - captions.select("label", "caption").n_unique()


class Grammar:
    """Writes a caption of a subject, what the ask speaks of, and how it was seen.

    Example:
        >>> ask = Ask(0, "a", "iris", "background", "in a vase", turn=0, attempt=0)
        >>> Grammar(templates=["one {}"]).write([ask], seed=0)
        ['one iris in a vase']
    """

    name = "grammar"

    def __init__(self, *, templates: Sequence[str] | None = None, textures: bool = False) -> None:
        """Captions begin with `templates` if given, else with the grammar's own subjects."""
        subjects = TEXTURES if textures else SUBJECTS
        self._whole = subjects if templates is None else _check_templates(templates)
        self._subjects = list(dict.fromkeys(one.rstrip(". ") for one in self._whole))
        manners = CLOSE_MANNERS if textures else MANNERS
        self._manners: Sequence[str] = manners if templates is None else ("",)
        self._orders: dict[tuple[object, ...], _Order] = {}

    @property
    def digest(self) -> str:
        """Identifies every word it knows."""
        words = [self._whole, self._manners, TEXTURES, CLOSE_MANNERS, OBJECTS, sorted(PREPOSITIONS)]
        return digest_value([list(part) for part in words])

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        """One caption for each ask; a further attempt says what the next turn would."""
        return [self._caption(ask, seed) for ask in asks]

    def _caption(self, ask: Ask, seed: int) -> str:
        parts = self._parts(ask)
        key = (seed, ask.label, ask.kind, ask.setting)
        order = self._orders.setdefault(key, _Order(prod(map(len, parts)), *key))
        words = _pick(parts, order[ask.turn + ask.attempt])
        return plain(" ".join(word for word in words if word))

    def _parts(self, ask: Ask) -> list[Sequence[str]]:
        """A caption is one of each of these, in this order."""
        if ask.kind == "class":
            return [_filled(self._whole, ask.name), self._manners]
        if ask.kind == "texture":
            return [_filled(TEXTURES, ask.name), CLOSE_MANNERS]
        if ask.kind == "attribute" and not _follows(ask.setting):
            return [_filled(self._subjects, f"{ask.setting} {ask.name}"), self._manners]
        subjects = _filled(self._subjects, ask.name)
        if ask.kind == "attribute":
            return [subjects, (ask.setting,), self._manners]
        if ask.kind == "relation":
            return [subjects, (ask.setting,), _others(ask.name)]
        return [subjects, (ask.setting,)]


class _Order:
    """The numbers below `size` in a seeded order that goes on without end; read anywhere."""

    def __init__(self, size: int, *key: object) -> None:
        self._deck = Deck(size, *key)
        self._dealt: list[int] = []

    def __getitem__(self, place: int) -> int:
        while len(self._dealt) <= place:
            self._dealt.append(self._deck.deal()[1])
        return self._dealt[place]


def _filled(templates: Sequence[str], name: str) -> list[str]:
    return [fill(template, name) for template in templates]


def _follows(attribute: str) -> bool:
    """Whether an attribute stands behind its class: "with dew", "wearing a hat"; not "red"."""
    words = attribute.lower().split()
    return words[0].endswith("ing") or not PREPOSITIONS.isdisjoint(words)


def _others(name: str) -> list[str]:
    """What a class can be next to: not itself."""
    return [thing for thing in OBJECTS if thing.split()[-1] not in name.lower().split()]


def _pick(parts: Sequence[Sequence[str]], number: int) -> list[str]:
    # `number` in mixed radix, one digit a part.
    words = []
    for part in parts:
        number, digit = divmod(number, len(part))
        words.append(part[digit])
    return words


def _check_templates(templates: Sequence[str]) -> list[str]:
    if isinstance(templates, str) or not templates:
        raise InputError("caption templates", expected="a list of them", seen=repr(templates))
    for template in templates:
        if not has_slot(template):
            raise InputError(
                "a caption template without its class", expected="{} in it", seen=repr(template)
            )
    return list(dict.fromkeys(templates))
