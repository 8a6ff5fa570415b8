"""Where things are found: lists of backgrounds for the domains a task may be of.

A background follows its class: "a photo of a fox" and "in deep snow". Each list names places where
everything in its domain may well be, so that no aircraft stands in a kitchen. Light, weather and
points of view are not among them: the grammar has words of its own for those.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from headwater.errors import InputError
from headwater.synthesize.captions.wording import PREPOSITIONS, says, tokens

MOST_WORDS = 12
"""Of a background: more is a caption of its own."""

GENERAL = (
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

ANIMALS = (
    "in tall grass", "in a green meadow", "in a dense forest", "at the edge of a forest",
    "on a rocky slope", "on a mountain trail", "by a lake", "beside a river", "at a water hole",
    "in shallow water", "in deep snow", "in the desert", "on a dry plain", "on a sandy beach",
    "in a swamp", "among fallen leaves", "on a mossy rock", "under a tree", "among bushes",
    "on bare earth", "on a dirt road", "on a farm", "in a barn", "behind a fence", "in a zoo",
    "in an enclosure", "in a park", "in a garden", "in a back yard", "on a wooden floor",
    "against a plain wall", "against a blurred green background",
)  # fmt: skip

BIRDS = (
    "on a bare branch", "on a leafy branch", "in a pine tree", "in a nest", "on a fence post",
    "on a wire", "on a rooftop", "on a chimney", "at a bird feeder", "at a bird bath",
    "on a lawn", "in tall grass", "among reeds", "on a lake", "at the edge of a pond",
    "on a river bank", "on a muddy shore", "on a sandy beach", "on a sea cliff", "above the waves",
    "in a snowy field", "in a stubble field", "on a rock", "on a stone wall", "in a hedge",
    "in flight against a blue sky", "in flight over water", "in flight over trees",
    "on a park bench", "in an aviary",
)  # fmt: skip

FISH = (
    "in clear blue water", "in green murky water", "near the sea floor", "above white sand",
    "over a coral reef", "among corals", "among seaweed", "among water plants", "in a kelp forest",
    "between rocks", "at the mouth of a cave", "near a shipwreck", "in a school",
    "in a rocky tide pool", "in shallow water", "in the open ocean", "just below the surface",
    "in a clear stream", "in a pond", "in a lake", "in an aquarium", "behind aquarium glass",
    "in front of a diver", "in a fishing net", "on a boat deck", "in wet hands", "on crushed ice",
    "at a fish market", "on a measuring board", "against a dark background",
)  # fmt: skip

INSECTS = (
    "on a green leaf", "on the underside of a leaf", "on a dry leaf", "on a flower",
    "on a thistle", "on a daisy", "on a stem", "on a blade of grass", "on tree bark",
    "on a mossy log", "on a twig", "on bare soil", "on sand", "on a stone", "on a brick wall",
    "on a window pane", "on a wooden plank", "on white paper", "on a fingertip", "on a hand",
    "in a meadow", "in a garden", "in a hedge", "in a spider web", "in leaf litter",
    "near a pond", "on a reed", "in a glass jar", "in a collection box",
    "against a blurred green background",
)  # fmt: skip

PLANTS = (
    "in a garden", "in a botanical garden", "in a greenhouse", "in a park", "in a green meadow",
    "in a dense forest", "at the edge of a forest", "in a clearing", "on a forest floor",
    "among ferns", "among tall grass", "on a hillside", "on a rocky slope", "on a mountain meadow",
    "in sandy soil", "in the desert", "on a dune", "beside a river", "by a pond", "in a marsh",
    "along a country road", "along a garden path", "beside a stone wall", "beside a wooden fence",
    "in a clay pot", "in a raised bed", "on a balcony", "on a window sill", "with dew on it",
    "against a white background", "against a blurred green background",
)  # fmt: skip

FLOWERS = (
    "in a garden", "in a flower bed", "in a botanical garden", "in a greenhouse",
    "in a wild meadow", "in tall grass", "in a forest clearing", "on a hillside",
    "on a mountain meadow", "beside a pond", "beside a stream", "along a garden path",
    "along a country road", "beside a stone wall", "beside a wooden fence", "in a rock garden",
    "in a clay pot", "in a hanging basket", "in a window box", "on a balcony",
    "in a glass vase", "in a bouquet", "at a flower market", "in an open hand", "with a bee on it",
    "with dew drops on it", "among green leaves", "among other blossoms", "on a wooden table",
    "against a dark background", "against a white background",
    "against a blurred green background",
)  # fmt: skip

FOOD = (
    "on a white plate", "on a wooden board", "on a kitchen counter", "on a dinner table",
    "on a restaurant table", "on a picnic blanket", "on a checkered tablecloth",
    "on a marble counter", "on a slate plate", "on a metal tray", "on brown paper",
    "on a banana leaf", "on a bed of lettuce", "in a ceramic bowl", "in a glass bowl", "in a pan",
    "in a lunch box", "in a paper box", "in a bakery window", "in a street food stall",
    "at a market stall", "at a buffet", "at a garden party", "in a diner", "in a cafe",
    "beside a fork and a knife", "beside a cup of coffee", "beside a glass of water",
    "beside a linen napkin", "with herbs on top", "with a hand reaching for it",
    "against a dark background",
)  # fmt: skip

VEHICLES = (
    "on a city street", "on a busy avenue", "on a country road", "on a highway", "on a gravel road",
    "on a mountain road", "on a coastal road", "on a desert road", "on a wet road",
    "on a snowy road", "on a bridge", "in a tunnel", "at a crossing", "at a traffic light",
    "in a parking lot", "in an underground garage", "in a driveway", "in a garage",
    "in a repair shop", "in a showroom", "at a motor show", "at a gas station", "at a race track",
    "at a harbor", "in front of a house", "in front of an office building", "in front of a factory",
    "in a junk yard", "in a museum", "in a parade", "beside a field", "against a plain backdrop",
)  # fmt: skip

AIRCRAFT = (
    "on a runway", "on a wet runway", "on a taxiway", "on an apron", "at an airport gate",
    "in front of a terminal", "in front of a hangar", "in a hangar", "in a maintenance hall",
    "on a grass airfield", "on a snowy airfield", "at an air base", "at an air show",
    "in an aviation museum", "taking off", "landing", "on final approach", "just above the runway",
    "in flight against a blue sky", "in flight against gray clouds", "above the clouds",
    "in flight over the sea", "in flight over mountains", "in flight over fields",
    "in flight over a city", "in a steep turn", "with its landing gear down",
    "with mountains in the distance", "with a control tower in the distance",
    "with ground crew around it",
)  # fmt: skip

OBJECTS = (
    "on a wooden table", "on a white table", "on a desk", "on a shelf", "on a window sill",
    "on a kitchen counter", "on a workbench", "on a chair", "on a carpet", "on a wooden floor",
    "on a tiled floor", "on a concrete floor", "on a blanket", "on brown paper",
    "on a metal surface", "on a stone step", "on a lawn", "on sand", "in an open box",
    "in a drawer", "in a hand", "in a living room", "in a bedroom", "in an office",
    "in a workshop", "in a garage", "in a store", "in a shop window", "at a flea market",
    "in a museum case", "against a white background", "against a brick wall",
)  # fmt: skip

CLOTHING = (
    "on a hanger", "on a clothes rack", "on a mannequin", "on a model", "on a runway model",
    "on a person in the street", "on a person in a park", "on a child", "on a dancer",
    "on a hook", "on a door", "on a clothes line", "on a bed", "on a chair", "on a sofa",
    "on a wooden floor", "on a carpet", "on a white table", "folded on a shelf",
    "folded in a drawer", "in a suitcase", "in a laundry basket", "in a shopping bag",
    "in a wardrobe", "in a shop window", "in a department store", "at a market stall",
    "at a flea market", "in a museum case", "against a white background", "against a brick wall",
    "in front of a mirror",
)  # fmt: skip

SCENES = (
    "in a small town", "in a big city", "in a village", "in the suburbs", "in the countryside",
    "by the sea", "near a river", "in the mountains", "in a cold country", "in a hot country",
    "in an old quarter", "in a modern quarter", "in winter", "in spring", "in summer",
    "in autumn", "on a busy day", "on a quiet day", "after the rain", "early in the day",
    "with nobody in it", "with a few people in it", "with a crowd in it",
    "with a person in the distance", "with a parked bicycle", "with a dog in it",
    "with plants in it", "with an open door", "through a window", "in a poor state",
    "in a tidy state", "under repair",
)  # fmt: skip

TEXTURES = (
    "on a wall", "on a floor", "on a ceiling", "on a roof", "on a fence", "on a sidewalk",
    "on a piece of cloth", "on a curtain", "on a carpet", "on a cushion", "on a dress",
    "on a leather bag", "on paper", "on wallpaper", "on a book cover", "on wood", "on stone",
    "on concrete", "on metal", "on glass", "on plastic", "on ceramic tiles", "on a plate",
    "on a leaf", "on a flower petal", "on a shell", "on an animal's skin", "on tree bark",
    "on sand", "on ice",
)  # fmt: skip

BUILDINGS = (
    "on a city street", "on a main square", "on a hill", "on a cliff", "on an island",
    "on a street corner", "at the end of a road", "in a village", "in a valley", "in a park",
    "in a forest", "in a snowy landscape", "in a dry landscape", "in green fields", "by the sea",
    "by a lake", "beside a river", "beside a canal", "behind trees", "behind an iron fence",
    "behind parked cars", "among taller buildings", "among old houses", "at a harbor",
    "with mountains in the distance", "with a garden in front", "with people in front",
    "with scaffolding on it", "with ivy on its walls", "against a blue sky",
    "against a gray sky", "after the rain",
)  # fmt: skip

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "general": GENERAL,
    "animals": ANIMALS,
    "birds": BIRDS,
    "fish": FISH,
    "insects": INSECTS,
    "plants": PLANTS,
    "flowers": FLOWERS,
    "food": FOOD,
    "vehicles": VEHICLES,
    "aircraft": AIRCRAFT,
    "objects": OBJECTS,
    "clothing": CLOTHING,
    "scenes": SCENES,
    "buildings": BUILDINGS,
    "textures": TEXTURES,
}
"""The backgrounds of each domain."""


def domain_backgrounds(domain: str | None = None) -> tuple[str, ...]:
    """The backgrounds of a domain; of none in particular, the general ones.

    Raises:
        InputError: no such domain.

    Example:
        >>> domain_backgrounds("aircraft")[0]
        'on a runway'
    """
    if domain is None:
        return GENERAL
    if domain not in DOMAINS:
        near = difflib.get_close_matches(domain, DOMAINS, n=1)
        raise InputError(
            "an unknown domain of backgrounds", expected=", ".join(DOMAINS), seen=domain,
            do=f"Did you mean {near[0]}?" if near else "",
        )  # fmt: skip
    return DOMAINS[domain]


def is_background(text: str, name: str) -> bool:
    """Whether a text can follow a class: "in a vase"; a few words that do not name it again.

    Example:
        >>> is_background("in a vase", "iris"), is_background("a vase with an iris", "iris")
        (True, False)
    """
    words = tokens(text)
    is_phrase = 2 <= len(words) <= MOST_WORDS and words[0] in PREPOSITIONS
    return is_phrase and not says(text, name)
