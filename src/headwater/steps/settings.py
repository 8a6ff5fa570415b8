"""What each step may be told: the settings a recipe and the command line share.

Defaults are the paper's constants (docs/method.md); every field has its bounds. What a curation may
be told is in `curation/settings.py`, what a generator may be told in `synthesis/settings.py`.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SETTINGS = ConfigDict(extra="forbid", frozen=True)


NEIGHBORS = ("k", "average", "examples", "duplicates", "features")
OWN_SETTINGS = {
    "captions": ("mode",),
    "neighbors": NEIGHBORS,
    "both": ("mode", *NEIGHBORS),
    "random": ("n",),
}
"""What each way to retrieve may be told."""


class Retrieval(BaseModel):
    """How pairs of the pool are found; each way reads only its own settings."""

    model_config = SETTINGS

    by: Literal["captions", "neighbors", "both", "random"]
    mode: Literal["phrase", "all", "substring", "reference"] = Field(
        "phrase", description="captions: how a query matches"
    )
    k: int = Field(2000, ge=1, description="neighbors: pairs per prompt and kind of embedding")
    average: bool = Field(False, description="neighbors: one query a class, its prompts' mean")
    examples: str | None = Field(None, description="neighbors: images of the classes as queries")
    duplicates: float | None = Field(
        None, ge=-1, le=1, description="neighbors: cosine above which the worse of two is dropped"
    )
    features: str | None = Field(None, description="neighbors: which of the pool's vectors")
    n: int = Field(10_000, ge=1, description="random: pairs drawn")
    unsafe_above: float = Field(0.5, ge=0, le=1, description="punsafe above which a pair is unsafe")

    @property
    def asks_a_model(self) -> bool:
        """Whether vectors are searched, so that somebody must encode the queries."""
        return self.by in ("neighbors", "both")

    @property
    def arguments(self) -> dict[str, Any]:
        """What decides the result of this way; example images are an input of their own."""
        own = [name for name in OWN_SETTINGS[self.by] if name != "examples"]
        return {name: getattr(self, name) for name in ("by", *own, "unsafe_above")}

    @model_validator(mode="after")
    def _are_of_this_way(self) -> Self:
        for name, field in type(self).model_fields.items():
            known = name in ("by", "unsafe_above", *OWN_SETTINGS[self.by])
            if not known and getattr(self, name) != field.default:
                raise ValueError(f"{name} says nothing to retrieval by {self.by}")
        return self


class Adaptation(BaseModel):
    """How CLIP is trained on a set; the learning rate is not here, it is swept."""

    model_config = SETTINGS

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(512, ge=1)
    weight_decay: float = Field(0.1, ge=0)
    warmup_steps: int | None = Field(None, ge=0, description="None: min(500, 10 % of the steps)")
    grad_clip: float = Field(1.0, gt=0)
    threads: int = Field(1, ge=1, description="per trial; decides the last bits of a result")
