"""JSON posted to a server that may be slow, busy, broken, or not what it says.

Many calls run at once, each is tried again where that can help, and every answer is bounded in time
and size. The key goes into one header and nowhere else. What is asked is in `endpoint.py`.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import math
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from headwater.errors import InputError, RunError, first_line, plain
from headwater.progress import say

MOST_BYTES = 2**20
"""Of an answer; a line of 100 tokens has some 2 kB around it."""

BUSY = (408, 425, 429, 529)
"""Statuses below 500, or beyond the standard, that say: later."""

HIDDEN = "(key)"
SECRET = 8  # characters; servers that want any key are given a shorter one

CONNECT = 10.0  # seconds for a connection

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Example:
        >>> Patience(tries=1).tries
        1
    """

    tries: int = 6
    """Times a call is made, before it is given up."""
    pause: float = 1.0
    """Seconds before the second try; twice that before the third, and so on, less a random part."""
    longest: float = 60.0
    """Seconds of any pause, also of one that the server asks for."""
    timeout: float = 120.0
    """Seconds for one answer."""


class TryLaterError(Exception):
    """A try that came to nothing where another may not; its text says why."""

    def __init__(self, why: str, *, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after  # seconds the server wants to be left alone


class Caller:
    """Posts to one address, several bodies at once.

    Example:
        >>> Caller("http://127.0.0.1:8000/v1/chat", key="secret", concurrency=2)
        Caller('http://127.0.0.1:8000/v1/chat')
    """

    def __init__(
        self, url: str, *, key: str | None, concurrency: int, patience: Patience | None = None
    ) -> None:
        """Check an address; nothing is sent yet.

        Args:
            url: whole, http or https; without anything secret in it.
            key: sent as a bearer token.
            concurrency: calls at once.
            patience: with the server.

        Raises:
            InputError: an address or key that cannot be used.
        """
        self.url = check_url(url)
        self.concurrency = concurrency
        self.patience = patience or Patience()
        self._key = _check_key(key)
        if self._key and url.startswith("http:") and not self._is_near:
            say(f"the key goes to {self._host} unencrypted: the address is http, not https")

    def __repr__(self) -> str:
        return f"Caller({self.url!r})"

    def post_all(self, bodies: Sequence[dict[str, Any]], *, read: Callable[[Any], T]) -> list[T]:
        """Post all, and read what comes; the order is that of the bodies.

        Args:
            bodies: JSON-able.
            read: makes the result of a JSON answer, or raises `TryLaterError`.

        Raises:
            InputError: the server refuses a call in a way that another try would not mend.
            RunError: it cannot be reached, or gives no usable answer in all tries.
        """
        stop = Event()
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as crew:
            calls = [crew.submit(self._insist, client, body, read, stop) for body in bodies]
            try:
                done, _ = wait(calls, return_when=FIRST_EXCEPTION)
                failures = (call.exception() for call in calls if call in done)
                failure = next((error for error in failures if error), None)
                if failure:
                    raise failure
                return [call.result() for call in calls]
            finally:
                stop.set()
                crew.shutdown(cancel_futures=True)

    def _client(self) -> httpx2.Client:
        headers = {"Accept-Encoding": "identity"}  # so that no small answer swells
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return httpx2.Client(
            headers=headers,
            follow_redirects=False,  # the key is meant for this address only
            trust_env=not self._is_near,  # no proxy stands before this machine itself
            timeout=httpx2.Timeout(self.patience.timeout, connect=CONNECT),
            limits=httpx2.Limits(max_connections=self.concurrency),
        )

    def _insist(
        self, client: httpx2.Client, body: dict[str, Any], read: Callable[[Any], T], stop: Event
    ) -> T:
        why = TryLaterError("nothing")
        for attempt in range(self.patience.tries):
            if attempt and stop.wait(self._pause(attempt, why.after)):
                break
            try:
                return read(self._post(client, body))
            except TryLaterError as later:
                why = later
        raise RunError(
            f"{self._host} gave no usable answer in {self.patience.tries} tries",
            seen=self._scrub(str(why)), do="See whether the server is well, and run this again.",
        )  # fmt: skip

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Seconds before a try; the random part keeps calls from coming back all at once."""
        own = self.patience.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
        return min(own if asked is None else asked, self.patience.longest)

    def _post(self, client: httpx2.Client, body: dict[str, Any]) -> Any:
        try:
            with client.stream("POST", self.url, json=body) as response:
                data = self._read(response)
        except httpx2.TimeoutException:
            raise TryLaterError(f"no answer within {self.patience.timeout:g} s") from None
        except httpx2.RequestError as error:
            raise TryLaterError(first_line(error)) from None
        if not response.is_success:
            raise self._refusal(response, data)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise TryLaterError(f"no JSON but {_excerpt(data)!r}") from None

    def _read(self, response: httpx2.Response) -> bytes:
        """The whole body, of a bounded size and in bounded time."""
        began, data = time.monotonic(), bytearray()
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > MOST_BYTES:
                raise TryLaterError(f"an answer of more than {MOST_BYTES:,} bytes")
            if time.monotonic() - began > self.patience.timeout:
                raise TryLaterError(f"no whole answer within {self.patience.timeout:g} s")
        return bytes(data)

    def _refusal(self, response: httpx2.Response, data: bytes) -> Exception:
        """What an answer means that is none."""
        status = response.status_code
        said = self._scrub(f"{status} {_message(data) or response.reason_phrase}".strip())
        if status in BUSY or status >= 500:
            return TryLaterError(said, after=_seconds(response.headers.get("Retry-After")))
        if response.is_redirect:
            return InputError(
                f"{self._host} sends on to another address, which is not followed with a key",
                seen=said, do="Give the address where the model itself is.",
            )  # fmt: skip
        return InputError(f"{self._host} refuses to answer", seen=said, do=ADVICE.get(status, ""))

    def without_key(self, text: str) -> str:
        """A text in which the key does not stand; a short one is a word like EMPTY, no secret."""
        return text.replace(self._key, HIDDEN) if len(self._key) >= SECRET else text

    def _scrub(self, text: str) -> str:
        """The words of an error without the key, nor what begins or ends like it."""
        text = self.without_key(text)
        if len(self._key) < SECRET:
            return text
        ends = (re.escape(self._key[:6]), re.escape(self._key[-4:]))
        return re.sub(rf"\S*(?:{ends[0]}\S*|{ends[1]}(?!\w))", HIDDEN, text)

    @property
    def _host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def _is_near(self) -> bool:
        """Whether the address is this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


ADVICE = {
    400: "See which settings this server and model know.",
    401: "Check the key in the environment.",
    403: "Check the key in the environment, and what it may do.",
    404: "Check the address, which ends in /v1 with most servers, and the model's name.",
    422: "See which settings this server and model know.",
}
"""What to do, by status."""


def check_url(url: str) -> str:
    """An address that can be posted to and stand in a record.

    Raises:
        InputError: another scheme than http and https, no host, or a place where secrets stand.

    Example:
        >>> check_url("http://localhost:8000/v1/")
        'http://localhost:8000/v1'
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(httpx2.URL(url).host)
        _ = parts.port
    except (ValueError, httpx2.InvalidURL):
        is_usable = False
    if any(sign in url for sign in "@?#"):  # what stands there may be secret, and is not shown
        raise InputError(
            "the address of the endpoint has more in it than an address",
            expected="one like https://host/v1", seen="a user, password, query or fragment",
            do="Put the key into the environment.",
        )  # fmt: skip
    if not is_usable:
        raise InputError(
            "no address of an endpoint", expected="one like http://localhost:8000/v1",
            seen=repr(url)[:200],
        )  # fmt: skip
    return url.rstrip("/")


def excerpt(value: object) -> str:
    """The begin of a JSON value that was not expected, for an error."""
    return _excerpt(json.dumps(value).encode())


def _check_key(key: str | None) -> str:
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            "the endpoint's key cannot be sent", expected="one line of plain ASCII",
            seen="other characters", do="Set it again in the environment.",
        )  # fmt: skip
    return key


def _message(data: bytes) -> str:
    """The server's own words about an error."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return _excerpt(data)
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return _excerpt((said if isinstance(said, str) else json.dumps(said)).encode())


def _excerpt(data: bytes) -> str:
    text = plain(data[:2000].decode("utf-8", "replace"))
    return text if len(text) <= 160 else f"{text[:160]}..."


def _seconds(after: str | None) -> float | None:
    """What a `Retry-After` asks for: seconds, or a date."""
    if not after:
        return None
    try:
        seconds = float(after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
