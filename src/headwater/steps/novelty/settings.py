"""What a part of a set may be told: whose, and how new its images are."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, Field

from headwater.steps.settings import SETTINGS

Band = Literal["memorized", "near", "new"]
BANDS: tuple[Band, ...] = get_args(Band)
"""How new an image may be, from a copy on; `novelty.py` tells what makes it so."""


class Subset(BaseModel):
    """The images of another source that are as new as is said."""

    model_config = SETTINGS

    source: str
    novelty: tuple[Band, ...] = Field(min_length=1, description="which bands stay")

    @property
    def parents(self) -> tuple[str, ...]:
        """The source it is a part of."""
        return (self.source,)
