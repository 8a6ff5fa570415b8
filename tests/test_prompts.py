from __future__ import annotations

import pytest

from headwater.errors import InputError
from headwater.prompts import fill


@pytest.mark.parametrize(
    ("template", "name", "prompt"),
    [
        ("a photo of {a} {}.", "apple", "a photo of an apple."),
        ("a photo of {a} {c}.", "pear", "a photo of a pear."),
        ("{}", "{a} {} {c}", "{a} {} {c}"),
    ],
)
def test_templates_are_filled_once(template: str, name: str, prompt: str) -> None:
    assert fill(template, name) == prompt


def test_a_template_without_a_class_is_refused() -> None:
    with pytest.raises(InputError, match="where the name goes"):
        fill("a photo of {a} flower", "rose")
