"""A real HTTP server on this machine that answers as it is told, well or badly."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What is sent back; `silence` and `reset` send nothing at all."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    wait: float = 0.0  # seconds before it
    drip: float = 0.0  # seconds between its bytes
    is_silent: bool = False
    is_reset: bool = False


def completion(text: object) -> Reply:
    """What a chat endpoint answers."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return Reply(body=json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


Answer = Callable[[dict[str, Any], int], Reply]


@dataclass
class Server:
    """Where it is, and what it was asked."""

    url: str
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    tries: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def in_turn(replies: Sequence[Reply]) -> Answer:
    """The n-th time the same thing is asked, the n-th reply; then the last one."""
    return lambda body, n: replies[min(n, len(replies) - 1)]


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """A server at `server.url` until the block ends.

    Args:
        answer: the reply to a JSON body that came `n` times before.
    """
    web = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    web.daemon_threads = True
    server = Server(f"http://127.0.0.1:{web.server_port}/v1")
    web.answer, web.told = answer, server  # type: ignore[attr-defined]
    thread = threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        web.shutdown()
        web.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Server = self.server.told  # type: ignore[attr-defined]
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(raw or b"{}")
        with server.lock:
            server.asked.append((self.path, dict(self.headers), body))
            earlier = server.tries[raw.decode()]
            server.tries[raw.decode()] += 1
            server.open_now += 1
            server.most_open = max(server.most_open, server.open_now)
        try:
            self._send(self.server.answer(body, earlier), server)  # type: ignore[attr-defined]
        except OSError:
            self.close_connection = True  # the client has gone
        finally:
            with server.lock:
                server.open_now -= 1

    def do_GET(self) -> None:
        self.do_POST()

    def _send(self, reply: Reply, server: Server) -> None:
        server.over.wait(reply.wait)
        if reply.is_silent:
            server.over.wait()
        if reply.is_silent or reply.is_reset:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        step = 1 if reply.drip else max(len(reply.body), 1)
        for at in range(0, len(reply.body), step):
            self.wfile.write(reply.body[at : at + step])
            server.over.wait(reply.drip)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
