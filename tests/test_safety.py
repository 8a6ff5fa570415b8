"""What the pool's own safety tags mean, in every form they come in."""

import polars as pl
import pytest

from headwater.curate.safety import unsafe_rows
from headwater.errors import InputError


@pytest.mark.parametrize(
    ("tags", "unsafe"),
    [
        (["UNLIKELY", "UNSURE", "NSFW", "LIKELY", None], [False, False, True, True, False]),
        (["nsfw", " Likely ", "unlikely", ""], [True, True, False, False]),
        (["0.03", "0.98", "1", "nan"], [False, True, True, False]),
        ([True, False, None], [True, False, False]),
        ([0.5, 0.51, None, float("nan")], [False, True, False, False]),
        ([0, 1, None], [False, True, False]),
        ([None, None], [False, False]),
        ([], []),
    ],
)
def test_unsafe_rows(tags, unsafe):
    found = unsafe_rows(pl.Series("NSFW", tags))
    assert found.dtype == pl.Boolean
    assert found.to_list() == unsafe
    assert found.name == "NSFW"


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["UNLIKELY", "NSFW"])])
def test_words_stored_as_categories(dtype):
    tags = pl.Series(["NSFW", "UNLIKELY", None], dtype=dtype)
    assert unsafe_rows(tags).to_list() == [True, False, False]


def test_a_column_of_something_else_is_refused():
    with pytest.raises(InputError, match="words, booleans or probabilities, saw List"):
        unsafe_rows(pl.Series([["NSFW"]]))
