"""Weights of the trained descriptors: where they are published, and the copy of them kept here.

What is published with a digest is read only if its bytes are those; the digest of what is not is
recorded. The files lie in the folder `weights` of Headwater's cache (../features.py).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from headwater.descriptors.fetch import fetch
from headwater.errors import HeadwaterError, ModelError, first_line
from headwater.features import cache_folder

OFFLINE = ("HEADWATER_OFFLINE", "HF_HUB_OFFLINE")
"""Nothing is fetched while one of these is set: to 1, true, yes or on, as the Hub's library reads
its own."""


@dataclass(frozen=True)
class Weights:
    """A published file, by the sha256 and number of its bytes."""

    name: str
    url: str
    sha256: str
    size: int


SSCD = Weights(
    "sscd_disc_mixup.torchscript.pt",
    "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt",
    "9f26bd4c848cc19b73d2ae92eea6e04886f61a7b764ceb7a13aeee62e6a6db56",
    98_791_638,
)
"""The URL is that of the table in Meta's sscd-copy-detection README. Meta publishes no digest. This
one is pinned, for this URL, in the code of at least eight public projects, two of which state the
same number of bytes."""

ISC_URL = (
    "https://github.com/lyakaap/ISC21-Descriptor-Track-1st/releases/download/v1.0.1/"
    "isc_ft_v107.pth.tar"
)
"""Where its authors publish ISC ft_v107. No digest of it is published anywhere we could find."""

ISC_NAMES = ("isc_ft_v107.safetensors", "isc_ft_v107.pth.tar")

_failed: dict[str, str] = {}  # URLs that this process has tried in vain, and why


def weights_folder() -> Path:
    """Where weights lie that are not named."""
    return cache_folder() / "weights"


def offline() -> str | None:
    """The variable that forbids to fetch anything, if one does."""
    yes = ("1", "TRUE", "YES", "ON")
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in yes), None)


def read_weights(published: Weights, given: Path | None = None) -> bytes:
    """The bytes of published weights: of the file given, else kept here, else fetched once.

    Raises:
        ModelError: not there and not to be had, or other bytes than those published.
    """
    if given is not None:
        return _read(given, published)
    kept = weights_folder() / published.name
    try:
        return _read(kept, published)
    except ModelError:
        _fetch_once(published, kept)
    return _read(kept, published)


def find_isc() -> Path:
    """The kept file of ISC weights, which are never fetched: nothing tells whether they are right.

    Raises:
        ModelError: there is none.
    """
    paths = [weights_folder() / name for name in ISC_NAMES]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise ModelError(
            "no weights of the descriptor isc", expected=" or ".join(ISC_NAMES),
            seen=f"neither in {weights_folder()}", do=f"Download {ISC_URL} and name the file.",
        )  # fmt: skip
    return found


def _read(path: Path, published: Weights) -> bytes:
    """A file's bytes, if they are the published ones; larger files are not read at all."""
    if not path.is_file():
        raise ModelError("no such weights", expected=published.name, seen=str(path))
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size == published.size else b""
    except OSError as error:
        raise ModelError(f"cannot read {path}", seen=first_line(error)) from None
    seen = hashlib.sha256(data).hexdigest()
    if seen != published.sha256:
        raise ModelError(
            f"{path.name} is not the published one",
            expected=f"{published.size:,} bytes with sha256 {published.sha256}",
            seen=f"sha256 {seen}" if data else f"{size:,} bytes",
            do=f"Download it from {published.url}; no other is opened, as opening it runs code.",
        )
    return data


def _fetch_once(published: Weights, path: Path) -> None:
    """Fetch a file, unless that is forbidden or has failed before in this process."""
    name = offline()
    reason = f"{name} is set" if name else _failed.get(published.url)
    if reason is None:
        try:
            fetch(published.url, path, sha256=published.sha256, size=published.size)
            return
        except HeadwaterError as error:
            reason = _failed[published.url] = str(error)
    state = "not the published file" if path.exists() else "not there"
    raise ModelError(
        f"{path} is {state} and cannot be fetched", seen=reason,
        do=f"Download {published.url} and name the file.",
    )  # fmt: skip
