"""An arm: a training set made of one source or several, and the controls of a top-up."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, model_validator

from headwater.steps.hybrid.settings import REPEAT, SPREAD, TOP_UP
from headwater.steps.settings import SETTINGS

Item = TypeVar("Item")


def _distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(items)) < len(items):
        raise ValueError("a value stands there twice")
    return items


Distinct = Annotated[tuple[Item, ...], AfterValidator(_distinct)]


class Arm(BaseModel):
    """A training set: one source, a mix of several by share, or the one that val prefers.

    `top_up`, the fourth way to say one, is written out by `with_controls`.
    """

    model_config = SETTINGS

    source: str | None = None
    mix: dict[str, float] = Field(default_factory=dict)
    choose: Distinct[str] = Field((), description="sources of which val chooses one")
    objective: Literal["cross_entropy", "contrastive"] = "cross_entropy"
    reference: bool = Field(False, description="a line to compare with: trained at full size only")

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source, summing to one."""
        parts = {self.source: 1.0} if self.source else self.mix
        whole = sum(parts.values())
        return {name: share / whole for name, share in parts.items()}

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source the arm may draw on."""
        return self.choose or tuple(self.shares)

    def settled(self, source: str) -> Arm:
        """The arm once one of its sources is chosen."""
        return self.model_copy(update={"source": source, "choose": ()})

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(map(bool, (self.source, self.mix, self.choose))) != 1:
            raise ValueError("say one of source, mix, choose")
        if len(self.choose) == 1:
            raise ValueError("choose among two sources or more")
        if not all(0 < share < float("inf") for share in self.mix.values()):
            raise ValueError("shares must be numbers above 0")
        return self


ENDINGS = {"": TOP_UP, f"-{SPREAD}": SPREAD, f"-{REPEAT}": REPEAT}
"""How an arm that is topped up and its two controls are called, after its name."""


def with_controls(value: Any) -> Any:
    """A recipe's mapping, each arm with `top_up` written out as three sources and three arms.

    Artifacts can give away a class of which all synthetic images are; so an arm that is topped up
    never stands alone. What is wrong with the mapping is left to be found later.

    Example:
        >>> told = with_controls({"arms": {"hybrid": {"top_up": {"source": "web"}}}, "sources": {}})
        >>> told["arms"]["hybrid-spread"], told["sources"]["hybrid-spread"]
        ({'source': 'hybrid-spread'}, {'top_up': {'source': 'web', 'how': 'spread'}})
    """
    if not isinstance(value, dict) or not all(
        isinstance(value.get(k), dict) for k in ("sources", "arms")
    ):
        return value
    arms, sources = {}, dict(value["sources"])
    for name, arm in value["arms"].items():
        if not isinstance(arm, dict) or not isinstance(arm.get("top_up"), dict):
            arms[name] = arm
            continue
        others = {key: told for key, told in arm.items() if key != "top_up"}
        for ending, how in ENDINGS.items():
            if f"{name}{ending}" in value["sources"]:
                raise ValueError(
                    f"arm {name} needs the name {name}{ending} for a source of its own"
                )
            if ending and f"{name}{ending}" in value["arms"]:
                raise ValueError(f"arm {name} needs the name {name}{ending} for its control")
            sources[f"{name}{ending}"] = {"top_up": {**arm["top_up"], "how": how}}
            arms[f"{name}{ending}"] = {"source": f"{name}{ending}", **others}
    return {**value, "sources": sources, "arms": arms}
