"""What a task's classes are called by others: the class a folder or a label means, and back.

A class is meant by its label, else by its name, else by what is alike: case, spaces, underscores,
dashes and slashes do not count then. Whoever asks for many names is told of all mistakes at once.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from headwater.errors import TaskError
from headwater.task import Task

UNFIT = re.compile(r'^[. ]|[. ]$|[<>:"/\\|?*\x00-\x1f\x7f-\x9f]|%(?=[0-9A-Fa-f]{2})')
"""What no name of a file may hold, would hide it, or reads like an escape."""

TOLD = 200  # unknown names listed in an error
COMPARED = 50  # of these with the nearest known names
LETTERS = 60  # of a name shown


@dataclass(frozen=True)
class Meaning:
    """The class a text means; without one, the labels of those it may mean."""

    index: int | None
    loose: bool = False  # alike, not the same
    several: tuple[str, ...] = ()


class ClassNames:
    """A task's labels and names, to be looked up by what others call them.

    Example:
        >>> planes = Task.model_validate({"format": 1, "name": "planes",
        ...                               "classes": ["F-16A_B", "DC-10"]})
        >>> known = ClassNames(planes)
        >>> known.find("DC-10").index, known.find("f-16a/b"), known.nearest("DC-9")
        (1, Meaning(index=0, loose=True, several=()), ['DC-10'])
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._exact = [_places(task.labels), _places(task.names)]
        self._alike = [_places(map(squash, names)) for names in (task.names, task.labels)]

    def find(self, text: str) -> Meaning:
        """The class meant: what `file_name` escaped is read back."""
        meant = unquote(text)
        spellings = [meant, text] if file_name(meant) == text else [text]
        for spelling in spellings:
            for known in self._exact:
                if len(found := known.get(spelling, [])) == 1:
                    return Meaning(found[0])
        short = squash(spellings[0])
        alike = next((known[short] for known in self._alike if short and short in known), [])
        if len(alike) == 1:
            return Meaning(alike[0], loose=True)
        return Meaning(None, several=tuple(self.task.labels[i] for i in alike))

    def nearest(self, text: str) -> list[str]:
        """The labels or names a text is most like: those it may mean, or two by their letters."""
        known = dict.fromkeys([*self.task.labels, *self.task.names])
        return [*self.find(text).several] or difflib.get_close_matches(text[:LETTERS], known, n=2)


def class_index(text: str, task: Task) -> int:
    """The index of the class that a text means.

    Raises:
        TaskError: no class, or several, are meant; the nearest labels are given.
    """
    index = ClassNames(task).find(text).index
    if index is None:
        raise unknown_classes([text], ClassNames(task))
    return index


def class_indices(texts: Sequence[str], known: ClassNames, *, what: str) -> dict[str, Meaning]:
    """The class each of several texts means.

    Args:
        texts: what classes are called.
        known: the classes.
        what: what is called so, as errors say it: "folder".

    Raises:
        TaskError: texts that mean no class, all of them; or two that mean the same one.
    """
    found = {text: known.find(text) for text in texts}
    unknown = [text for text, meaning in found.items() if meaning.index is None]
    if unknown:
        raise unknown_classes(unknown, known, what=what)
    refuse_twins({t: known.task.labels[m.index or 0] for t, m in found.items()}, what=what)
    return found


def unknown_classes(
    texts: Sequence[str], known: ClassNames, *, what: str = "class", do: str = ""
) -> TaskError:
    """The error for texts that mean no class: all of them, the first with the nearest names."""
    near = {text: known.nearest(text) for text in texts[:COMPARED]}
    if len(texts) == 1:
        [text] = texts
        did = f"Did you mean {' or '.join(near[text])}? " if near[text] else ""
        return TaskError(
            f"{shown(text)} is no class of task {known.task.name}",
            expected="a class label or name", seen=shown(text), do=(did + do).strip(),
        )  # fmt: skip
    told = [
        f"{shown(text)} ({' or '.join(near[text])}?)" if near.get(text) else shown(text)
        for text in texts[:TOLD]
    ]
    more = [f"{len(texts) - TOLD:,} more"] if len(texts) > TOLD else []
    return TaskError(
        f"{len(texts):,} {plural(what)} are not of task {known.task.name}",
        expected="labels or names of classes", seen="; ".join([*told, *more]), do=do,
    )  # fmt: skip


def refuse_twins(labels: Mapping[str, str], *, what: str, do: str = "") -> None:
    """Raise `TaskError` if two texts mean one label, naming all such.

    Example:
        >>> refuse_twins({"tree fern": "fern", "Fern": "fern"}, what="folder")
        Traceback (most recent call last):
            ...
        headwater.errors.TaskError: two folders for class fern: expected one, saw tree fern and Fern
    """
    by_label = defaultdict(list)
    for text, label in labels.items():
        by_label[label].append(shown(text))
    twins = {label: texts for label, texts in by_label.items() if len(texts) > 1}
    if twins:
        raise TaskError(
            f"two {plural(what)} for class {', '.join(twins)}", expected="one",
            seen="; ".join(" and ".join(texts) for texts in twins.values()), do=do,
        )  # fmt: skip


def plural(what: str) -> str:
    """`folder` -> `folders`, `class` -> `classes`."""
    return what + ("es" if what.endswith("s") else "s")


def many(count: int, what: str) -> str:
    """So many of a thing, in words.

    Example:
        >>> many(1, "class"), many(2000, "class")
        ('1 class', '2,000 classes')
    """
    return f"{count:,} {what if count == 1 else plural(what)}"


def shown(text: str) -> str:
    """A name from outside as errors show it: not longer than a name is.

    Example:
        >>> shown("rose"), shown("")
        ('rose', "''")
    """
    return (text if len(text) <= LETTERS else f"{text[:LETTERS]}...") or "''"


def file_name(text: str) -> str:
    """A text as the name of a file or folder on any system; no two texts share one.

    What does not fit is escaped as in a URL; most texts stay as they are.

    Example:
        >>> file_name("tree fern"), file_name("AC/DC"), file_name(".."), file_name("100% silk")
        ('tree fern', 'AC%2FDC', '%2E%2E', '100% silk')
    """
    return UNFIT.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), text)


def squash(text: str) -> str:
    """What is compared where names need only be alike: letters and digits, in one case.

    Example:
        >>> squash("F-16A/B") == squash("f 16a_b"), squash("Café") == squash("Cafe\u0301")
        (True, True)
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _places(names: Iterable[str]) -> dict[str, list[int]]:
    """Where each name stands."""
    found = defaultdict(list)
    for index, name in enumerate(names):
        found[name].append(index)
    return dict(found)
