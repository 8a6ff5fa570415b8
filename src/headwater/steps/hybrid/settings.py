"""What a top-up may be told, shared by recipes and command line."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from headwater.steps.settings import SETTINGS

TOP_UP, SPREAD, REPEAT = "top_up", "spread", "repeat"
CONTROLS = (SPREAD, REPEAT)
"""What always runs beside a top-up; see `top_up.py` for what each tells apart."""


class TopUp(BaseModel):
    """How a set of real images is topped up where it, or the pool behind it, has few."""

    model_config = SETTINGS

    source: str = Field(min_length=1, description="the set that is topped up")
    fill: str = Field(min_length=1, description="the set the synthetic images come from")
    target: int = Field(ge=1, description="images a class, or captions a (class, attribute)")
    attributes: tuple[str, ...] = Field((), description="phrases captions are searched for")
    how: Literal["top_up", "spread", "repeat"] = Field(
        "top_up", description="the top-up itself, or one of its controls"
    )

    @property
    def parents(self) -> tuple[str, ...]:
        """The sources it is made from."""
        return self.source, self.fill

    @property
    def arguments(self) -> dict[str, Any]:
        """What decides the result of it; both sets are inputs."""
        return {"target": self.target, "attributes": list(self.attributes), "how": self.how}

    @model_validator(mode="after")
    def _are_two_sets_and_phrases(self) -> Self:
        if self.source == self.fill:
            raise ValueError("a set is not topped up with itself")
        if not all(phrase.strip() for phrase in self.attributes):
            raise ValueError("an attribute is empty")
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError("an attribute is named twice")
        return self
