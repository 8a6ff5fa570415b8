"""A source: one way of making images, and the places a recipe names: models and the pool."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headwater.steps.curation.settings import Curation
from headwater.steps.hybrid.settings import TopUp
from headwater.steps.novelty.settings import Subset
from headwater.steps.settings import SETTINGS, Retrieval
from headwater.steps.synthesis.settings import Perturbation, Synthesis


class ModelPlace(BaseModel):
    """An open_clip model: a folder, or a name with a pretrained tag or file."""

    model_config = SETTINGS

    model: str
    pretrained: str | None = None
    config: str | None = None
    activation: Literal["gelu", "quickgelu"] | None = Field(
        None, description="of bare weights, which do not tell"
    )


class PoolPlace(BaseModel):
    """Where the pool lies, and the namespace of its ids."""

    model_config = SETTINGS

    path: str
    name: str = Field("pool", pattern=r"^[\w.-]+$")
    model: ModelPlace | None = Field(None, description="whose vectors it carries, or should")


KINDS = ("retrieve", "synthesize", "perturb", "import_", "split", "top_up", "subset")


class Source(BaseModel):
    """One way of making images: exactly one of the seven, and how it is curated."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    retrieve: Retrieval | None = None
    synthesize: Synthesis | None = None
    perturb: Perturbation | None = None
    import_: str | None = Field(None, alias="import")
    split: Literal["train"] | None = None
    top_up: TopUp | None = None
    subset: Subset | None = None
    curate: Curation = Field(Curation(), description="what differs from the recipe's rules")

    @property
    def kind(self) -> str:
        """Which of the seven it is."""
        return self._kinds()[0]

    @property
    def is_curated(self) -> bool:
        """Whether its pairs pass the rules; those of sets made from curated ones have already."""
        return self.kind in ("retrieve", "synthesize", "import_", "split")

    @property
    def parents(self) -> tuple[str, ...]:
        """The sources it is made from."""
        return tuple(getattr(getattr(self, self.kind), "parents", ()))

    @property
    def needs_generator(self) -> bool:
        """Whether something is painted."""
        painted = self.perturb is not None and self.perturb.gamma != 0
        return painted or self.synthesize is not None

    @property
    def needs_pool(self) -> bool:
        """Whether the pool is read."""
        by_attribute = self.top_up is not None and bool(self.top_up.attributes)
        return by_attribute or self.retrieve is not None or self.subset is not None

    @property
    def is_labelled(self) -> bool:
        """Whether its pairs are of a class."""
        return self.retrieve is None or self.retrieve.by != "random"

    def _kinds(self) -> list[str]:
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len(self._kinds()) != 1:
            raise ValueError(f"say one of {', '.join(KINDS).replace('import_', 'import')}")
        return self
