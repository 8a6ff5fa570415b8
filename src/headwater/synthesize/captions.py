"""Class names into prompts, by a small grammar and without any model.

A caption is of one kind: the class alone, the class before a background, or the class in a
relation to something else. Whatever else writes captions returns the same table, so that
`images.py` need not know who wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, product
from math import prod

import polars as pl

from headwater.errors import InputError, TaskError, plain
from headwater.prompts import fill
from headwater.store import stable_seed

SCHEMA = {"index": pl.Int64, "label": pl.String, "caption": pl.String, "kind": pl.String}

# Shares of the kinds in the paper's reference code; its rare fourth kind, texture, is dead there.
KINDS: Mapping[str, float] = {"class": 0.44, "background": 0.45, "relation": 0.11}

# The ten relations of the same code, spelled as there.
RELATIONS = (
    "in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "besides",
)  # fmt: skip

SUBJECTS = (
    "a photo of {a} {}", "a close-up photo of {a} {}", "a picture of {a} {}",
    "a snapshot of {a} {}", "a detailed photo of {a} {}", "a color photo of {a} {}",
    "a photo of one {}", "an amateur photo of {a} {}",
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

BACKGROUNDS = (
    "on a sandy beach", "in a green meadow", "in a dense forest", "on a city street",
    "in a quiet village", "on a mountain trail", "by a lake", "beside a river", "in the desert",
    "in deep snow", "in a garden", "in a park", "on a farm", "in a field of wheat",
    "in a parking lot", "in a kitchen", "in a living room", "in a workshop", "in an office",
    "in a museum", "in a market", "in a shop window", "in a school yard", "at a harbor",
    "at an airport", "at a train station", "under a bridge", "on a wooden floor",
    "on a tiled floor", "on a white table", "on a gravel path", "on a rooftop",
    "against a brick wall", "against a white wall", "against a blue sky", "against a gray sky",
    "in the fog", "in the rain", "at sunset", "in front of a crowd",
)  # fmt: skip

OBJECTS = (
    "a wooden table", "a stone wall", "a tree", "a fence", "a bench", "a car", "a bicycle",
    "a red chair", "a cardboard box", "a blanket", "a window", "a door", "a lamp", "a bookshelf",
    "a potted plant", "a pile of leaves", "a puddle", "a basket", "a glass bottle", "a staircase",
    "a person", "a dog", "a cat", "a street sign", "a flower bed", "a rock", "a tent", "a boat",
    "a bucket", "a large mirror",
)  # fmt: skip

Backgrounds = Sequence[str] | Mapping[str, Sequence[str]]


def write_captions(
    classes: Mapping[str, str],
    n: int | None = None,
    *,
    seed: int,
    per_class: int | None = None,
    kinds: Mapping[str, float] = KINDS,
    templates: Sequence[str] | None = None,
    backgrounds: Backgrounds = BACKGROUNDS,
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
        kinds: weight of each kind (`class`, `background`, `relation`); they need not sum to 1.
        templates: what a caption begins with, in the words of `headwater.task.fill`; a task
            whose images have no background gives its own, with `kinds={"class": 1}`.
        backgrounds: phrases that follow the class ("on a sandy beach"), for all classes or
            by label.

    Raises:
        TaskError: no classes, or a class with an empty name.
        InputError: a count, kind, weight, template or background that cannot be used.

    Example:
        >>> write_captions({"a": "iris"}, 2, seed=0, kinds={"class": 1},
        ...                templates=["a photo of {a} {}", "{}, drawn"])["caption"].sort().to_list()
        ['a photo of an iris', 'iris, drawn']
    """
    labels = _check_classes(classes)
    weights = _check_kinds(kinds)
    parts = {
        (label, kind): _parts(kind, label, templates=templates, backgrounds=backgrounds)
        for label, kind in product(labels, weights)
    }
    decks = {key: Deck(prod(map(len, words)), seed, *key) for key, words in parts.items()}
    rows = []
    for index, label in enumerate(_draw_labels(labels, n, per_class, seed=seed)):
        kind = _draw_kind(weights, stable_seed(seed, "kind", index))
        words = _pick(parts[label, kind], decks[label, kind].deal())
        rows.append((index, label, plain(fill(words, classes[label])), kind))
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


class Deck:
    """Deals the numbers below `size` in a seeded order, none twice before all are dealt.

    A Fisher-Yates shuffle that remembers only the cards it moved, so that a deck of thousands
    costs nothing until it is dealt from.

    Example:
        >>> deck = Deck(3, "any key")
        >>> sorted(deck.deal() for _ in range(3))
        [0, 1, 2]
    """

    def __init__(self, size: int, *key: object) -> None:
        self.size = size
        self.key = key
        self.dealt = 0
        self.moved: dict[int, int] = {}

    def deal(self) -> int:
        """The next number; a new order begins after `size` of them."""
        turn, place = divmod(self.dealt, self.size)
        if place == 0:
            self.moved = {}
        chosen = place + stable_seed(*self.key, turn, place) % (self.size - place)
        card = self.moved.get(chosen, chosen)
        self.moved[chosen] = self.moved.pop(place, place)
        self.dealt += 1
        return card


def _draw_labels(
    labels: Sequence[str], n: int | None, per_class: int | None, *, seed: int
) -> Iterator[str]:
    if (n is None) == (per_class is None):
        raise InputError("captions are counted in all or per class", expected="n or per_class")
    if (n or per_class or 0) < 0:
        raise InputError("a negative number of captions", expected="0 or more")
    if n is not None:
        return (labels[stable_seed(seed, "class", i) % len(labels)] for i in range(n))
    deck = Deck(len(labels), seed, "class")
    return (labels[deck.deal()] for _ in range(len(labels) * (per_class or 0)))


def _draw_kind(weights: Mapping[str, float], seed: int) -> str:
    at = seed / 2**63 * sum(weights.values())
    for kind, upto in zip(weights, accumulate(weights.values()), strict=True):
        if at < upto:
            return kind
    return list(weights)[-1]  # rounding put `at` on the very end


def _parts(
    kind: str, label: str, *, templates: Sequence[str] | None, backgrounds: Backgrounds
) -> list[Sequence[str]]:
    # A caption is one word from each part, joined by spaces.
    subjects = _check_templates(SUBJECTS if templates is None else templates)
    if kind == "class":
        return [subjects] if templates is not None else [subjects, MANNERS]
    subjects = list(dict.fromkeys(subject.rstrip(". ") for subject in subjects))
    if kind == "relation":
        return [subjects, RELATIONS, OBJECTS]
    phrases = backgrounds.get(label, ()) if isinstance(backgrounds, Mapping) else backgrounds
    return [subjects, _check_backgrounds(phrases, label)]


def _pick(parts: Sequence[Sequence[str]], number: int) -> str:
    # `number` in mixed radix, one digit a part.
    words = []
    for part in parts:
        number, digit = divmod(number, len(part))
        words.append(part[digit])
    return " ".join(words)


def _check_classes(classes: Mapping[str, str]) -> list[str]:
    if not classes:
        raise TaskError("no classes to write captions for", expected="a name by label", seen="none")
    for label, name in classes.items():
        if not plain(name):
            raise TaskError(f"class {label!r} has an empty name", do="Give it a name.")
    return list(classes)


def _check_kinds(kinds: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise InputError("an unknown kind of caption", expected=", ".join(KINDS), seen=unknown[0])
    weights = {kind: float(weight) for kind, weight in kinds.items() if weight != 0}
    if not weights or not all(0 < weight < float("inf") for weight in weights.values()):
        raise InputError(
            "kinds of captions need weights", expected="at least one, none negative",
            seen=str(dict(kinds)),
        )  # fmt: skip
    return weights


def _check_templates(templates: Sequence[str]) -> list[str]:
    if isinstance(templates, str) or not templates:
        raise InputError("caption templates", expected="a list of them", seen=repr(templates))
    for template in templates:
        if "{}" not in template and "{c}" not in template:
            raise InputError(
                "a caption template without its class", expected="{} in it", seen=repr(template)
            )
    return list(dict.fromkeys(templates))


def _check_backgrounds(phrases: Sequence[str], label: str) -> list[str]:
    if isinstance(phrases, str) or not phrases:
        raise InputError(
            f"class {label!r} has no backgrounds", expected='a list like ["on a beach"]',
            seen=repr(phrases), do="Give some, or give the kind `background` no weight.",
        )  # fmt: skip
    return list(dict.fromkeys(phrases))
