"""A copy descriptor: what looks at pictures, and where copies begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headwater.descriptors.pictures import Floats, Images


@dataclass(frozen=True)
class Descriptor:
    """One way to tell copies; rows of two different ones must not be compared.

    Attributes:
        name: builtin, isc or sscd.
        threshold: copies have an inner product above it; docs/copies.md has the sources.
        digest: of all that decides a row. It is `NAME-VERSION-`, then the sha256 of the weights
            where there are any, so that it can be held against the file.
        describe: pictures of any sizes to unit rows (n, d) float32.
    """

    name: str
    threshold: float
    digest: str
    describe: Callable[[Images], Floats]
