"""Scores: every one a small function with one face, from candidates to a number for each.

    clip_score      cosine of the image with its class's texts (score.py)
    caption_score   cosine of the image with the pair's own caption (score.py)
    short_side      shorter side in pixels, of the image as it came (quality.py)
    aspect          shorter over longer side, of the image as it came (quality.py)
    sharpness       variance of the Laplacian, after the pixel path (quality.py)
    aesthetic       what a head on CLIP features says, where its weights are given (heads.py)
    safety          1 - p(unsafe) by such a head (heads.py)
    FILE.py:name    a function of the user's own (own.py)

Higher is better, NaN is no score, and the column is named like the score. select.py keeps the best.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from headwater.curate import quality
from headwater.curate.heads import open_head
from headwater.curate.own import is_own, open_own, told
from headwater.curate.score import caption_scores, class_scores
from headwater.decode import Image8, decode_rgb
from headwater.errors import HeadwaterError, InputError
from headwater.pairs import DECISION_SCHEMA, PAIR_SCHEMA

Floats = NDArray[np.float32]

BLOCK = 1024
"""Pairs whose images are decoded at once: 200 MB at 256 pixels."""

BUILT_IN = "built-in 1"
"""The digest of every score that comes with Headwater: a new number when one of them changes."""

TAKEN = {
    *PAIR_SCHEMA, *DECISION_SCHEMA, "width", "height", "codec", "copy_of", "copy_similarity",
    "image_score", "text_score", "before", "after", "gate", "fell_by", "shard", "right",
    "came", "row", "at", "falls", "no_copy", "no_duplicate",
}  # fmt: skip
"""Columns of a set, or of one that is being made, and gates, that no score may be called."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a score is told: some pairs of a set, all in the same order. Never the whole set.

    Attributes:
        pairs: one row a pair: id, label, caption, and width, height and codec of the image as it
            came, among others.
        encoded: bytes of each image after the pixel path.
        encode_images: gives `features`; asked at most once, and only if a score looks at them.
        labels: the task's labels.
        class_texts: (classes, templates, d) features of the task's filter prompts, as the text
            tower gives them; row i is of `labels[i]`.
        encode_texts: texts to features (n, d) of the same model, not normalized.

    Example:
        >>> def redness(candidates: Candidates) -> list[float]:
        ...     return [float(image[..., 0].mean()) for image in candidates.images]
        >>> from headwater.decode import encode_png
        >>> pictures = [encode_png(np.full((2, 2, 3), gray, np.uint8)) for gray in (10, 200)]
        >>> texts = np.zeros((1, 1, 4), np.float32)
        >>> candidates = Candidates(
        ...     pairs=pl.DataFrame({"id": ["w:1", "w:2"], "label": ["rose", "rose"]}),
        ...     encoded=pictures, encode_images=lambda: np.zeros((2, 4), np.float32),
        ...     labels=["rose"], class_texts=texts, encode_texts=lambda names: texts[0],
        ... )
        >>> redness(candidates)
        [10.0, 200.0]
    """

    pairs: pl.DataFrame
    encoded: Sequence[bytes]
    encode_images: Callable[[], Floats]
    labels: Sequence[str]
    class_texts: Floats
    encode_texts: Callable[[list[str]], Floats]

    def __post_init__(self) -> None:
        """Shared arrays are lent, not given: a score that wrote into them would change others."""
        object.__setattr__(self, "class_texts", _lent(self.class_texts))

    @cached_property
    def features(self) -> Floats:
        """(n, d) float32, L2-normalized CLIP features of the images after the pixel path."""
        return _lent(self.encode_images())

    @cached_property
    def images(self) -> list[Image8]:
        """The images after the pixel path, each (h, w, 3) uint8; decoded when first asked for."""
        return [decode_rgb(data) for data in self.encoded]

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.pairs)

    def part(self, rows: slice) -> Candidates:
        """Some of the candidates; features are made for all at once, images for these alone."""
        return replace(
            self,
            pairs=self.pairs[rows],
            encoded=self.encoded[rows],
            encode_images=lambda: self.features[rows],
        )


Score = Callable[[Candidates], ArrayLike]
"""Candidates in, (n,) numbers out: higher is better, NaN is no score."""


@dataclass(frozen=True)
class NamedScore:
    """A score with its name. Made by `open_score`; a worker process opens its own, by name.

    Attributes:
        name: of the column.
        asked: what `open_score` was asked for: the name, or `FILE.py:function`.
        function: the score.
        digest: for the record: sha256 of the file it came from, or `BUILT_IN`.
    """

    name: str
    asked: str
    function: Score
    digest: str


def open_score(
    name: str,
    *,
    heads: Mapping[str, str | Path] | None = None,
    aggregate: Literal["mean", "max"] = "mean",
) -> NamedScore:
    """The score of a name.

    Args:
        name: one of the built-in ones, or `FILE.py:function`, which runs that file.
        heads: weights files by `aesthetic` and `safety`.
        aggregate: of `clip_score`, over a class's texts; see `class_scores`.

    Raises:
        InputError: an unknown name, a file that cannot be used, a head without weights.

    Example:
        >>> open_score("sharpness").name
        'sharpness'
    """
    if is_own(name):
        column = name.rpartition(":")[2]
        _check_free(column)
        function, digest = open_own(name)
        return NamedScore(column, name, function, digest)
    if name in HEADS:
        head = open_head(_weights(name, heads or {}), kind=HEADS[name])
        return NamedScore(name, name, lambda some: head.predict(some.features), head.digest)
    if name == "clip_score":
        return NamedScore(name, name, partial(_clip_score, aggregate=aggregate), BUILT_IN)
    if name not in PLAIN:
        raise InputError(
            f"unknown score {name!r}", expected=f"one of {', '.join(SCORES)}, or FILE.py:function",
            seen=name,
        )  # fmt: skip
    return NamedScore(name, name, PLAIN[name], BUILT_IN)


def score_pairs(candidates: Candidates, scores: Sequence[NamedScore]) -> dict[str, Floats]:
    """Every score of every candidate: name -> (n,) float32, NaN where there is none.

    Scores are given `BLOCK` candidates at a time.

    Raises:
        InputError: two scores of one name, one that fails, or one that gives something else than a
            number for each candidate.
    """
    if len({score.name for score in scores}) < len(scores):
        asked = ", ".join(score.asked for score in scores)
        raise InputError("two scores of one name", expected="a name each", seen=asked)
    found = {score.name: np.zeros(len(candidates), np.float32) for score in scores}
    for start in range(0, len(candidates), BLOCK):
        rows = slice(start, start + BLOCK)
        part = candidates.part(rows)
        for score in scores:
            found[score.name][rows] = _numbers(score, part)
    return found


def _lent(array: Floats) -> Floats:
    """The same numbers, which cannot be written to."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _numbers(score: NamedScore, candidates: Candidates) -> Floats:
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            given = np.asarray(score.function(candidates))
    except HeadwaterError:
        raise
    except (Exception, SystemExit) as error:
        if is_own(score.asked):
            raise told(error, score.asked) from error
        raise
    expected = f"{len(candidates)} numbers, one a candidate; NaN for no score"
    if given.shape != (len(candidates),) or given.dtype.kind not in "biuf":
        seen = f"{given.dtype} of shape {given.shape}"
        raise InputError(f"the score {score.asked} is no score", expected=expected, seen=seen)
    with np.errstate(over="ignore"):
        numbers = np.asarray(given, np.float32)
    if np.isinf(numbers).any():
        raise InputError(
            f"the score {score.asked} is no score", expected=expected, seen="an infinite number"
        )
    return numbers


def _clip_score(candidates: Candidates, *, aggregate: Literal["mean", "max"]) -> Floats:
    index = {label: i for i, label in enumerate(candidates.labels)}
    labels = candidates.pairs["label"].to_list()
    unknown = [label for label in labels if label not in index]
    if unknown:
        raise InputError(
            "clip_score asks how well an image fits its class",
            expected=f"labels of the task: {', '.join(candidates.labels[:5])}, ...",
            seen="a pair without a label" if unknown[0] is None else repr(unknown[0]),
            do="Use the task the set was made for, or rules without clip_score.",
        )
    classes = np.array([index[label] for label in labels], np.int64)
    return class_scores(candidates.features, classes, candidates.class_texts, aggregate=aggregate)


def _caption_score(candidates: Candidates) -> Floats:
    captions = candidates.pairs["caption"].to_list()
    if not any(caption and caption.strip() for caption in captions):
        return np.full(len(candidates), np.nan, np.float32)
    return caption_scores(candidates.features, captions, candidates.encode_texts)


def _short_side(candidates: Candidates) -> Floats:
    return quality.short_sides(*_size(candidates))


def _aspect(candidates: Candidates) -> Floats:
    return quality.aspects(*_size(candidates))


def _sharpness(candidates: Candidates) -> Floats:
    return np.array([quality.sharpness(image) for image in candidates.images], np.float32)


def _size(candidates: Candidates) -> tuple[Floats, Floats]:
    """Width and height as they came; NaN where nobody knows."""
    pairs = candidates.pairs.select(pl.col("width", "height").cast(pl.Float32))
    return pairs["width"].to_numpy(), pairs["height"].to_numpy()


PLAIN: dict[str, Score] = {
    "caption_score": _caption_score,
    "short_side": _short_side,
    "aspect": _aspect,
    "sharpness": _sharpness,
}
HEADS: dict[str, Literal["aesthetic", "safety"]] = {"aesthetic": "aesthetic", "safety": "safety"}
SCORES = ("clip_score", *PLAIN, *HEADS)
"""The scores that come with Headwater."""


def _weights(name: str, heads: Mapping[str, str | Path]) -> Path:
    if name not in heads:
        raise InputError(
            f"the score {name} needs the weights of its head", expected=f"heads: {{{name}: FILE}}",
            seen="none given", do="Give a file; docs/scores.md says which kinds are read.",
        )  # fmt: skip
    return Path(heads[name])


def _check_free(column: str) -> None:
    if column in TAKEN or column in SCORES:
        raise InputError(
            f"a score cannot be called {column}", expected="a name that no column has yet",
            seen=column, do="Rename the function.",
        )  # fmt: skip
