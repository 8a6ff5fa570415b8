"""The face of everything that writes captions: what it is asked, and what it answers.

Writers: the grammar (`grammar.py`), a causal language model on this machine (`language_model.py`)
and an OpenAI-compatible server (`endpoint.py`). What is asked is planned in `plan.py`; what came
back is checked in `rounds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from headwater.errors import InputError


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


def open_writer(
    by: str,
    *,
    model: str | None = None,
    url: str | None = None,
    key: str | None = None,
    temperature: float = 0.8,
    top_p: float = 0.9,
    tokens: int = 100,
    block: int = 16,
    concurrency: int = 4,
) -> Writer:
    """A writer that stands on a model; nothing heavy is imported before it is asked for.

    Args:
        by: "model" (on this machine) or "endpoint" (an OpenAI-compatible server).
        model: a folder or a name on the Hub; for an endpoint, what it calls its model.
        url: of an endpoint, up to and with /v1.
        key: of an endpoint; goes into no record.
        temperature, top_p: how it samples.
        tokens: at most so many new ones.
        block: captions written at once by a model.
        concurrency: requests at once to an endpoint.

    Raises:
        InputError: no such kind of writer, or one that lacks its model or address.
        ModelError: the model cannot be loaded.

    Example:
        >>> open_writer("pigeon")
        Traceback (most recent call last):
            ...
        headwater.errors.InputError: no writer called pigeon: expected model or endpoint
    """
    if by not in ("model", "endpoint"):
        raise InputError(f"no writer called {by}", expected="model or endpoint")
    if not model or (by == "endpoint" and not url):
        needed = "a model" if by == "model" else "a model and a url"
        raise InputError(f"captions by {by} need {needed}")
    sampled: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "tokens": tokens}
    if by == "model":
        from headwater.synthesize.captions.language_model import LanguageModel

        written: Writer = LanguageModel(model, **sampled, block=block)
        return written
    from headwater.synthesize.captions.endpoint import Endpoint

    served: Writer = Endpoint(str(url), model, key=key, **sampled, concurrency=concurrency)
    return served
