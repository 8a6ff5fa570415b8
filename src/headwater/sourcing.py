"""The sets of a study: each source of a recipe made, curated, and looked at, in their order.

sourced/NAME     as it was made
curated/NAME     what is trained on; sets made from curated ones are not curated again
novelty/NAME     of a synthetic set: how new its images are to the pool
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headwater.clip import Clip
from headwater.errors import RecipeError
from headwater.pool import open_pool, vector_models
from headwater.progress import say
from headwater.recipe import PoolPlace, Recipe, Source
from headwater.steps.curation.copies import copy_descriptor, copy_threshold
from headwater.steps.curation.curate import curate
from headwater.steps.embed import embed
from headwater.steps.hybrid.composition import chart
from headwater.steps.hybrid.top_up import top_up
from headwater.steps.importing import import_images
from headwater.steps.novelty.carrier import can_compare
from headwater.steps.novelty.novelty import find_novelty
from headwater.steps.novelty.subset import subset
from headwater.steps.retrieve import retrieve
from headwater.store import DONE, digest_value
from headwater.task import Task, load_task
from headwater.trials import open_learner

COMPOSITION, NOVELTY = "composition", "novelty"


@dataclass(frozen=True)
class Sourcing:
    """A recipe's sources, and the folder their sets are made in."""

    root: Path
    recipe: Recipe
    engine: str = "local"
    workers: int | None = None

    @cached_property
    def task(self) -> Task:
        """The recipe's task."""
        return load_task(self.recipe.task)

    @cached_property
    def clip(self) -> Clip:
        """The learner as it comes, before any training."""
        return open_learner(self.recipe.learner)

    @property
    def pool(self) -> PoolPlace:
        """The recipe's pool, which validation made sure is there where it is needed."""
        assert self.recipe.pool is not None
        return self.recipe.pool

    @cached_property
    def retriever(self) -> Clip:
        """The model of the pool's vectors: the one it names, or else the learner."""
        return open_learner(self.pool.model) if self.pool.model else self.clip

    def vectors(self) -> Path | None:
        """The pool's vectors where it does not carry any: those made for this study.

        Raises:
            RecipeError: the pool carries vectors, but nobody says of which model.
        """
        if not vector_models(open_pool(self.pool.path).shards[0]):
            embed(self.pool.path, self.root / "vectors", clip=self.retriever)
            return self.root / "vectors"
        if self.pool.model is None:
            raise RecipeError(
                f"the pool {self.pool.name} carries vectors of a model not named",
                expected="pool.model", seen="none", do="Say which model made them.",
            )  # fmt: skip
        return None

    def sourced(self, source: str) -> Path:
        """The set as it was made."""
        return self.root / "sourced" / source

    def training_set(self, source: str) -> Path:
        """The set that is trained on: curated, or made from one that is."""
        curated = self.recipe.sources[source].is_curated
        return self.root / "curated" / source if curated else self.sourced(source)

    def make_all(self) -> None:
        """Make every set that is not made yet, each after those it is made from."""
        for name in self.recipe.source_order:
            self.make(name)
        if any(source.needs_generator for source in self.recipe.sources.values()):
            from headwater.steps.synthesis.painter import close_painter

            close_painter()  # training needs the memory

    def make(self, name: str) -> None:
        """Make the set of one source, curate it, and look how new it is."""
        source = self.recipe.sources[name]
        MAKERS[source.kind](self, name, source)
        how = self.recipe.curation(name)
        made, kept = self.sourced(name), self.training_set(name)
        if source.is_curated:
            curate(
                made, self.task, kept, clip=self.clip, how=how, engine=self.engine,
                workers=self.workers,
            )  # fmt: skip
        if self.asks_novelty(name):
            self.compare(name)

    def composition(self, attributes: tuple[str, ...]) -> Path:
        """The captions of the pool counted per class and attribute; three arms share one count."""
        out = self.root / COMPOSITION / digest_value(attributes)[:12]
        chart(
            self.pool.path, self.task, out, attributes=attributes, engine=self.engine,
            workers=self.workers,
        )  # fmt: skip
        return out

    def asks_novelty(self, name: str) -> bool:
        """Whether a source is held against the pool: a synthetic one, or one split by novelty."""
        splits = [told.subset for told in self.recipe.sources.values()]
        asked = any(told is not None and told.source == name for told in splits)
        return self.recipe.pool is not None and (
            asked or self.recipe.sources[name].synthesize is not None
        )

    def compare(self, name: str) -> None:
        """Tell how new the images of a source are to the pool."""
        how, kept = self.recipe.curation(name), self.training_set(name)
        pool = open_pool(self.pool.path)
        searches = [told.retrieve for told in self.recipe.sources.values()]
        embeds = any(search and search.asks_a_model for search in searches)
        vectors = self.vectors() if embeds and not vector_models(pool.shards[0]) else None
        if not can_compare(pool, self.retriever, vectors):
            say(f"how new {name} is cannot be told: pool {self.pool.name} has no images")
            return
        find_novelty(
            kept, self.pool.path, self.root / NOVELTY / name, descriptor=copy_descriptor(how),
            clip=self.retriever, vectors=vectors, threshold=copy_threshold(how, self.recipe.curate),
            pool_name=self.pool.name, seed=self.recipe.seed, engine=self.engine,
            workers=self.workers,
        )  # fmt: skip


def _retrieve(study: Sourcing, name: str, source: Source) -> None:
    assert source.retrieve is not None
    how, pool = source.retrieve, study.pool
    retrieve(
        pool.path, study.task, study.sourced(name), how=how, seed=study.recipe.seed,
        pool_name=pool.name, clip=study.retriever if how.asks_a_model else None,
        vectors=study.vectors() if how.asks_a_model else None, engine=study.engine,
        workers=study.workers,
    )  # fmt: skip


def _synthesize(study: Sourcing, name: str, source: Source) -> None:
    from headwater.steps.synthesis.synthesize import synthesize  # only painting needs diffusers

    assert source.synthesize is not None
    assert study.recipe.generator is not None
    synthesize(
        study.task, study.sourced(name), generator=study.recipe.generator,
        how=source.synthesize, seed=study.recipe.seed, name=name,
        pairs=next(map(study.sourced, source.parents), None), engine=study.engine,
        workers=study.workers,
    )  # fmt: skip


def _perturb(study: Sourcing, name: str, source: Source) -> None:
    from headwater.steps.synthesis.perturb import perturb

    assert source.perturb is not None
    perturb(
        study.training_set(source.perturb.source), study.task, study.sourced(name),
        generator=study.recipe.generator, how=source.perturb, seed=study.recipe.seed,
        engine=study.engine, workers=study.workers,
    )  # fmt: skip


def _import(study: Sourcing, name: str, source: Source) -> None:
    folder = Path(str(source.import_)) if source.import_ else study.task.folder(str(source.split))
    import_images(
        folder, study.task, study.sourced(name), name=name, engine=study.engine,
        workers=study.workers,
    )  # fmt: skip


def _top_up(study: Sourcing, name: str, source: Source) -> None:
    how = source.top_up
    assert how is not None
    top_up(
        study.training_set(how.source), study.training_set(how.fill), study.task,
        study.sourced(name), how=how, seed=study.recipe.seed,
        composition=study.composition(how.attributes) if how.attributes else None,
    )  # fmt: skip


def _subset(study: Sourcing, name: str, source: Source) -> None:
    how = source.subset
    assert how is not None
    novelty = study.root / NOVELTY / how.source
    if not (novelty / DONE).exists():
        raise RecipeError(
            f"source {name} cannot be told apart by novelty", expected="a pool with images",
            seen=f"none of {how.source} compared", do="Leave the source out.",
        )  # fmt: skip
    subset(study.training_set(how.source), novelty, study.sourced(name), keep=how.novelty)


MAKERS = {
    "retrieve": _retrieve,
    "synthesize": _synthesize,
    "perturb": _perturb,
    "import_": _import,
    "split": _import,
    "top_up": _top_up,
    "subset": _subset,
}
