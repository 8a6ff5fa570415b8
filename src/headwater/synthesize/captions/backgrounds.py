"""Where things are found: lists of backgrounds for the domains a task may be of."""

from __future__ import annotations

BACKGROUNDS = (
    "on a sandy beach", "in a green meadow", "in a dense forest", "on a city street",
    "in a quiet village", "on a mountain trail", "by a lake", "beside a river", "in the desert",
    "in deep snow", "in a garden", "in a park", "on a farm", "in a field of wheat",
    "in a parking lot", "in a kitchen", "in a living room", "in a workshop", "in an office",
    "in a museum", "in a market", "in a shop window", "in a school yard", "at a harbor",
    "at an airport", "at a train station", "under a bridge", "on a wooden floor",
    "on a tiled floor", "on a white table", "on a gravel path", "on a rooftop",
    "against a brick wall", "against a white wall", "against a blue sky", "against a gray sky",
    "in the fog", "in the rain", "at sunset", "in front of a crowd",
)  # fmt: skip
