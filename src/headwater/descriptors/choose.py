"""Which copy descriptor: by name, or the best that can be had."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from headwater.descriptors.builtin import builtin_descriptor
from headwater.descriptors.descriptor import Descriptor
from headwater.errors import HeadwaterError, InputError
from headwater.progress import say

NAMES = ("auto", "builtin", "isc", "sscd")


def open_descriptor(
    name: str = "auto", *, weights: str | Path | None = None, device: str | None = None
) -> Descriptor:
    """Open a copy descriptor.

    Args:
        name: builtin, which needs no weights; isc, the paper's; sscd; or auto: sscd where its file
            is given, lies in the cache or can be fetched, else builtin, which is then said.
        weights: the file of isc or sscd. Without one, `weights` in Headwater's cache folder is
            looked into, and sscd fetched there, unless HEADWATER_OFFLINE or HF_HUB_OFFLINE is set.
        device: for isc and sscd; by default the GPU if there is one.

    Raises:
        InputError: another name, or weights for the built-in descriptor.
        ModelError: weights that are not there, or not the published ones.

    Example:
        >>> open_descriptor("builtin").threshold
        0.2
    """
    if name not in NAMES:
        raise InputError("unknown descriptor", expected=" or ".join(NAMES), seen=name)
    path = None if weights is None else Path(weights)
    if name == "builtin":
        if path is not None:
            seen, do = str(path), "Choose isc or sscd, or leave the weights out."
            raise InputError("the built-in descriptor takes no weights", seen=seen, do=do)
        return builtin_descriptor()
    if name == "isc":
        return _open_isc(path, device)
    if name == "sscd" or path is not None:
        return _open_sscd(path, device)
    try:
        return _open_sscd(None, device)
    except HeadwaterError as error:
        _say_once(f"copies are told by the built-in descriptor, without sscd: {error}")
        return builtin_descriptor()


def _open_isc(path: Path | None, device: str | None) -> Descriptor:
    from headwater.descriptors.isc import load_isc
    from headwater.descriptors.weights import find_isc

    return load_isc(path or find_isc(), device=device)


def _open_sscd(path: Path | None, device: str | None) -> Descriptor:
    from headwater.descriptors import weights
    from headwater.descriptors.sscd import load_sscd

    data = weights.read_weights(weights.SSCD, path)
    return load_sscd(data, sha256=weights.SSCD.sha256, device=device)


@cache
def _say_once(text: str) -> None:
    say(text)
