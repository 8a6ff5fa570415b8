"""What a language model is told when it shall write a caption, and what is kept of its answer.

A base model goes on with lines like "fish, in a river => A silver fish ...", a chat model is given
the same examples as turns of a conversation. The examples are in `examples.py`.
"""

from __future__ import annotations

import random
import re

from headwater.errors import InputError, plain
from headwater.store import digest_value, stable_seed
from headwater.synthesize.captions.examples import EXAMPLES, Example
from headwater.synthesize.captions.wording import tidy
from headwater.synthesize.captions.writer import Ask

SHOWN = 3
"""Examples in a prompt, as in the paper."""

ARROW = "=>"

CAPTION = (
    "Write one caption for a photo of the subject, in one line of at most 30 words. "
    "Name the subject in exactly the words given. {} Answer with the caption alone."
)

TASKS = {
    "class": CAPTION.format("Say what it looks like or what it does."),
    "background": CAPTION.format("The words after the comma say where it is: keep them."),
    "relation": CAPTION.format(
        "The words after the comma say how it stands to something else: use them, and choose "
        "what that is."
    ),
    "texture": CAPTION.format("It is a texture: say which surface shows it, seen close up."),
    "attribute": CAPTION.format("The words after the comma say what it is like: use them."),
    "place": (
        "Name one place where photos of the subject are taken, in at most eight words that "
        "begin with a word like in, on, at or by. Do not name the subject. "
        "Answer with the place alone."
    ),
}
"""What is to be done, by kind of ask."""

THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
TAG = re.compile(r"</?[a-z][^<>]*>|<\|[^<>|]*\|>|\[/?INST\]", re.IGNORECASE)
FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
BULLET = re.compile(r"(?:[-*+>#•·–—]+|\(?\d{1,3}[.)]|\(?[a-z]\))\s+", re.IGNORECASE)  # noqa: RUF001
TITLE = re.compile(r"(?:the |a |your )?(?:caption|place|answer)(?: \d+)?\s*:\s*", re.IGNORECASE)
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“"}  # noqa: RUF001
EMPHASIS = ("**", "__", "*", "`")

MOST_KEPT = 20_000
"""Characters of an answer that are looked at."""


def prompt(ask: Ask, *, seed: int) -> str:
    """The text a base model goes on with; it ends where the answer begins.

    Example:
        >>> ask = Ask(0, "a", "iris", "background", "in a vase", turn=0, attempt=0)
        >>> print(prompt(ask, seed=0).splitlines()[-1])
        iris, in a vase =>
    """
    lines = [f"{_subject(e.name, e.setting)} {ARROW} {e.caption}" for e in drawn(ask, seed=seed)]
    return "\n".join([TASKS[ask.kind], "", *lines, f"{_asked(ask)} {ARROW}"])


def conversation(ask: Ask, *, seed: int) -> list[dict[str, str]]:
    """Messages for a chat model: the task, the examples as earlier turns, and the ask.

    There is no system message, since some models know none.

    Example:
        >>> ask = Ask(0, "a", "iris", "background", "in a vase", turn=0, attempt=0)
        >>> said = conversation(ask, seed=0)
        >>> said[-1], len(said)
        ({'role': 'user', 'content': 'iris, in a vase'}, 7)
    """
    messages = []
    for example in drawn(ask, seed=seed):
        asked = _subject(example.name, example.setting)
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": example.caption})
    messages[0]["content"] = f"{TASKS[ask.kind]}\n\n{messages[0]['content']}"
    return [*messages, {"role": "user", "content": _asked(ask)}]


def drawn(ask: Ask, *, seed: int) -> list[Example]:
    """The examples shown with an ask, none of its own class; another attempt has others.

    Raises:
        InputError: an unknown kind.
    """
    if ask.kind not in EXAMPLES:
        raise InputError(
            "no model can be asked for this kind of caption", expected=", ".join(EXAMPLES),
            seen=repr(ask.kind),
        )  # fmt: skip
    others = [e for e in EXAMPLES[ask.kind] if e.name.casefold() != ask.name.casefold()]
    return random.Random(stable_seed(seed, "examples", *ask)).sample(others, SHOWN)


def clean(answer: str, ask: Ask) -> str:
    r"""What an answer says, in one line: without markup, bullets, numbers, quotes or an echo.

    Example:
        >>> ask = Ask(0, "a", "iris", "background", "in a vase", turn=0, attempt=0)
        >>> clean('\n1. **"An iris in a vase"**\n2. ...', ask)
        'An iris in a vase'
        >>> clean("iris, in a vase => A blue iris in a vase", ask)
        'A blue iris in a vase'
    """
    line = _bare(_without_echo(_unmarked(answer, keep=ask.name), ask))
    return line.rstrip(". ") if ask.kind == "place" else line


def clean_line(answer: str) -> str:
    r"""What was said of an image, in one line: without markup, bullets, numbers or quotes.

    Example:
        >>> clean_line("**Caption:** a vase of flowers\n\nIt stands on ...")
        'a vase of flowers'
    """
    return _bare(_unmarked(answer))


def instructions_digest() -> str:
    """Identifies every word a model is told; for the digests of writers."""
    return digest_value([TASKS, EXAMPLES, SHOWN, ARROW])


def _subject(name: str, setting: str) -> str:
    return ", ".join(plain(part) for part in (name, setting) if part)


def _asked(ask: Ask) -> str:
    return _subject(ask.name, "" if ask.kind == "place" else ask.setting)


def _unmarked(answer: str, *, keep: str = "") -> str:
    """The first line that says anything, without tags, thoughts and emphasis."""
    text = TAG.sub("", FENCE.sub("", THOUGHT.sub("", answer[:MOST_KEPT])))
    for mark in EMPHASIS:
        text = text if mark in keep else text.replace(mark, "")
    return tidy(text)


def _without_echo(line: str, ask: Ask) -> str:
    """What follows the ask where it was said again; a line that went on to others is none."""
    before, arrow, after = line.partition(ARROW)
    if not arrow:
        return line
    if _bare(before).casefold() in ("", _asked(ask).casefold()) and ARROW not in after:
        return after.strip()
    return ""


def _bare(line: str) -> str:
    """A line without what stands around it, layer by layer."""
    while True:
        shorter = _peel(line)
        if shorter == line:
            return line
        line = shorter


def _peel(line: str) -> str:
    line = line.strip()
    for pattern in (BULLET, TITLE):
        found = pattern.match(line)
        line = line[found.end() :] if found else line
    if line[:1] not in QUOTES:
        return line
    close, inside = QUOTES[line[0]], line[1:].removesuffix(QUOTES[line[0]])
    is_around = close not in inside and line[0] not in inside  # not: "red" and "white"
    return inside if is_around and (line.endswith(close) or close != "'") else line
