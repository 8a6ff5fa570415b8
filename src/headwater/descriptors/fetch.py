"""One large file from the web: whole and of the right bytes, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headwater.errors import ModelError, first_line
from headwater.progress import say, track
from headwater.store import replacing

TIMEOUT = 10.0  # seconds a server may be silent
LIMIT = 900.0  # seconds for the whole file
CHUNK = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def fetch(url: str, path: Path, *, sha256: str, size: int) -> None:
    """Fetch a file in one attempt.

    It is written beside `path` and gets its name only once its bytes are known to be right.

    Args:
        url: https; plain http only from this machine itself.
        path: where it shall be.
        sha256: of the bytes, in hex.
        size: how many there are; not one more is read.

    Raises:
        ModelError: the server cannot be reached, is too slow, or sends something else.
        RunError: the disk does not take it.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ModelError("an address that is not opened", expected="https", seen=url)
    say(f"fetching {path.name}, {size / 1e6:.0f} MB, from {parts.hostname}")
    digest = hashlib.sha256()
    with replacing(path) as beside, beside.open("wb") as file:
        chunks = _chunks(url, size)
        for chunk in track(chunks, label=f"fetching {path.name}", total=size, unit="B", size=len):
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != sha256:
            expected, seen = f"sha256 {sha256}", digest.hexdigest()
            raise ModelError(f"{path.name} is not what was published", expected=expected, seen=seen)


def _chunks(url: str, size: int) -> Iterator[bytes]:
    """The bytes of a URL, `size` of them."""
    began, have, what = time.monotonic(), 0, f"cannot fetch {url.rsplit('/', 1)[-1]}"
    opener = urllib.request.build_opener(_StaySafe)
    try:
        with opener.open(url, timeout=TIMEOUT) as response:
            while chunk := response.read1(min(CHUNK, size - have + 1)):
                have += len(chunk)
                if have > size:
                    raise ModelError(what, expected=f"{size:,} bytes", seen="more")
                if time.monotonic() - began > LIMIT:
                    expected = f"{size:,} bytes in {LIMIT:.0f} s"
                    raise ModelError(what, expected=expected, seen=f"{have:,}")
                yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ModelError(what, seen=first_line(error)) from None
    if have < size:
        raise ModelError(what, expected=f"{size:,} bytes", seen=f"{have:,}")


class _StaySafe(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to https and to nothing else."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        if urlsplit(newurl).scheme != "https":
            raise ValueError(f"sent on to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
