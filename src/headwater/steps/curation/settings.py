"""What a curation may be told: one pixel path, scores, and rules in the order they apply.

Defaults are the paper's constants (docs/method.md). docs/recipes.md tells every key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from headwater.steps.settings import SETTINGS


class ScoreRule(BaseModel):
    """The best pairs by one score stay: a share and a number of each class, and a lowest value."""

    model_config = SETTINGS

    score: str = Field(min_length=1, description="a score's name, or FILE.py:FUNCTION")
    fraction: float | None = Field(None, gt=0, le=1, description="share kept of each class")
    cap: int | None = Field(None, ge=1, description="most pairs kept of each class")
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="lowest score kept, whatever the class"
    )

    @property
    def column(self) -> str:
        """The score's column."""
        return column_of(self.score)

    @property
    def gate(self) -> str:
        """What the funnel calls it: like the score's column."""
        return self.column

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.fraction is None and self.cap is None and self.threshold is None:
            raise ValueError("a rule by score needs a fraction, a cap or a threshold")
        return self


class CopiesRule(BaseModel):
    """No pair stays that is a copy of an image of these splits of the task.

    `test` stands for every split a task is tested on: all but train and val, as the gate before
    training has it.
    """

    model_config = SETTINGS

    copies: tuple[str, ...] = Field(min_length=1, description="splits no pair may be a copy of")
    threshold: float | None = Field(
        None, ge=-1, le=1, description="similarity above which it is one"
    )

    @property
    def gate(self) -> str:
        """What the funnel calls it."""
        return "no_copy"

    def among(self, splits: Iterable[str]) -> list[str]:
        """Those of some splits that are compared.

        Example:
            >>> CopiesRule(copies=("test",)).among(["train", "test", "sketches"])
            ['test', 'sketches']
        """
        have = list(splits)
        named = [split for split in self.copies if split in have]
        tests = [split for split in have if split not in ("train", "val")]
        return list(dict.fromkeys([*named, *(tests if "test" in self.copies else [])]))


class DuplicatesRule(BaseModel):
    """Of pairs that copy each other, in the whole set or in a class, the best scored stays."""

    model_config = SETTINGS

    duplicates: Literal["set", "class"]
    threshold: float | None = Field(
        None, ge=-1, le=1, description="similarity above which it is one"
    )

    @property
    def gate(self) -> str:
        """What the funnel calls it."""
        return "no_duplicate"


Rules = tuple[ScoreRule | CopiesRule | DuplicatesRule, ...]


def _kind_of_rule(rule: Any) -> str | None:
    if isinstance(rule, BaseModel):
        return f"<{type(rule).__name__}>"
    kinds = {"score": ScoreRule, "copies": CopiesRule, "duplicates": DuplicatesRule}
    told = rule if isinstance(rule, dict) else {}
    return next((f"<{kind.__name__}>" for key, kind in kinds.items() if key in told), None)


def _kind_of_rules(rules: Any) -> str:
    return "<word>" if isinstance(rules, str) else "<stack>"


_Rule = Annotated[
    Annotated[ScoreRule, Tag("<ScoreRule>")]
    | Annotated[CopiesRule, Tag("<CopiesRule>")]
    | Annotated[DuplicatesRule, Tag("<DuplicatesRule>")],
    Discriminator(
        _kind_of_rule,
        custom_error_type="rule",
        custom_error_message="a rule says one of score, copies, duplicates",
    ),
]
_Rules = Annotated[
    Annotated[Literal["reference"], Tag("<word>")] | Annotated[tuple[_Rule, ...], Tag("<stack>")],
    Discriminator(_kind_of_rules),
]

HEADS = ("aesthetic", "safety")
"""Scores that need the weights of a head on CLIP features."""

TOP = ScoreRule(score="clip_score", fraction=0.3)
USUAL_RULES: Rules = (
    TOP.model_copy(update={"cap": 10_000}),
    CopiesRule(copies=("test",)),
)
"""The paper's rules for retrieved data, here for every source; see `Curation.rules_for`."""


class Curation(BaseModel):
    """How a set is curated: one pixel path, scores, then rules in the order given."""

    model_config = SETTINGS

    pixels: Literal["one", "reference"] = Field("one", description="reference: images as they came")
    size: int = Field(256, ge=8, le=4096, description="side after the pixel path, pixels")
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of the pixel path")
    aggregate: Literal["mean", "max"] = Field("mean", description="over a class's texts")
    scores: tuple[str, ...] = Field(
        ("caption_score", "sharpness", "short_side", "aspect"),
        description="columns to have beside those that rules ask for",
    )
    heads: dict[str, str] = Field(default_factory=dict, description="weights of further scores")
    rules: _Rules = Field(USUAL_RULES, description="what a pair must pass, in order")
    descriptor: Literal["auto", "builtin", "isc", "sscd"] = Field(
        "auto", description="what copies are told by"
    )
    descriptor_weights: str | None = Field(None, description="the descriptor's file")
    reject: str | None = Field(None, description="CSV of ids a person marked as bad")

    @field_validator("heads")
    @classmethod
    def _known_heads(cls, heads: dict[str, str]) -> dict[str, str]:
        for name in heads:
            if name not in HEADS:
                raise ValueError(f"{name} is no head; known: {', '.join(HEADS)}")
        return heads

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> Self:
        names = [column_of(score) for score in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two scores are called {twice}; rename one of the functions")
        return self

    def rules_for(self, verb: str) -> Rules:
        """The rules for a set that `verb` made.

        `reference` is what the paper did: only retrieved data is capped and decontaminated.

        Example:
            >>> [rule.gate for rule in Curation(rules="reference").rules_for("synthesize")]
            ['clip_score']
        """
        if self.rules != "reference":
            return self.rules
        return USUAL_RULES if verb == "retrieve" else (TOP,)

    def gates_for(self, verb: str) -> list[str]:
        """What the funnel calls each of those rules; one that comes again gets a number.

        Example:
            >>> Curation().gates_for("retrieve")
            ['clip_score', 'no_copy']
        """
        gates = [rule.gate for rule in self.rules_for(verb)]
        times = [gates[: at + 1].count(gate) for at, gate in enumerate(gates)]
        return [g if n == 1 else f"{g}_{n}" for g, n in zip(gates, times, strict=True)]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every score to be computed, by the name or place it is asked for."""
        asked = [rule.score for rule in self.rules if isinstance(rule, ScoreRule)]
        first = asked if self.rules != "reference" else [TOP.score]
        return tuple(dict.fromkeys((*first, *self.scores, *self.heads)))

    @property
    def arguments(self) -> dict[str, Any]:
        """What decides the result, without places: what lies there is an input of its own."""
        told = self.model_dump(mode="json", exclude={"heads", "descriptor_weights", "reject"})
        del told["descriptor"]
        told["scores"] = [column_of(name) for name in self.columns]
        if self.rules != "reference":
            told["rules"] = [
                {**rule, "score": column_of(rule["score"])} if "score" in rule else rule
                for rule in told["rules"]
            ]
        return told


def compared_splits(rules: Rules) -> tuple[str, ...]:
    """The splits that rules on copies name, each once.

    Example:
        >>> compared_splits(Curation().rules_for("retrieve"))
        ('test',)
    """
    rows = [rule.copies for rule in rules if isinstance(rule, CopiesRule)]
    return tuple(dict.fromkeys(split for splits in rows for split in splits))


def column_of(score: str) -> str:
    """The column of a score: its name, or that of the function.

    Example:
        >>> column_of("clip_score"), column_of("mine.py:warmth")
        ('clip_score', 'warmth')
    """
    return score.rpartition(":")[2]
