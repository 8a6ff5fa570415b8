"""Prompts: class names put into templates."""

from __future__ import annotations

import re

from headwater.errors import InputError

SLOT = re.compile(r"\{[ac]?\}")
VOWELS = tuple("aeiou")


def fill(template: str, name: str) -> str:
    """A prompt for a class: `{}` or `{c}` is its name, `{a}` is "a" or "an", as the name asks for.

    Braces inside the name are left alone.

    Raises:
        InputError: the template does not say where the name goes.

    Example:
        >>> fill("a photo of {a} {}.", "iris")
        'a photo of an iris.'
    """
    if not has_slot(template):
        raise InputError(
            "prompt without a class", expected="{} where the name goes", seen=repr(template)
        )
    article = "an" if name[:1].lower() in VOWELS else "a"
    return SLOT.sub(lambda slot: article if slot[0] == "{a}" else name, template)


def has_slot(template: str) -> bool:
    """Whether a template says where the class name goes.

    Example:
        >>> has_slot("a photo of {a} flower")
        False
    """
    return "{}" in template or "{c}" in template
