"""The recipe: one YAML file that declares a study from task to verdict.

source.py   one way of making images        arm.py    what is trained on
recipe.py   the whole                       file.py   found, changed by --set, its paths moved
"""

from headwater.recipe.arm import Arm
from headwater.recipe.file import apply_change, load_recipe, move
from headwater.recipe.recipe import OFF_THE_SHELF, Primary, Recipe, refuse_other_study
from headwater.recipe.source import ModelPlace, PoolPlace, Source

__all__ = [
    "OFF_THE_SHELF",
    "Arm",
    "ModelPlace",
    "PoolPlace",
    "Primary",
    "Recipe",
    "Source",
    "apply_change",
    "load_recipe",
    "move",
    "refuse_other_study",
]
