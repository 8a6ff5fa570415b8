"""What captions, synthesis and perturbation may be told, shared by recipes and command line.

Defaults are the paper's constants (docs/method.md); every field has its bounds.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from headwater.steps.settings import SETTINGS
from headwater.synthesize.gamma import AUTOENCODER, Gamma, read_gamma
from headwater.yamlfile import SECRET

ENDPOINT_KEY = "OPENAI_API_KEY"

SAMPLED = ("temperature", "top_p", "tokens", "model")
WRITTEN = ("kinds", "attributes", "domain")
OWN_SETTINGS = {
    "grammar": WRITTEN,
    "model": (*WRITTEN, *SAMPLED, "block"),
    "endpoint": (*WRITTEN, *SAMPLED, "url", "key", "concurrency"),
    "file": ("path",),
    "alt_text": ("source",),
    "captioner": ("source", "model", "tokens", "block"),
}
"""What each way to come by captions may be told."""
NOT_CONTENT = ("block", "concurrency", "key")
"""What changes how captions are made and not what they say."""
PRIVATE = frozenset("@?#")
"""Signs behind or before which an address has what may be secret."""
NEEDS = {
    "model": ("model",),
    "endpoint": ("model", "url"),
    "file": ("path",),
    "alt_text": ("source",),
    "captioner": ("source", "model"),
}
"""What each way cannot do without."""


class Writing(BaseModel):
    """How captions for a generator come about; each way reads only its own settings."""

    model_config = SETTINGS

    by: Literal["grammar", "model", "endpoint", "file", "alt_text", "captioner"] = "grammar"
    kinds: dict[str, float] | None = Field(None, description="shares of the kinds of captions")
    attributes: tuple[str, ...] = Field((), description='phrases the kind "attribute" says')
    domain: str | None = Field(None, description="whose backgrounds: animals, flowers, ...")
    model: str | None = Field(None, description="folder or name; of an endpoint, its own name")
    url: str | None = Field(None, description="endpoint: its base, up to and with /v1")
    key: str = Field(ENDPOINT_KEY, description="endpoint: environment variable of its key")
    path: str | None = Field(None, description="file: CSV, JSON lines, Parquet or plain lines")
    source: str | None = Field(None, description="alt_text, captioner: of whose pairs")
    temperature: float = Field(0.8, gt=0, le=10)
    top_p: float = Field(0.9, gt=0, le=1)
    tokens: int = Field(100, ge=1, le=4096, description="at most so many new ones")
    block: int = Field(16, ge=1, description="captions written at once")
    concurrency: int = Field(4, ge=1, le=256, description="endpoint: requests at once")

    @property
    def arguments(self) -> dict[str, Any]:
        """What decides the captions; a source, a file or a model's weights are inputs."""
        own = [name for name in OWN_SETTINGS[self.by] if name not in (*NOT_CONTENT, "source")]
        return {"by": self.by, **{n: getattr(self, n) for n in own if n not in ("path", "model")}}

    @model_validator(mode="after")
    def _are_of_this_way(self) -> Self:
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name != "by" and name not in OWN_SETTINGS[self.by] and value != field.default:
                raise ValueError(f"{name} says nothing to captions by {self.by}")
        for name in NEEDS.get(self.by, ()):
            if not getattr(self, name):
                raise ValueError(f"captions by {self.by} need {name}")
        if not self.key.isidentifier():  # so that a key put there by mistake is not copied either
            raise PydanticCustomError(
                SECRET, "key is the name of an environment variable, not the key itself"
            )
        if self.url and not PRIVATE.isdisjoint(self.url):  # a recipe is copied into its study
            raise PydanticCustomError(
                SECRET, "the url has a user, password, query or fragment; keys stay outside"
            )
        return self


class Painting(BaseModel):
    """How a generator paints."""

    model_config = SETTINGS

    steps: int = Field(50, ge=1, description="denoising steps; a perturbation takes gamma of them")
    guidance: float = Field(2.0, ge=0, description="classifier-free guidance")
    size: int | None = Field(512, ge=8, description="side the generator paints at, pixels")
    save_size: int | None = Field(256, ge=8, description="side of the saved image, pixels")
    block: int = Field(8, ge=1, description="images made at once")
    scheduler: Literal["auto", "ddim", "own"] = Field(
        "auto", description="auto: DDIM where the pipeline can use it, else its own"
    )
    precision: Literal["float32", "float16", "bfloat16"] = "float32"

    @property
    def arguments(self) -> dict[str, Any]:
        """The keywords of `generate_images` and `perturb_images`."""
        told = {name: getattr(self, name) for name in ("steps", "guidance", "save_size", "block")}
        return {**told, "height": self.size, "width": self.size}


class Synthesis(Painting):
    """How images are synthesized: `n` over all classes, or `per_class` of each."""

    n: int | None = Field(None, ge=1, description="images, over all classes")
    per_class: int | None = Field(None, ge=1, description="images of each class")
    captions: Writing = Writing()

    @property
    def parents(self) -> tuple[str, ...]:
        """The source whose pairs the captions tell of, if any."""
        return (self.captions.source,) if self.captions.source else ()

    @model_validator(mode="after")
    def _counts_once(self) -> Self:
        if (self.n is None) == (self.per_class is None):
            raise ValueError("say one of n and per_class")
        return self


class Perturbation(Painting):
    """How the images of another source are perturbed."""

    source: str
    gamma: Gamma = Field(
        description="0: resizing and codec only; 1: all noise; autoencoder: encoded and decoded"
    )
    prompt: str = Field("a photo of {}", description="what the images are denoised with")
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of the saved image")

    @property
    def parents(self) -> tuple[str, ...]:
        """The source whose images are perturbed."""
        return (self.source,)

    @field_validator("gamma", mode="before")
    @classmethod
    def _is_a_strength(cls, value: object) -> object:
        return read_gamma(value)

    @model_validator(mode="after")
    def _takes_a_step(self) -> Self:
        if self.gamma != AUTOENCODER and 0 < self.gamma * self.steps < 1:
            raise ValueError(f"gamma {self.gamma:g} is less than one of {self.steps} steps")
        return self
