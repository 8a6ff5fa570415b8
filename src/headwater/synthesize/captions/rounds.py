"""Asks a writer, checks what it answers, and asks again, until every caption is there.

Caption i is the first usable answer to ask i that no earlier caption of the same label has said.
So it depends on the asks before it and on the writer, never on how many are asked at once, nor on
a kill in between.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from headwater.errors import RunError
from headwater.synthesize.captions.plan import SCHEMA
from headwater.synthesize.captions.wording import says, tidy
from headwater.synthesize.captions.writer import Ask, Writer

ATTEMPTS = 8
"""Times a writer is asked for one caption; what it repeats after that is taken."""

BLOCK = 256
"""Captions settled at once: what a kill can cost."""

REFUSALS = {
    "empty": "a line of text",
    "lost": "the name of the class, in one line",
    "unfit": "a short place that does not name the class",
    "repeated": "something new",
}
"""Why an answer is not taken, and what was expected; `unfit` is said of backgrounds only."""

SETTLED = {**SCHEMA, **dict.fromkeys(REFUSALS, pl.Int64)}
"""Columns of settled captions: how many answers were refused before, by reason."""

Check = Callable[[str, Ask], str | None]
"""Why a line is no answer to an ask, of `REFUSALS`; None if it is one."""

Said = defaultdict[str, set[str]]


def keeps_name(line: str, ask: Ask) -> str | None:
    """What a caption is checked for.

    Example:
        >>> keeps_name("two lilies", Ask(0, "a", "iris", "class", "", turn=0, attempt=0))
        'lost'
    """
    return None if says(line, ask.name) else "lost"


def settle_captions(
    asks: Sequence[Ask],
    writer: Writer,
    *,
    seed: int,
    before: pl.DataFrame | None = None,
    block: int = BLOCK,
    check: Check = keeps_name,
) -> Iterator[pl.DataFrame]:
    """Exactly one caption for each ask, a block at a time.

    Args:
        asks: by rising index, as `plan_captions` gives them.
        writer: who is asked.
        seed: of the answers.
        before: the captions of the first asks, where they were settled already.
        block: captions settled at once; the captions do not depend on it.
        check: what else than being a line is expected of an answer.

    Yields:
        Columns index, label, caption, kind; and for each of `REFUSALS` how many answers were
        refused before this one was taken.

    Raises:
        RunError: nothing usable came for some caption, in all attempts; blocks that were yielded
            are not affected.

    Example:
        >>> from headwater.synthesize.captions.grammar import Grammar
        >>> ask = Ask(0, "a", "iris", "background", "in a vase", turn=0, attempt=0)
        >>> [table] = settle_captions([ask], Grammar(templates=["one {}"]), seed=0)
        >>> table["caption"].item()
        'one iris in a vase'
    """
    said: Said = defaultdict(set)
    done = 0
    if before is not None:
        done = len(before)
        for label, caption in before.select("label", "caption").iter_rows():
            said[label].add(caption)
    for start in range(done, len(asks), block):
        yield _settle_block(asks[start : start + block], writer, seed, said, check)


def count_refusals(settled: pl.DataFrame) -> dict[str, int]:
    """How many answers were refused, by reason.

    Example:
        >>> count_refusals(pl.DataFrame(schema=SETTLED))
        {'empty': 0, 'lost': 0, 'unfit': 0, 'repeated': 0}
    """
    return {reason: int(settled[reason].sum()) for reason in REFUSALS}


@dataclass
class _Open:
    """An ask that has no caption yet, and what came for it so far."""

    ask: Ask
    usable: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    heard: str = ""

    def hear(self, answer: str, check: Check) -> None:
        """Note one more answer."""
        self.asked += 1
        self.heard = text = tidy(answer)
        reason = check(text, self.ask) if text else "empty"
        if reason is None:
            self.usable.append(text)
        else:
            self.refused[reason] += 1

    def choose(self, said: set[str]) -> str | None:
        """The first usable answer that is new; after all attempts, one that is not."""
        new = next((text for text in self.usable if text not in said), None)
        if new is None and self.asked >= ATTEMPTS and self.usable:
            return self.usable[0]
        return new

    def needs_another(self, said: set[str]) -> bool:
        """Whether no answer so far will do; what is said stays said."""
        return self.asked < ATTEMPTS and self.choose(said) is None

    def row(self, caption: str) -> tuple[object, ...]:
        """A row of `SETTLED`; usable answers before the chosen one were repeats."""
        ask = self.ask
        counts = self.refused | Counter(repeated=self.usable.index(caption))
        return (ask.index, ask.label, caption, ask.kind, *(counts[name] for name in REFUSALS))


def _settle_block(
    asks: Sequence[Ask], writer: Writer, seed: int, said: Said, check: Check
) -> pl.DataFrame:
    waiting = [_Open(ask) for ask in asks]
    rows = []
    while waiting:
        again = [one for one in waiting if one.needs_another(said[one.ask.label])]
        _hear(again, writer, seed, check)
        settled, waiting = _settle(waiting, said)
        rows += settled
    return pl.DataFrame(sorted(rows), schema=SETTLED, orient="row")


def _hear(waiting: Sequence[_Open], writer: Writer, seed: int, check: Check) -> None:
    asks = [one.ask._replace(attempt=one.asked) for one in waiting]
    answers = writer.write(asks, seed=seed) if asks else []
    for one, answer in zip(waiting, answers, strict=True):
        one.hear(answer, check)


def _settle(waiting: Sequence[_Open], said: Said) -> tuple[list[tuple[object, ...]], list[_Open]]:
    """Give captions in order; behind one that has none yet, its label waits."""
    rows, left = [], []
    held: set[str] = set()
    for one in waiting:
        label = one.ask.label
        caption = None if label in held else one.choose(said[label])
        if caption is None:
            if label not in held and one.asked >= ATTEMPTS:
                raise _lost(waiting)
            held.add(label)
            left.append(one)
            continue
        said[label].add(caption)
        rows.append(one.row(caption))
    return rows, left


def _lost(waiting: Sequence[_Open]) -> RunError:
    """The line for asks that nothing usable came for."""
    hopeless = [one for one in waiting if one.asked >= ATTEMPTS and not one.usable]
    label, count = Counter(one.ask.label for one in hopeless).most_common(1)[0]
    first = next(one for one in hopeless if one.ask.label == label)
    reason = first.refused.most_common(1)[0][0]
    of_it = f"{count} caption{'s' * (count != 1)} of class {label}"
    return RunError(
        f"nothing usable came for {of_it}, in {ATTEMPTS} attempts each",
        expected=REFUSALS[reason], seen=repr(first.heard[:60]),
        do="Use another writer, or give the class a name it keeps; what is written stays.",
    )  # fmt: skip
