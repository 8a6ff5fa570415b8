"""A descriptor opened by name, and the file of the web's that it may need."""

import hashlib
import http.server
import threading
from dataclasses import replace

import numpy as np
import pytest

from headwater.descriptors import builtin, choose, fetch, open_descriptor, sscd, weights
from headwater.descriptors.descriptor import Descriptor
from headwater.errors import InputError, ModelError, RunError

FILE = b"two hundred bytes, more or less" * 7


class Server:
    """A web server on this machine: what it sends at which path, and what was asked of it."""

    def __init__(self):
        self.pages, self.asked = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, headers, body = outer.pages[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that has heard enough hangs up
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path, body, *, status=200, **headers):
        self.pages[path] = status, headers, body
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture
def web(monkeypatch):
    for name in ("HEADWATER_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


def published(url, data=FILE):
    return weights.Weights("file.pt", url, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def stand_in(monkeypatch):
    """SSCD whose file is FILE and whose network is not opened."""

    def load(data, *, sha256, device):
        return Descriptor("sscd", 0.75, sha256, lambda images: data)

    monkeypatch.setattr(sscd, "load_sscd", load)
    choose._say_once.cache_clear()

    def at(url):
        monkeypatch.setattr(weights, "SSCD", published(url))

    return at


def test_a_file_is_fetched_whole_and_once(web, cache):
    url = web.put("/file.pt", FILE)
    assert weights.read_weights(published(url)) == FILE
    assert weights.read_weights(published(url)) == FILE
    assert web.asked == ["/file.pt"]
    assert [path.name for path in cache.iterdir()] == ["file.pt"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (FILE[::-1], "is not what was published: expected sha256 "),
        (FILE[:-1], f"expected {len(FILE)} bytes, saw {len(FILE) - 1}"),
        (FILE + b"x", f"expected {len(FILE)} bytes, saw more"),
        (FILE * 100_000, "saw more"),
        (b"", "saw 0"),
    ],
    ids=["other bytes", "cut short", "one byte more", "far too much", "nothing"],
)
def test_anything_else_than_the_file_is_not_kept(web, cache, body, words):
    url = web.put("/file.pt", body)
    with pytest.raises(ModelError, match=words) as error:
        weights.read_weights(published(url))
    assert str(error.value).endswith(f"Download {url} and name the file.")
    assert list(cache.iterdir()) == []


def test_a_server_is_asked_once_a_process(web, cache):
    url = web.put("/gone.pt", b"", status=404)
    for _ in range(3):
        with pytest.raises(ModelError, match=r"cannot be fetched: saw .*HTTP Error 404"):
            weights.read_weights(published(url))
    assert web.asked == ["/gone.pt"]


def test_a_silent_server_is_not_waited_for(web, cache, monkeypatch):
    import socket

    monkeypatch.setattr(fetch, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.pt"
        with pytest.raises(ModelError, match=r"cannot fetch file.pt: saw .*timed out"):
            fetch.fetch(url, cache / "file.pt", sha256="0" * 64, size=9)


def test_a_trickle_is_cut_off(web, cache, monkeypatch):
    monkeypatch.setattr(fetch, "LIMIT", 0.0)
    with pytest.raises(ModelError, match="expected 217 bytes in 0 s, saw 217"):
        fetch.fetch(web.put("/file.pt", FILE), cache / "file.pt", sha256="0" * 64, size=217)


def test_only_https_is_opened_and_followed(web, cache):
    with pytest.raises(ModelError, match="expected https, saw http://example"):
        fetch.fetch("http://example.org/file.pt", cache / "a", sha256="0" * 64, size=9)
    with pytest.raises(ModelError, match="expected https, saw file:"):
        fetch.fetch("file:///etc/hostname", cache / "a", sha256="0" * 64, size=9)
    there = web.put("/there", FILE)
    url = web.put("/file.pt", b"", status=302, Location=there)
    with pytest.raises(ModelError, match="sent on to http://127"):
        weights.read_weights(published(url))
    assert web.asked == ["/file.pt"]


def test_a_disk_that_takes_nothing_is_said(web, tmp_path):
    (tmp_path / "weights").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"cannot write file.pt"):
        fetch.fetch(
            web.put("/file.pt", FILE), tmp_path / "weights" / "file.pt", sha256="0" * 64, size=217
        )


def test_a_broken_file_in_the_cache_is_fetched_anew(web, cache):
    cache.mkdir(parents=True)
    (cache / "file.pt").write_bytes(FILE[:50])
    assert weights.read_weights(published(web.put("/file.pt", FILE))) == FILE
    assert (cache / "file.pt").read_bytes() == FILE


def test_a_given_file_must_be_the_published_one(web, tmp_path):
    given = tmp_path / "mine.pt"
    url = web.put("/file.pt", FILE)
    with pytest.raises(ModelError, match=r"no such weights: expected file.pt, saw .*mine.pt"):
        weights.read_weights(published(url), given)
    given.write_bytes(FILE[::-1])
    with pytest.raises(ModelError, match=r"mine.pt is not the published one.*saw sha256"):
        weights.read_weights(published(url), given)
    given.write_bytes(FILE + b"x")
    with pytest.raises(ModelError, match="saw 218 bytes"):
        weights.read_weights(published(url), given)
    given.write_bytes(FILE)
    assert weights.read_weights(published(url), given) == FILE
    assert web.asked == []


@pytest.mark.parametrize("name", weights.OFFLINE)
def test_offline_nothing_is_fetched(web, cache, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    url = web.put("/file.pt", FILE)
    with pytest.raises(ModelError, match=f"cannot be fetched: saw {name} is set"):
        weights.read_weights(published(url))
    assert web.asked == []
    monkeypatch.setenv(name, "0")
    assert weights.read_weights(published(url)) == FILE


def test_the_tests_themselves_are_offline():
    assert weights.offline() == "HEADWATER_OFFLINE"


def test_auto_is_sscd_where_it_can_be_had(web, cache, stand_in):
    stand_in(web.put("/file.pt", FILE))
    assert open_descriptor().name == "sscd"
    assert open_descriptor().describe([]) == FILE
    assert web.asked == ["/file.pt"]


def test_auto_is_the_built_in_one_elsewhere_and_says_so_once(web, cache, stand_in, capsys):
    stand_in(web.put("/file.pt", b"", status=500))
    assert [open_descriptor().name for _ in range(3)] == ["builtin"] * 3
    assert web.asked == ["/file.pt"]
    told = [line for line in capsys.readouterr().err.splitlines() if "built-in" in line]
    assert len(told) == 1
    assert "HTTP Error 500" in told[0]


def test_auto_with_a_file_is_sscd_or_nothing(cache, stand_in, tmp_path):
    stand_in("https://example.org/file.pt")
    given = tmp_path / "file.pt"
    given.write_bytes(FILE)
    assert open_descriptor(weights=given).name == "sscd"
    given.write_bytes(b"something else")
    with pytest.raises(ModelError, match="is not the published one"):
        open_descriptor(weights=given)


def test_sscd_by_name_is_never_another(cache, stand_in):
    stand_in("https://example.org/file.pt")
    with pytest.raises(ModelError, match=r"HEADWATER_OFFLINE is set. Download https://example"):
        open_descriptor("sscd")


def test_isc_says_where_its_weights_are(cache):
    with pytest.raises(ModelError, match=r"no weights of the descriptor isc.*Download https://git"):
        open_descriptor("isc")


def test_other_names_and_weights_for_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected auto or builtin or isc or sscd, saw phash"):
        open_descriptor("phash")
    with pytest.raises(InputError, match="takes no weights"):
        open_descriptor("builtin", weights=tmp_path)


NOT_IN_A_ROW = {"COPY_THRESHOLD", "BLOCK", "VERSION"}


def test_every_constant_of_the_built_in_descriptor_is_in_its_digest(monkeypatch):
    before = open_descriptor("builtin").digest
    assert before.startswith(f"builtin-{builtin.VERSION}-")
    names = [name for name in vars(builtin) if name.isupper() and name not in NOT_IN_A_ROW]
    assert len(names) == 11
    for name in names:
        with monkeypatch.context() as patch:
            value = getattr(builtin, name)
            changed = {0.5: 1} if name == "WINDOWS" else (1,) if name == "MIRRORED" else value + 1
            patch.setattr(builtin, name, changed)
            assert open_descriptor("builtin").digest != before, name


def test_the_numbers_of_version_1():
    y, x = np.mgrid[:48, :64]
    picture = np.stack([3 * x, 5 * y, (x - 32) ** 2 // 5], axis=2).astype(np.uint8)
    row = open_descriptor("builtin").describe([picture])[0]
    # If these change, so does every kept row: raise builtin.VERSION.
    assert builtin.VERSION == 1
    np.testing.assert_allclose(
        row[[0, 300, 700, 1023]], [-0.01484, 0.02232, -0.01513, -0.0482], atol=1e-4
    )


def test_a_descriptor_is_what_a_kept_feature_may_be_named_after():
    from headwater.features import KeptFeatures

    digest = open_descriptor("builtin").digest
    assert KeptFeatures(digest).folder.name == digest
    assert replace(open_descriptor("builtin"), threshold=0.5).threshold == 0.5
