"""What may be a caption: one line, of a sane length, with the name of its class in it."""

from __future__ import annotations

import re
import unicodedata

from headwater.errors import plain

LONGEST = 400
"""Characters of a caption: text encoders of generators read 77 tokens, some 300 characters."""

MOST_READ = 100_000
"""Characters that are looked at before cutting; what comes from outside may be of any size."""

PREPOSITIONS = frozenset((
    "about", "above", "across", "after", "against", "along", "among", "amid", "around", "as", "at",
    "atop", "before", "behind", "below", "beneath", "beside", "besides", "between", "beyond", "by",
    "during", "from", "in", "inside", "into", "near", "next", "of", "off", "on", "onto", "outside",
    "over", "past", "through", "throughout", "to", "toward", "towards", "under", "underneath",
    "upon", "with", "within", "without",
))  # fmt: skip
"""What a place begins with, and what makes an attribute a phrase: "covered in snow"."""

TOKEN = re.compile(r"[^\W_]+")


def tidy(text: str) -> str:
    r"""The first line that says anything, without control characters, cut after a whole word.

    Example:
        >>> tidy("\n  a photo of\ta rose \nHere is another:")
        'a photo of a rose'
    """
    lines = (plain(line) for line in text[:MOST_READ].splitlines())
    return shorten(next((line for line in lines if line), ""))


def shorten(line: str) -> str:
    """A line of at most `LONGEST` characters, cut after a whole word.

    Example:
        >>> shorten("a photo of a rose")
        'a photo of a rose'
    """
    if len(line) <= LONGEST:
        return line
    head, space, _ = line[: LONGEST + 1].rpartition(" ")
    return head.rstrip(" ,;:") if space else line[:LONGEST]


def says(caption: str, name: str) -> bool:
    """Whether a caption has a name in it: all its words, one after the other, in any case.

    Example:
        >>> says("A Bengal-tiger, asleep", "bengal tiger"), says("two roses", "rose")
        (True, False)
    """
    wanted, words = tokens(name), tokens(caption)
    if not wanted:  # a name of signs only
        return name in caption
    starts = range(len(words) - len(wanted) + 1)
    return any(words[at : at + len(wanted)] == wanted for at in starts)


def tokens(text: str) -> list[str]:
    """The words of a text without their case; signs, spaces and underscores part them."""
    return TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
