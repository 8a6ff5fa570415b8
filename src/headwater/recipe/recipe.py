"""The recipe: one YAML file that declares a study from task to verdict.

    sources   how training images are made: retrieve, synthesize, import, perturb, top_up, subset
    curate    the same rules for every source, each with its own thresholds
    arms      which sources, or mixes of them, are trained on
    adapt     how; with scales x seeds x learning rates that makes the trials

`docs/recipes.md` explains every key; sources and arms have files of their own.
"""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, model_validator

from headwater.curate.budget import Budget
from headwater.descriptors import open_descriptor
from headwater.recipe.arm import Arm, Distinct, with_controls
from headwater.recipe.source import ModelPlace, PoolPlace, Source
from headwater.steps.curation.settings import Curation
from headwater.steps.settings import SETTINGS, Adaptation
from headwater.store import refuse_other

OFF_THE_SHELF = "off-the-shelf"
Metric = Literal["zero_shot", "linear_probe"]


class Primary(BaseModel):
    """The one comparison named before any test prediction is read."""

    model_config = SETTINGS

    arm: str
    against: str
    metric: Metric = "zero_shot"


class Recipe(BaseModel):
    """A whole study, as its file declares it."""

    model_config = SETTINGS

    format: int = Field(ge=1, le=1)
    name: str = Field(pattern=r"^[\w.-]+$")
    task: str
    learner: ModelPlace
    pool: PoolPlace | None = None
    generator: str | None = None
    seed: int = Field(0, ge=0)
    sources: dict[str, Source] = Field(min_length=1)
    curate: Curation = Curation()
    arms: dict[str, Arm] = Field(min_length=1)
    scales: Distinct[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    seeds: Distinct[Annotated[int, Field(ge=0)]] = Field((0, 1, 2), min_length=1)
    budget: Budget = Field("as_they_come", description="how n pairs are drawn")
    adapt: Adaptation = Adaptation()
    lr: Distinct[Annotated[float, Field(gt=0, lt=float("inf"))]] = Field((1e-5,), min_length=1)
    metrics: Distinct[Metric] = Field(("zero_shot", "linear_probe"), min_length=1)
    primary: Primary
    margin: float = Field(0.01, ge=0, lt=1, description="differences inside it count as none")
    keep_models: Literal["chosen", "all", "none"] = "chosen"

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, value: Any) -> Any:
        return with_controls(value)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if self.curate.reject:
            raise ValueError("reject belongs to one source: sources.NAME.curate.reject")
        for name, source in self.sources.items():
            _known_name(name)
            self._check_parents(name, source)
            if source.needs_pool and self.pool is None:
                raise ValueError(f"source {name} needs a pool")
            if source.needs_generator and self.generator is None:
                raise ValueError(f"source {name} needs a generator")
        self._check_order()
        for name, arm in self.arms.items():
            _known_name(name)
            if name == OFF_THE_SHELF:
                raise ValueError(f"{OFF_THE_SHELF} is always there; call the arm something else")
            for source_name in arm.sources:
                if source_name not in self.sources:
                    raise ValueError(_unknown(source_name, "source", self.sources))
                self._check_labels(name, arm, source_name)
        for name in (self.primary.arm, self.primary.against):
            if name not in (*self.arms, OFF_THE_SHELF):
                raise ValueError(_unknown(name, "arm", self.arms))
        if self.primary.arm == self.primary.against:
            raise ValueError("the primary comparison is of an arm with itself")
        if self.primary.metric not in self.metrics:
            raise ValueError(f"the primary metric {self.primary.metric} is not among the metrics")
        return self

    def _check_parents(self, name: str, source: Source) -> None:
        for parent in source.parents:
            if parent not in self.sources:
                raise ValueError(_unknown(parent, "source", self.sources))
            if not source.perturb and not self.sources[parent].is_labelled:
                raise ValueError(f"source {name}: {parent} has no labels to go by")
        if source.perturb and self.sources[source.perturb.source].perturb:
            parent = source.perturb.source
            raise ValueError(f"source {parent} is perturbed itself; perturb what it came from")

    def _check_order(self) -> None:
        try:
            self.source_order  # noqa: B018 - asked for its error
        except CycleError as error:
            raise ValueError(
                f"sources made from each other: {' from '.join(error.args[1])}"
            ) from None

    @property
    def source_order(self) -> list[str]:
        """The sources in an order in which each comes after those it is made from."""
        parents = {name: source.parents for name, source in self.sources.items()}
        return list(TopologicalSorter(parents).static_order())

    def _check_labels(self, name: str, arm: Arm, source: str) -> None:
        if self.sources[source].is_labelled:
            return
        if arm.objective == "cross_entropy":
            raise ValueError(f"arm {name}: {source} has no labels to learn; try contrastive")
        if self.budget == "balanced":
            raise ValueError(f"arm {name}: {source} has no classes that a budget could balance")

    def curation(self, source: str) -> Curation:
        """How a source is curated: the recipe's rules, but for what the source says itself."""
        own = self.sources[source].curate
        return self.curate.model_copy(update={k: getattr(own, k) for k in own.model_fields_set})

    def settle_descriptor(self, before: Recipe | None) -> Recipe:
        """The recipe with its copy descriptor named, and that of every source with one of its own.

        `auto` means whatever can be had here and now; a study stays with what it was begun with.
        """
        sources = dict(self.sources)
        for name, source in self.sources.items():
            if source.curate.model_fields_set & {"descriptor", "descriptor_weights"}:
                begun = before.curation(name) if before and name in before.sources else None
                found = {"descriptor": _named_descriptor(self.curation(name), begun)}
                own = source.curate.model_copy(update=found)
                sources[name] = source.model_copy(update={"curate": own})
        found = {"descriptor": _named_descriptor(self.curate, before.curate if before else None)}
        curate = self.curate.model_copy(update=found)
        return self.model_copy(update={"curate": curate, "sources": sources})

    def dump(self) -> str:
        """The recipe as a YAML text, every default filled in."""
        sources = {
            name: source.model_copy(update={"curate": self.curation(name)})
            for name, source in self.sources.items()
        }
        value = _plain(self.model_copy(update={"sources": sources}))
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


GROWS = ("scales", "seeds", "lr", "keep_models")
"""What may change when a study is run again; of sources and arms, new ones may come."""


def refuse_other_study(before: Recipe, now: Recipe, root: Path) -> None:
    """Raise `SetError` if `now` would change what a study has settled, naming the difference.

    The primary comparison and the margin are settled too: they were named before any test
    prediction was read.
    """
    told = [_plain(recipe) for recipe in (before, now)]
    for key in GROWS:
        for value in told:
            value.pop(key, None)
    for key in ("sources", "arms"):
        common = told[0][key].keys() & told[1][key].keys()
        for value in told:
            value[key] = {name: item for name, item in value[key].items() if name in common}
    refuse_other(root, *told)


def _plain(value: Any) -> Any:
    """Values as YAML has them; a key that may be left out, and is, stays out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        told = {f.alias or name: (getattr(value, name), f.default) for name, f in fields}
        return {k: _plain(v) for k, (v, default) in told.items() if v is not None or default}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _named_descriptor(how: Curation, begun: Curation | None) -> str:
    """The descriptor that a curation asks for; of `auto`, what it began with or can have now."""
    if how.descriptor != "auto":
        return how.descriptor
    if begun is not None and begun.descriptor != "auto":
        return begun.descriptor
    weights = how.descriptor_weights
    return open_descriptor("auto", weights=Path(weights) if weights else None).name


def _unknown(name: str, kind: str, known: dict[str, Any]) -> str:
    return f"unknown {kind} {name!r}; known: {', '.join(known)}"


def _known_name(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ValueError(f"{name!r} may hold only letters, digits, '-', '_' and '.'")
