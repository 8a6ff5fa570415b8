"""Example captions that a language model is shown before it writes one of its own.

For each kind a dozen lines from different domains, so that three drawn at random rarely lean to
one; how they are shown is `instructions.py`.
"""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A subject, what is to be spoken of, and a line that does it well."""

    name: str
    setting: str
    caption: str


CLASS = (
    Example("hedgehog", "", "A hedgehog curls up among fallen leaves, its nose just showing"),
    Example("steam locomotive", "", "Black steam locomotive under full smoke on a winter morning"),
    Example("croissant", "", "Close-up of a golden croissant, still warm, with flakes of crust"),
    Example("lighthouse", "", "The old lighthouse with red and white stripes under heavy clouds"),
    Example("violin", "", "A violin and its bow, resting on a velvet cloth"),
    Example("foxglove", "", "Tall foxglove with purple bells, each spotted dark inside"),
    Example("wristwatch", "", "Product photo of a steel wristwatch with a blue dial"),
    Example("fire truck", "", "A fire truck with its ladder raised, seen from the front"),
    Example("octopus", "", "An octopus spreads its arms, every sucker in sharp focus"),
    Example("cathedral", "", "Interior of a cathedral, light falling through stained glass"),
    Example("wheelbarrow", "", "A rusty wheelbarrow, tipped on its side and full of rain"),
    Example("tennis player", "", "A tennis player stretches for a low backhand"),
)

BACKGROUND = (
    Example("fish", "in a river", "A silver fish holds still against the current in a river"),
    Example("bicycle", "against a brick wall", "Old green bicycle left against a brick wall"),
    Example("cake", "on a wooden table", "A chocolate cake on a wooden table, two slices gone"),
    Example("owl", "in a dense forest", "In a dense forest an owl watches from a mossy branch"),
    Example("sailboat", "at sunset", "Small sailboat at sunset, its sails a deep orange"),
    Example(
        "tractor", "in a field of wheat", "A tractor crawls through the dust in a field of wheat"
    ),
    Example("grand piano", "in an empty hall", "A lonely grand piano in an empty hall, lid open"),
    Example("tulip", "in a glass vase", "One yellow tulip in a glass vase, bent to the light"),
    Example("helicopter", "above the mountains", "A rescue helicopter hovers above the mountains"),
    Example("teapot", "in a shop window", "Painted teapot in a shop window among cups and tins"),
    Example("goat", "on a steep cliff", "A goat on a steep cliff looks straight at the camera"),
    Example("street lamp", "in the fog", "A street lamp in the fog, with a halo of pale light"),
)

RELATION = (
    Example("goldfish", "in", "A goldfish in a round bowl, turning towards the light"),
    Example("cat", "on", "A gray cat asleep on a pile of folded laundry"),
    Example("lamp", "next to", "A brass lamp next to an armchair with a worn seat"),
    Example("deer", "behind", "A young deer behind a wire fence, ears up"),
    Example("motorcycle", "in front of", "Red motorcycle in front of a closed bakery"),
    Example("kite", "over", "A dragon kite over a row of beach huts"),
    Example("mushroom", "under", "A pale mushroom under a fern, wet with rain"),
    Example("balloon", "above", "A striped balloon above the roofs of a small town"),
    Example("anchor", "below", "An anchor below the bow of a freighter, streaked with rust"),
    Example("tent", "besides", "A blue tent besides a stack of firewood"),
    Example("bread", "next to", "Round bread next to a bowl of olives, seen from above"),
    Example("statue", "in front of", "A marble statue in front of a hedge cut square"),
)

TEXTURE = (
    Example("checkered", "", "A checkered tablecloth of red and white linen, seen from above"),
    Example("rusty", "", "Close-up of a rusty steel plate, orange flakes over dark pits"),
    Example("furry", "", "A furry surface, thick brown hair lying in one direction"),
    Example("cobbled", "", "A cobbled street after rain, round stones shining"),
    Example("quilted", "", "Macro photo of quilted fabric with stitched diamonds"),
    Example("marble", "", "Polished marble with gray veins running from corner to corner"),
    Example("knotted", "", "Knotted rope, loop over loop, filling the whole frame"),
    Example("scaly", "", "The scaly skin of a lizard, green plates edged with yellow"),
    Example("crumpled", "", "A sheet of crumpled paper in hard light from the side"),
    Example("frosted", "", "Frosted glass with ice flowers growing from the rim"),
    Example("woven", "", "Woven willow of a basket, every strand over and under"),
    Example("mossy", "", "A mossy rock, soft green cushions with tiny stalks"),
)

ATTRIBUTE = (
    Example("umbrella", "yellow", "A yellow umbrella stands out in a crowd of black coats"),
    Example("dog", "wearing a collar", "A shaggy dog wearing a collar waits at the door"),
    Example("rose", "with dew drops", "A rose with dew drops on its outer petals at dawn"),
    Example("chair", "broken", "A broken chair lies in the corner of an attic"),
    Example("airliner", "with its gear down", "An airliner with its gear down crosses the fence"),
    Example("apple", "half eaten", "A half eaten apple on a window sill, turning brown"),
    Example("owl", "young", "A young owl, all down and eyes, beside its nest"),
    Example("pickup truck", "covered in mud", "Pickup truck covered in mud up to the windows"),
    Example("bottle", "green", "A green bottle without a label, lit from behind"),
    Example("horse", "galloping", "A galloping horse throws up sand along the water"),
    Example("house", "made of stone", "A low house made of stone with a slate roof"),
    Example("glove", "knitted", "One knitted glove, dropped on a snowy bench"),
)

PLACE = (
    Example("fish", "", "in a clear river"),
    Example("tractor", "", "in a plowed field"),
    Example("teapot", "", "on a kitchen table"),
    Example("airliner", "", "on a wet runway"),
    Example("owl", "", "in an old barn"),
    Example("sunflower", "", "by a country road"),
    Example("violin", "", "on the stage of a concert hall"),
    Example("camel", "", "among sand dunes"),
    Example("fire hydrant", "", "at the corner of a city street"),
    Example("starfish", "", "in a tide pool"),
    Example("sports car", "", "in front of a glass building"),
    Example("loaf of bread", "", "in the window of a bakery"),
)

EXAMPLES = {
    "class": CLASS,
    "background": BACKGROUND,
    "relation": RELATION,
    "texture": TEXTURE,
    "attribute": ATTRIBUTE,
    "place": PLACE,
}
"""By kind of ask."""
