"""Gamma as people write it, in recipes, on the command line and in Python."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.steps.synthesis.settings import Perturbation
from headwater.synthesize.gamma import AUTOENCODER, gamma_name, gamma_order, read_gamma

strengths = st.floats(0, 1, allow_subnormal=False)


def from_yaml(text: str) -> Any:
    return Perturbation(**yaml.safe_load(f"{{source: real, gamma: {text}}}")).gamma


@pytest.mark.parametrize(
    ("written", "meant"),
    [("0.4", 0.4), ("'0.4'", 0.4), ("0", 0), ("1", 1), ("-0.0", 0), ("1e-1", 0.1),
     ("autoencoder", AUTOENCODER), ("'autoencoder'", AUTOENCODER)],
)  # fmt: skip
def test_a_recipe_says_a_number_or_the_autoencoder(written: str, meant: Any) -> None:
    gamma = from_yaml(written)
    assert gamma == meant
    assert isinstance(gamma, type(meant) if meant == AUTOENCODER else float)


@pytest.mark.parametrize("written", ["1.1", "-0.1", ".nan", "true", "vae", "Autoencoder", "[1]"])
def test_what_is_no_gamma_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(ValidationError) as caught:
        from_yaml(written)
    (error,) = caught.value.errors()
    assert error["loc"] == ("gamma",)
    assert error["msg"] == "Value error, expected 0 to 1, or autoencoder"


def test_less_than_a_step_is_refused() -> None:
    assert Perturbation(source="real", gamma=0.02, steps=50).gamma == 0.02
    with pytest.raises(ValidationError, match=r"gamma 0\.01 is less than one of 50 steps"):
        Perturbation(source="real", gamma=0.01, steps=50)


@given(strengths)
def test_a_record_reads_as_it_was_written(gamma: float) -> None:
    assert read_gamma(repr(gamma)) == read_gamma(gamma) == gamma


@given(st.lists(strengths | st.just(AUTOENCODER), unique_by=str))
def test_a_curve_begins_with_its_controls(gammas: list[Any]) -> None:
    order = sorted(gammas, key=gamma_order)
    strong = [gamma for gamma in order if gamma not in (0, AUTOENCODER)]
    controls = [gamma for gamma in (0, AUTOENCODER) if gamma in gammas]
    assert order == [*controls, *sorted(strong)]


def test_names_are_those_of_the_numbers() -> None:
    named = [gamma_name(read_gamma(text)) for text in ("0", "0.30", "1.0", AUTOENCODER)]
    assert named == ["0", "0.3", "1", AUTOENCODER]
