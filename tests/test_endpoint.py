"""Captions by a server, which may be well, busy, broken, silent, or not what it says."""

from __future__ import annotations

import email.utils
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.small_server import Reply, Server, completion, in_turn, serving

from headwater.errors import HeadwaterError, InputError, RecipeError, RunError
from headwater.recipe import load_recipe
from headwater.steps.synthesis.captions import writer_of
from headwater.steps.synthesis.settings import Writing
from headwater.synthesize.captions import caller
from headwater.synthesize.captions.caller import Patience, check_url
from headwater.synthesize.captions.endpoint import Endpoint
from headwater.synthesize.captions.instructions import conversation
from headwater.synthesize.captions.rounds import settle_captions
from headwater.synthesize.captions.writer import Ask

KEY = "sk-very-secret-0123456789abcdef"
HASTY = Patience(tries=4, pause=0.01, longest=0.05, timeout=10.0)
MUTE = ("silence", "a drip")  # ends with the client's patience, so that is short

RECIPE = """
format: 1
name: roses
task: roses.yaml
pool: {{path: pool, name: my-pool}}
learner: {{model: ViT-B-16, pretrained: laion2b_s34b_b88k}}
generator: sd15
sources:
  a: {{retrieve: {{by: captions}}}}
  b: {{synthesize: {{n: 5, captions: {{by: endpoint, url: "{url}", model: tiny}}}}}}
arms: {{a: {{source: a}}, b: {{source: b}}}}
scales: [5]
primary: {{arm: a, against: b}}
"""

ASKS = [
    Ask(i, f"c{i}", f"flower {i}", "background", "in a vase", turn=0, attempt=0) for i in range(8)
]
WELL = completion("A flower")


def told(body: dict[str, Any]) -> str:
    """What the last message of a request asks for."""
    return str(body["messages"][-1]["content"])


def echo(body: dict[str, Any], n: int) -> Reply:
    return completion(f'"A photo of {told(body)}"\nAnd another')


def opened(server: Server, **settings: Any) -> Endpoint:
    return Endpoint(server.url, "tiny", **{"key": KEY, "patience": HASTY} | settings)


def test_answers_come_in_the_order_of_the_asks() -> None:
    def late_first(body: dict[str, Any], n: int) -> Reply:
        number = int(told(body).split()[1].rstrip(","))
        return Reply(body=echo(body, n).body, wait=(8 - number) / 100)

    with serving(late_first) as server:
        captions = opened(server, concurrency=8).write(ASKS, seed=0)
    assert captions == [f"A photo of flower {i}, in a vase" for i in range(8)]


def test_a_request_says_what_is_wanted_and_the_seed_decides_it() -> None:
    with serving(echo) as server:
        endpoint = opened(server, temperature=0.5, top_p=0.7, tokens=20, concurrency=1)
        for seed in (3, 3, 4):
            endpoint.write(ASKS[:1], seed=seed)
        endpoint.write([ASKS[0]._replace(attempt=1)], seed=3)
    paths, headers, bodies = zip(*server.asked, strict=True)
    assert set(paths) == {"/v1/chat/completions"}
    assert headers[0]["Authorization"] == f"Bearer {KEY}"
    first = bodies[0]
    assert first["messages"] == conversation(ASKS[0], seed=3)
    assert {k: v for k, v in first.items() if k not in ("messages", "seed")} == {
        "model": "tiny", "temperature": 0.5, "top_p": 0.7, "max_tokens": 20, "stop": ["\n"],
    }  # fmt: skip
    assert bodies[1] == first
    assert len({body["seed"] for body in bodies}) == 3
    assert "stop" not in bodies[3]  # asked again, a model may begin with an empty line


def test_without_a_key_none_is_sent() -> None:
    with serving(echo) as server:
        assert opened(server, key=None).write(ASKS, seed=0)
    assert not any("Authorization" in headers for _, headers, _ in server.asked)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_are_open_than_allowed(concurrency: int) -> None:
    slow = Reply(body=WELL.body, wait=0.06)
    with serving(lambda body, n: slow) as server:
        opened(server, concurrency=concurrency).write(ASKS, seed=0)
    assert server.most_open == concurrency
    assert len(server.asked) == len(ASKS)


HTML = Reply(
    body=b"<!doctype html><title>Welcome</title>", headers=(("Content-Type", "text/html"),)
)
MENDED = {
    "429": [Reply(429)],
    "429 with Retry-After": [Reply(429, headers=(("Retry-After", "0.02"),))],
    "429 for an hour": [Reply(429, headers=(("Retry-After", "3600"),))],
    "429 until a date": [Reply(429, headers=(("Retry-After", email.utils.formatdate(0)),))],
    "429 until nonsense": [Reply(429, headers=(("Retry-After", "nan"),))],
    "500 twice": [Reply(500), Reply(500, b"oh no")],
    "502": [Reply(502)],
    "503": [Reply(503)],
    "504": [Reply(504)],
    "garbage": [Reply(body=b"\x00\xff{{{")],
    "HTML": [HTML],
    "nothing in it": [Reply()],
    "deeply nested": [Reply(body=b"[" * 100_000)],
    "another shape": [Reply(body=b'{"choices": []}'), Reply(body=b"[1, 2]"), Reply(body=b"7")],
    "no text": [completion(7)],
    "a text elsewhere": [Reply(body=b'{"choices": [{"text": "A rose"}]}')],
    "too long": [Reply(body=completion("rose " * 300_000).body)],
    "a reset": [Reply(is_reset=True)],
    "silence": [Reply(is_silent=True)],
    "a drip": [Reply(body=WELL.body, drip=0.05)],
    "a cut": [Reply(body=WELL.body[:-5])],
}


@pytest.mark.parametrize("name", MENDED)
def test_what_may_pass_is_tried_again(name: str) -> None:
    patience = replace(HASTY, timeout=1.0) if name in MUTE else HASTY
    with serving(in_turn([*MENDED[name], WELL])) as server:
        assert opened(server, patience=patience).write(ASKS[:2], seed=0) == ["A flower", "A flower"]
    assert len(server.asked) == 2 * (len(MENDED[name]) + 1)


LASTING = {
    "429": (
        Reply(429, b'{"error": {"message": "Too many requests"}}'),
        "saw 429 Too many requests",
    ),
    "500": (Reply(500, b"out of order"), "saw 500 out of order"),
    "503": (Reply(503), "saw 503 Service Unavailable"),
    "garbage": (Reply(body=b"\x00\xff{{{"), "saw no JSON but"),
    "HTML": (HTML, "saw no JSON but '<!doctype html><title>Welcome</title>'"),
    "another shape": (Reply(body=b'{"error": "no"}'), "saw no chat completion but"),
    "too long": (Reply(body=b" " * 2**21), "saw an answer of more than 1,048,576 bytes"),
    "a reset": (Reply(is_reset=True), "saw Server disconnected"),
    "silence": (Reply(is_silent=True), r"saw no answer within 0\.1 s"),
    "a drip": (Reply(body=WELL.body, drip=0.05), r"saw no whole answer within 0\.1 s"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_one_line_after_all_tries(name: str) -> None:
    reply, seen = LASTING[name]
    patience = Patience(tries=2, pause=0.01, timeout=0.1 if name in MUTE else 10.0)
    with serving(lambda body, n: reply) as server, pytest.raises(RunError, match=seen) as caught:
        opened(server, patience=patience).write(ASKS[:1], seed=0)
    assert len(server.asked) == 2
    assert f"{server.url[7:-3]} gave no usable answer in 2 tries" in str(caught.value)
    check_line(caught.value)


def check_line(error: HeadwaterError) -> None:
    assert len(str(error)) < 600
    assert "\n" not in str(error)
    assert KEY not in repr(error) + str(error.__cause__)
    assert error.__suppress_context__ or error.__context__ is None


REFUSED = {
    400: (b'{"error": {"message": "max_tokens is not known"}}', "saw 400 max_tokens is not known"),
    401: (f'{{"error": "Incorrect key {KEY}"}}'.encode(), r"saw 401 Incorrect key \(key\)\. Check"),
    403: (b'{"detail": "Not yours"}', r"saw 403 Not yours\. Check the key"),
    404: (b"no such model", r"saw 404 no such model\. Check the address"),
    413: (b"", r"saw 413"),
    422: (b'{"detail": [{"loc": ["body", "seed"]}]}', "saw 422 .*seed"),
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_is_told_at_once(status: int) -> None:
    body, seen = REFUSED[status]
    with (
        serving(lambda *_: Reply(status, body)) as server,
        pytest.raises(InputError, match=seen) as caught,
    ):
        opened(server).write(ASKS[:1], seed=0)
    assert len(server.asked) == 1
    check_line(caught.value)


def test_the_words_of_a_server_are_cut_and_carry_no_controls() -> None:
    rude = Reply(400, b"\x1b[31m" + b"lorem " * 10_000)
    with serving(lambda *_: rude) as server, pytest.raises(InputError) as caught:
        opened(server).write(ASKS[:1], seed=0)
    check_line(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_key_does_not_follow_to_another_address() -> None:
    with serving(echo) as other:
        there = (("Location", f"{other.url}/chat/completions"),)
        for status in (301, 302, 307, 308):
            with (
                serving(lambda *_, status=status: Reply(status, headers=there)) as server,
                pytest.raises(InputError, match="another address, which is not followed"),
            ):
                opened(server).write(ASKS[:1], seed=0)
    assert other.asked == []


def test_one_refusal_ends_it_all_and_nobody_waits_on() -> None:
    def one_is_refused(body: dict[str, Any], n: int) -> Reply:
        return Reply(403) if told(body).startswith("flower 3") else Reply(503)

    patient = Patience(tries=50, pause=30.0)
    with serving(one_is_refused) as server, pytest.raises(InputError, match="403"):
        opened(server, patience=patient, concurrency=8).write(ASKS, seed=0)
    assert len(server.asked) <= len(ASKS)


def test_pauses_double_and_heed_the_server_within_bounds() -> None:
    endpoint = Endpoint("http://localhost:1/v1", "tiny", patience=Patience(pause=1.0, longest=60.0))
    pause = endpoint._caller._pause
    assert all(0.5 <= pause(1, None) <= 1 and 4 <= pause(4, None) <= 8 for _ in range(50))
    assert pause(20, None) == 60
    assert [pause(1, 7.0), pause(1, 3600.0), pause(9, 0.0)] == [7.0, 60.0, 0.0]
    assert len({pause(3, None) for _ in range(20)}) > 1  # callers do not come back together


def test_a_date_is_read_as_seconds_from_now() -> None:
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert caller._seconds(in_a_minute) == pytest.approx(60, abs=5)
    assert caller._seconds(email.utils.formatdate(0)) == 0
    assert [caller._seconds(text) for text in (None, "", "soon", "inf")] == [None] * 4


def test_nobody_there_is_one_line() -> None:
    with serving(echo) as server:
        pass
    with pytest.raises(
        RunError, match=r"gave no usable answer in 4 tries: saw .*refused"
    ) as caught:
        opened(server).write(ASKS, seed=0)
    check_line(caught.value)


def test_what_says_nothing_is_an_empty_caption() -> None:
    silent = [completion(""), completion(None), completion(" \n "), completion([])]
    with serving(lambda body, n: silent[int(told(body)[7])]) as server:
        assert opened(server).write(ASKS[:4], seed=0) == [""] * 4
    assert len(server.asked) == 4


def test_a_text_in_parts_is_put_together() -> None:
    parts = [{"type": "text", "text": "A "}, {"type": "image"}, {"type": "text", "text": "rose"}]
    with serving(lambda *_: completion(parts)) as server:
        assert opened(server).write(ASKS[:1], seed=0) == ["A rose"]


def test_a_server_that_tells_the_key_as_a_caption_tells_nothing() -> None:
    def tell(body: dict[str, Any], n: int) -> Reply:
        return completion(f"A flower of {KEY}")

    with serving(tell) as server:
        assert opened(server).write(ASKS[:1], seed=0) == ["A flower of (key)"]


def test_a_key_that_a_server_tells_in_part_is_not_passed_on() -> None:
    said = Reply(401, f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}.".encode())
    with serving(lambda *_: said) as server, pytest.raises(InputError) as caught:
        opened(server).write(ASKS[:1], seed=0)
    assert "Incorrect API key provided: (key)" in str(caught.value)
    assert KEY[-4:] not in str(caught.value)


def test_a_word_that_is_a_key_in_name_only_stays_in_captions() -> None:
    with serving(lambda *_: completion("An EMPTY vase")) as server:
        assert opened(server, key="EMPTY").write(ASKS[:1], seed=0) == ["An EMPTY vase"]


def test_the_key_is_shown_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(echo) as server:
        endpoint = opened(server)
        captions = endpoint.write(ASKS, seed=0)
    shown = [repr(endpoint), repr(endpoint._caller), endpoint.name, endpoint.digest, *captions]
    said = capsys.readouterr()
    assert KEY not in "".join([*shown, said.out, said.err, caplog.text])
    assert endpoint.digest == opened(server, key="another", concurrency=1).digest


def test_what_decides_captions_decides_the_digest() -> None:
    url = "http://localhost:8000/v1"
    digests = [
        Endpoint(url, "a").digest,
        Endpoint(url, "b").digest,
        Endpoint(url, "a", tokens=7).digest,
        Endpoint(url, "a", temperature=0.1).digest,
        Endpoint(url, "a", top_p=0.1).digest,
        Endpoint("http://localhost:8001/v1", "a").digest,
    ]
    assert len(set(digests)) == len(digests)
    assert Endpoint(f"{url}/chat/completions/", "a").digest == digests[0]
    assert Endpoint(url, "/models/llama").name == "llama"


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("localhost:8000/v1", "no address of an endpoint"),
        ("ftp://host/v1", "no address of an endpoint"),
        ("http://", "no address of an endpoint"),
        ("http://host:port/v1", "no address of an endpoint"),
        ("", "no address of an endpoint"),
        (f"https://me:{KEY}@host/v1", "has more in it than an address"),
        (f"https://host/v1?key={KEY}", "has more in it than an address"),
        (f"https://host/v1#{KEY}", "has more in it than an address"),
        (f"me:{KEY}@host:x", "has more in it than an address"),
    ],
)
def test_an_address_without_use_or_with_secrets_is_refused(url: str, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        check_url(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "nul\0"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    with pytest.raises(InputError, match="cannot be sent") as caught:
        Endpoint("http://localhost/v1", "tiny", key=key)
    assert key not in str(caught.value)


def test_a_key_on_an_open_road_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Endpoint("http://far.example/v1", "tiny", key=KEY)
    assert "the key goes to far.example unencrypted" in capsys.readouterr().err
    for url, key in [("https://far.example/v1", KEY), ("http://127.0.0.1/v1", KEY),
                     ("http://[::1]:80/v1", KEY), ("http://far.example/v1", None)]:  # fmt: skip
        Endpoint(url, "tiny", key=key)
    assert capsys.readouterr().err == ""


def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(echo) as server:
        assert opened(server).write(ASKS[:1], seed=0) == ["A photo of flower 0, in a vase"]


def test_a_failure_loses_only_the_block_it_came_in() -> None:
    is_down = {"now": True}

    def fails_late(body: dict[str, Any], n: int) -> Reply:
        return Reply(403) if is_down["now"] and told(body)[7] in "67" else echo(body, n)

    with serving(fails_late) as server:
        kept, writer = [], opened(server, concurrency=1)
        with pytest.raises(InputError):
            for block in settle_captions(ASKS, writer, seed=0, block=3):
                kept.append(block)
        assert [len(block) for block in kept] == [3, 3]
        asked, is_down["now"] = len(server.asked), False
        before = kept[0].vstack(kept[1])
        [last] = settle_captions(ASKS, writer, seed=0, before=before, block=3)
    assert last["caption"].to_list() == [f"A photo of flower {i}, in a vase" for i in (6, 7)]
    assert len(server.asked) - asked == 2


def test_the_settings_of_a_task_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GARDEN_KEY", KEY)
    with serving(echo) as server:
        writer = writer_of(
            Writing(by="endpoint", model="tiny", url=server.url, key="GARDEN_KEY", tokens=9)
        )
        assert writer.write(ASKS[:1], seed=0) == ["A photo of flower 0, in a vase"]
    assert writer.name == "tiny"
    assert json.dumps(server.asked[0][2]["max_tokens"]) == "9"


@pytest.mark.parametrize("url", [f"https://me:{KEY}@host/v1", f"https://host/v1?key={KEY}"])
def test_no_recipe_takes_an_address_with_secrets_into_its_study(url: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(url=url))
    with pytest.raises(RecipeError, match="the url has a user, password, query") as caught:
        load_recipe(recipe)
    assert KEY not in str(caught.value)
    recipe.write_text(RECIPE.format(url="https://host/v1"))
    assert load_recipe(recipe)


def test_a_key_in_place_of_its_variable_is_refused_and_not_shown(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.format(url="https://host/v1")
    recipe.write_text(text.replace("by: endpoint", f"key: {KEY}, by: endpoint"))
    with pytest.raises(RecipeError, match="name of an environment variable") as caught:
        load_recipe(recipe)
    assert KEY not in str(caught.value)
