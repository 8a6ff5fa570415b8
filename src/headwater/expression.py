"""Caption queries as boolean expressions: `"rose" AND ("flower" OR "petal") NOT "wine"`.

Here they are read, with SQLite FTS5's grammar and precedence; what they match is decided in
`retrieve/`. Task files hold them as `caption_query`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from headwater.errors import QueryError

MAX_DEPTH = 50  # parentheses inside each other; nobody writes more, and the parser recurses
OPERATORS = ("AND", "OR", "NOT")
_SHOWN = 40  # characters of the expression shown on each side of a mistake

_LEXEME = re.compile(r'[ \t\r\n]*(?:("(?:[^"]|"")*"?)|([()])|([^ \t\r\n"()]+)|$)')
_FOREIGN = {
    "*": "a prefix (*)",
    "+": "a joined phrase (+)",
    "^": "a beginning (^)",
    ":": "a column (:)",
    "{": "columns ({)",
    "}": "columns (})",
    "\u201c": "a curly quote (\u201c)",
    "\u201d": "a curly quote (\u201d)",
}


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand one after the other; `at` is its first character, from 1."""

    text: str
    at: int = 1


@dataclass(frozen=True, slots=True)
class And:
    """All parts are there."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part is there."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`keep` is there and none of `drops` is."""

    keep: Node
    drops: tuple[Node, ...]


Node = Phrase | And | Or | Not


@dataclass(frozen=True, slots=True)
class Expression:
    """A caption query that was read: its text as given, and its tree."""

    text: str
    root: Node = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.text


def parse_query(text: str) -> Expression:
    r"""Read a boolean expression of phrases, as SQLite's FTS5 does.

    Phrases stand in double quotes (a quote inside is doubled); a word without quotes is a phrase
    too. Phrases side by side are joined by AND, tighter than anything else; then come NOT, which
    stands between two queries, then AND, then OR; parentheses group. Operators are upper-case.

    Args:
        text: the expression.

    Returns:
        What `match_captions` takes in place of a plain phrase.

    Raises:
        QueryError: the expression cannot be read; points at the character.

    Example:
        >>> parse_query('"rose" AND "flower"').root
        And(parts=(Phrase(text='rose', at=1), Phrase(text='flower', at=12)))
        >>> parse_query('"rose" AND OR "tulip"')
        Traceback (most recent call last):
        headwater.errors.QueryError: ...AND [here] OR...at character 12: expected a phrase...
    """
    if not isinstance(text, str):
        raise QueryError("a query is not text", expected="text", seen=type(text).__name__)
    if not is_unicode(text):
        raise QueryError("a query is not valid Unicode", seen=repr(text))
    return Expression(text, _Parser(text).whole())


def phrases_of(node: Node) -> Iterator[Phrase]:
    """The phrases of a tree, from left to right."""
    if isinstance(node, Phrase):
        yield node
    else:
        parts = (node.keep, *node.drops) if isinstance(node, Not) else node.parts
        for part in parts:
            yield from phrases_of(part)


def is_searchable(text: str) -> bool:
    """Whether a text has a letter, a digit or a symbol; the rest would match nearly everything.

    Example:
        >>> is_searchable("C-3"), is_searchable("?!"), is_searchable("")
        (True, False, False)
    """
    kinds = {unicodedata.category(character) for character in text}
    return any(kind[0] in "LNS" or kind == "Co" for kind in kinds)


def is_unicode(text: str) -> bool:
    r"""Whether a text can be written as UTF-8: half of a surrogate pair, as JSON may hold, cannot.

    Example:
        >>> is_unicode("rosé"), is_unicode("ros\ud83d")
        (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(frozen=True, slots=True)
class _Lexeme:
    kind: str  # "phrase", "(", ")", "end", or an operator
    text: str
    at: int  # index of its first character

    @property
    def shown(self) -> str:
        return {"phrase": repr(self.text), "end": "the end"}.get(self.kind, self.kind)


class _Parser:
    """Recursive descent, one lexeme ahead; the depth is that of the parentheses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._end = 0
        self._next = self._read()

    def whole(self) -> Node:
        node = self._or()
        if self._next.kind != "end":
            self._fail(self._next.at, "AND, OR, NOT or the end", self._next.shown)
        return node

    def _or(self) -> Node:
        parts = self._chain("OR", self._and)
        return parts[0] if len(parts) == 1 else Or(parts)

    def _and(self) -> Node:
        parts = self._chain("AND", self._not)
        return parts[0] if len(parts) == 1 else And(parts)

    def _not(self) -> Node:
        keep, *drops = self._chain("NOT", self._primary)
        return Not(keep, tuple(drops)) if drops else keep

    def _chain(self, operator: str, operand: Callable[[], Node]) -> tuple[Node, ...]:
        parts = [operand()]
        while self._next.kind == operator:
            self._advance()
            parts.append(operand())
        return tuple(parts)

    def _primary(self) -> Node:
        if self._next.kind == "(":
            return self._group()
        phrases: list[Node] = []
        while self._next.kind == "phrase":
            if not is_searchable(self._next.text):
                self._fail(
                    self._next.at, "a phrase with a letter, digit or symbol", self._next.shown
                )
            phrases.append(Phrase(self._next.text, self._next.at + 1))
            self._advance()
        if not phrases:
            self._fail(self._next.at, 'a phrase or "("', self._next.shown)
        return phrases[0] if len(phrases) == 1 else And(tuple(phrases))

    def _group(self) -> Node:
        opened = self._next.at
        if self._depth == MAX_DEPTH:
            self._fail(opened, f"at most {MAX_DEPTH} parentheses inside each other", "one more")
        self._depth += 1
        self._advance()
        node = self._or()
        if self._next.kind != ")":
            wanted = f'AND, OR, NOT or the ")" of character {opened + 1}'
            self._fail(self._next.at, wanted, self._next.shown)
        self._depth -= 1
        self._advance()
        return node

    def _advance(self) -> None:
        self._next = self._read()

    def _read(self) -> _Lexeme:
        found = _LEXEME.match(self._text, self._end)
        assert found is not None  # the pattern fits anywhere
        self._end = found.end()
        quoted, bracket, word = found.groups()
        at = found.start(found.lastindex) if found.lastindex else len(self._text)
        if quoted:
            return _Lexeme("phrase", self._unquote(quoted, at), at)
        if word in OPERATORS or bracket:
            return _Lexeme(word or bracket, word or bracket, at)
        if word:
            self._check_word(word, at)
            return _Lexeme("phrase", word, at)
        return _Lexeme("end", "", at)

    def _unquote(self, quoted: str, at: int) -> str:
        inside = quoted[1:]
        if (len(inside) - len(inside.rstrip('"'))) % 2 == 0:
            self._fail(len(self._text), f"the closing quote of character {at + 1}", "the end")
        return inside[:-1].replace('""', '"')

    def _check_word(self, word: str, at: int) -> None:
        if word.startswith("-"):
            self._fail(at, "NOT between two phrases", "a leading -")
        for i, character in enumerate(word):
            if character in _FOREIGN:
                self._fail(at + i, 'phrases in straight quotes ("), AND, OR, NOT and parentheses',
                           _FOREIGN[character])  # fmt: skip

    def _fail(self, at: int, expected: str, seen: str) -> NoReturn:
        before, after = self._text[:at], self._text[at:]
        before = before if len(before) <= _SHOWN else "..." + before[-_SHOWN:]
        after = after if len(after) <= _SHOWN else after[:_SHOWN] + "..."
        raise QueryError(
            f"the query {before.rstrip()} [here] {after} cannot be read at character {at + 1}",
            expected=expected, seen=seen,
        )  # fmt: skip
