"""The writer that is a server: any OpenAI-compatible endpoint, near or far.

vLLM, Ollama, llama.cpp and most services answer `POST {url}/chat/completions` alike. What
it is told is in `instructions.py`, how it is called in `caller.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headwater.errors import InputError
from headwater.store import digest_value, stable_seed
from headwater.synthesize.captions.caller import Caller, Patience, TryLaterError, check_url, excerpt
from headwater.synthesize.captions.instructions import clean, conversation, instructions_digest
from headwater.synthesize.captions.writer import Ask, served_name

PATH = "/chat/completions"


class Endpoint:
    """Writes each caption with one request, which holds three examples and a seed of its own.

    What is asked depends on the ask and the seed alone. Whether the same question has the same
    answer twice is up to the server: with a seed many do their best, few promise it.

    Example:
        >>> Endpoint("http://localhost:11434/v1", "llama3.2", key="secret")
        Endpoint('http://localhost:11434/v1', 'llama3.2')
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        temperature: float = 0.8,
        top_p: float = 0.9,
        tokens: int = 100,
        concurrency: int = 4,
        patience: Patience | None = None,
    ) -> None:
        """Note whom to ask; nothing is sent yet.

        Args:
            url: the base, up to and with /v1; also of this machine.
            model: what the server calls it.
            key: sent as a bearer token, and written nowhere.
            temperature, top_p: of the sampling; the paper's by default.
            tokens: an answer has at most so many, hidden thoughts included.
            concurrency: requests at once.
            patience: how long the server is waited for.

        Raises:
            InputError: an address, name or key that cannot be used.
        """
        if not model.strip():
            raise InputError("an endpoint needs the name of a model", seen="none")
        self.url = check_url(url).removesuffix(PATH)
        self.name = served_name(model)
        self._model = model
        self.temperature, self.top_p, self.tokens = temperature, top_p, tokens
        self._caller = Caller(self.url + PATH, key=key, concurrency=concurrency, patience=patience)

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.name!r})"

    @property
    def digest(self) -> str:
        """Identifies server, model, instructions and sampling."""
        settings = [self.temperature, self.top_p, self.tokens]
        return digest_value([self.url, self._model, instructions_digest(), settings])

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        """One caption for each ask; "" where nothing usable came.

        Raises:
            InputError: the server refuses: a wrong key, model, address or setting.
            RunError: it cannot be reached, or gives no usable answer in all tries.
        """
        bodies = [self._body(ask, seed) for ask in asks]
        answers = self._caller.post_all(bodies, read=_read_answer)
        return [self._caption(text, ask) for text, ask in zip(answers, asks, strict=True)]

    def _caption(self, text: str, ask: Ask) -> str:
        return clean(self._caller.without_key(text), ask)

    def _body(self, ask: Ask, seed: int) -> dict[str, Any]:
        body = {
            "model": self._model,
            "messages": conversation(ask, seed=seed),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.tokens,
            "seed": stable_seed(seed, *ask) % 2**31,
        }
        # A model that begins with an empty line, or thinks aloud first, is heard out when asked
        # again; else a line is all that is paid for.
        return body if ask.attempt else {**body, "stop": ["\n"]}


def _read_answer(answer: Any) -> str:
    """The text of a chat completion; "" for a refusal, which has none."""
    try:
        content = answer["choices"][0]["message"].get("content")
    except (LookupError, TypeError, AttributeError):
        raise TryLaterError(f"no chat completion but {excerpt(answer)!r}") from None
    if isinstance(content, list):  # of parts, as some servers give
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in parts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise TryLaterError(f"no text but {excerpt(content)!r}")
    return content or ""
