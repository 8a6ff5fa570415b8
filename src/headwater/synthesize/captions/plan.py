"""Which captions are asked for: of which class and kind, speaking of what.

Classes are drawn uniformly or counted out, kinds by weight, settings (backgrounds, relations,
attributes) evenly. Nothing depends on how many captions are planned: the first 100 of 1,000 are
the 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, product

import polars as pl

from headwater.errors import InputError, TaskError, plain
from headwater.store import stable_seed
from headwater.synthesize.captions.backgrounds import GENERAL
from headwater.synthesize.captions.writer import Ask

SCHEMA = {"index": pl.Int64, "label": pl.String, "caption": pl.String, "kind": pl.String}

# Shares of the kinds in the paper's reference code; its rare fourth kind, texture, is dead there.
KINDS: Mapping[str, float] = {"class": 0.44, "background": 0.45, "relation": 0.11}

ALL_KINDS = (*KINDS, "texture", "attribute")
"""What may be given a weight; `attribute` needs attributes to speak of."""

# The ten relations of the same code, spelled as there.
RELATIONS = (
    "in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "besides",
)  # fmt: skip

Backgrounds = Sequence[str] | Mapping[str, Sequence[str]]


def plan_captions(
    classes: Mapping[str, str],
    n: int | None = None,
    *,
    seed: int,
    per_class: int | None = None,
    kinds: Mapping[str, float] = KINDS,
    backgrounds: Backgrounds = GENERAL,
    attributes: Sequence[str] = (),
) -> list[Ask]:
    """What to ask a writer for, in order.

    A class speaks of every setting of a kind once before it speaks of one again.

    Args:
        classes: display name by unique label.
        n: captions in all, each of a class drawn uniformly; or else
        per_class: captions of each class, exactly.
        seed: any integer.
        kinds: weight of each kind, of `ALL_KINDS`; they need not sum to 1.
        backgrounds: phrases that follow a class ("on a sandy beach"), for all or by label.
        attributes: words or phrases the kind `attribute` says ("red", "with dew drops").

    Raises:
        TaskError: no classes, or a class with an empty name.
        InputError: a count, kind, weight, background or attribute that cannot be used.

    Example:
        >>> [ask] = plan_captions({"a": "iris"}, 1, seed=0, kinds={"background": 1},
        ...                       backgrounds=["in a vase"])
        >>> ask.name, ask.kind, ask.setting, ask.turn
        ('iris', 'background', 'in a vase', 0)
    """
    labels = _check_classes(classes)
    weights = _check_kinds(kinds, attributes)
    spoken_of = {
        (label, kind): _settings(kind, label, backgrounds=backgrounds, attributes=attributes)
        for label, kind in product(labels, weights)
    }
    decks = {key: Deck(len(words), seed, "setting", *key) for key, words in spoken_of.items()}
    asks = []
    for index, label in enumerate(draw_labels(labels, n, per_class, seed=seed)):
        kind = _draw_kind(weights, stable_seed(seed, "kind", index))
        turn, card = decks[label, kind].deal()
        setting = spoken_of[label, kind][card]
        asks.append(Ask(index, label, classes[label], kind, setting, turn, attempt=0))
    return asks


class Deck:
    """Deals the numbers below `size` in a seeded order, none twice before all are dealt.

    A Fisher-Yates shuffle that remembers only the cards it moved, so that a deck of thousands
    costs nothing until it is dealt from.

    Example:
        >>> deck = Deck(3, "any key")
        >>> sorted(deck.deal() for _ in range(3))
        [(0, 0), (0, 1), (0, 2)]
    """

    def __init__(self, size: int, *key: object) -> None:
        self.size = size
        self.key = key
        self.dealt = 0
        self.moved: dict[int, int] = {}

    def deal(self) -> tuple[int, int]:
        """The turn, and the next number; a turn with a new order begins after `size` of them."""
        turn, place = divmod(self.dealt, self.size)
        if place == 0:
            self.moved = {}
        chosen = place + stable_seed(*self.key, turn, place) % (self.size - place)
        card = self.moved.get(chosen, chosen)
        self.moved[chosen] = self.moved.pop(place, place)
        self.dealt += 1
        return turn, card


def draw_labels(
    labels: Sequence[str], n: int | None, per_class: int | None, *, seed: int
) -> Iterator[str]:
    """The labels of captions in order: `n`, each drawn uniformly, or `per_class` of each.

    Raises:
        InputError: both counts or none, or a negative one.

    Example:
        >>> sorted(draw_labels(["a", "b"], None, 2, seed=0))
        ['a', 'a', 'b', 'b']
    """
    if (n is None) == (per_class is None):
        raise InputError("captions are counted in all or per class", expected="n or per_class")
    if (n or per_class or 0) < 0:
        raise InputError("a negative number of captions", expected="0 or more")
    if n is not None:
        return (labels[stable_seed(seed, "class", i) % len(labels)] for i in range(n))
    deck = Deck(len(labels), seed, "class")
    return (labels[deck.deal()[1]] for _ in range(len(labels) * (per_class or 0)))


def _draw_kind(weights: Mapping[str, float], seed: int) -> str:
    at = seed / 2**63 * sum(weights.values())
    for kind, upto in zip(weights, accumulate(weights.values()), strict=True):
        if at < upto:
            return kind
    return list(weights)[-1]  # rounding put `at` on the very end


def _settings(
    kind: str, label: str, *, backgrounds: Backgrounds, attributes: Sequence[str]
) -> Sequence[str]:
    """What a class can speak of in captions of a kind."""
    if kind == "relation":
        return RELATIONS
    if kind == "attribute":
        return list(dict.fromkeys(attributes))
    if kind == "background":
        own = backgrounds.get(label, ()) if isinstance(backgrounds, Mapping) else backgrounds
        return _check_backgrounds(own, label)
    return ("",)


def _check_classes(classes: Mapping[str, str]) -> list[str]:
    if not classes:
        raise TaskError("no classes to write captions for", expected="a name by label", seen="none")
    for label, name in classes.items():
        if not plain(name):
            raise TaskError(f"class {label!r} has an empty name", do="Give it a name.")
    return list(classes)


def _check_kinds(kinds: Mapping[str, float], attributes: Sequence[str]) -> dict[str, float]:
    unknown = sorted(set(kinds) - set(ALL_KINDS))
    if unknown:
        raise InputError(
            "an unknown kind of caption", expected=", ".join(ALL_KINDS), seen=unknown[0]
        )
    # In one order: a record does not tell in which they were written down.
    weights = {kind: float(kinds[kind]) for kind in ALL_KINDS if kinds.get(kind, 0) != 0}
    if not weights or not all(0 < weight < float("inf") for weight in weights.values()):
        raise InputError(
            "kinds of captions need weights", expected="at least one, none negative",
            seen=str(dict(kinds)),
        )  # fmt: skip
    _check_attributes(attributes, wanted="attribute" in weights)
    return weights


def _check_attributes(attributes: Sequence[str], *, wanted: bool) -> None:
    if isinstance(attributes, str) or not all(plain(one) for one in attributes):
        raise InputError("attributes", expected='a list like ["red"]', seen=repr(attributes))
    if wanted and not attributes:
        raise InputError(
            "the kind attribute has nothing to speak of", expected='attributes like ["red"]',
            seen="none",
        )  # fmt: skip
    if attributes and not wanted:
        raise InputError(
            "attributes that no caption speaks of", expected="a weight for the kind attribute",
            seen="none", do="Give one: kinds {attribute: 1}.",
        )  # fmt: skip


def _check_backgrounds(phrases: Sequence[str], label: str) -> list[str]:
    if isinstance(phrases, str) or not phrases:
        raise InputError(
            f"class {label!r} has no backgrounds", expected='a list like ["on a beach"]',
            seen=repr(phrases), do="Give some, or give the kind `background` no weight.",
        )  # fmt: skip
    return list(dict.fromkeys(phrases))
