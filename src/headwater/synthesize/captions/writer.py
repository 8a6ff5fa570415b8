"""The face of everything that writes captions: what it is asked, and what it answers.

Writers: the grammar (`grammar.py`), a causal language model on this machine (`language_model.py`)
and an OpenAI-compatible server (`endpoint.py`). What is asked is planned in `plan.py`; what came
back is checked in `rounds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from headwater.errors import plain


class Ask(NamedTuple):
    """One caption that is wanted, or a place a class may be found in (kind `place`)."""

    index: int  # type: ignore[assignment]  # of no use here: the method of that name of tuples
    """The number of the caption."""
    label: str
    name: str
    """Of the class, as shown."""
    kind: str
    setting: str
    """The background, relation or attribute to speak of; "" for class and texture."""
    turn: int
    """How many asks of the same label, kind and setting come before it."""
    attempt: int
    """0, then 1, 2, ... where an earlier answer could not be used."""


def served_name(model: str) -> str:
    """What a model that a server knows is called in records: some servers call it by its folder.

    Example:
        >>> served_name("someone/small-model"), served_name("/srv/models/small-model")
        ('someone/small-model', 'small-model')
    """
    name = plain(model)
    return name.rstrip("/").rpartition("/")[2] if name.startswith(("/", "~")) else name


class Writer(Protocol):
    """Writes captions; an answer depends on the ask and the seed, never on the asks beside it."""

    @property
    def name(self) -> str:
        """For records: "grammar", or what the model is called; no path, no key."""

    @property
    def digest(self) -> str:
        """Identifies the weights and settings that decide what it writes."""

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        """One line for each ask; "" where nothing came."""
