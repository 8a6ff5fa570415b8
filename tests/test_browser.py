"""The report in a real browser: headless Chromium, driven over its debugging pipe."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from tests.test_doctor import hostile_page
from tests.tiny_study import lean_results, tiny_study

from headwater.report import render_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER TESTS: chromium is not on the PATH"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
]
# Chromium reads commands from file 3 and answers on file 4.
LAUNCH = """
import os, sys
ends = [os.dup(int(end)) if int(end) in (3, 4) else int(end) for end in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
FACTS = """({
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    images: [...document.images].length,
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
    charts: [...document.querySelectorAll('.chart')].filter(c => c.offsetWidth > 0)
        .map(c => c.className),
    clipped: [...document.querySelectorAll('.chart svg text')].filter(t => {
        const box = t.getBoundingClientRect();
        return box.width && (box.left < 0 || box.right > innerWidth);
    }).length,
    smallest: Math.min(...[...document.querySelectorAll('.chart svg text')]
        .map(t => t.getBoundingClientRect().height).filter(h => h > 0)),
    paper: getComputedStyle(document.body).backgroundColor,
    curve: getComputedStyle(document.querySelector('.stroke-c0')).stroke,
})"""


class Browser:
    def __init__(self, profile):
        command_out, command_in = os.pipe()
        answer_out, answer_in = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCH, str(command_out), str(answer_in), CHROMIUM),
                *(*FLAGS, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(command_out, answer_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_out)
        os.close(answer_in)
        self.commands, self.answers = os.fdopen(command_in, "wb", 0), os.fdopen(answer_out, "rb")
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.rest:
            chunk = self.answers.read1(65536)
            assert chunk, "Chromium has gone"
            self.rest += chunk
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, **params):
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        self.commands.write(json.dumps(command).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, path, *, width, scheme):
        self.events = []
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.value("window.before = true")
        time.sleep(0.1)  # what the page before stored is written behind its back
        self.call("Page.navigate", url=path.as_uri())
        while not self.seen("Page.loadEventFired"):
            self.events.append(self.message())
        for _ in range(400):  # the event may be one of the page before
            if self.value("!window.before && document.readyState === 'complete'"):
                return
            time.sleep(0.05)
        raise AssertionError("the page does not load")

    def open_fresh(self, path, *, width=1440, scheme="light"):
        """Without what an earlier test left in the page's storage."""
        self.open(path, width=width, scheme=scheme)
        self.value("localStorage.clear()")
        self.open(path, width=width, scheme=scheme)

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def text_of(self, name):
        return self.value(f"document.getElementById('{name}').textContent")

    def saved(self, folder, name):
        """The path of the file that the page's Save button gives."""
        folder.mkdir()
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.value("document.getElementById('save').click()")
        for _ in range(200):
            if (folder / name).exists() and (folder / name).stat().st_size:
                return folder / name
            time.sleep(0.05)
        raise AssertionError(f"no {name} was saved")

    def seen(self, *methods):
        return [event["params"] for event in self.events if event.get("method") in methods]

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "report.html"
    path.write_text(render_report(tiny_study()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_the_page_fits_and_is_silent(browser, report, width, scheme):
    browser.open(report, width=width, scheme=scheme)
    facts = browser.value(FACTS)
    assert facts["overflow"] <= 0
    assert (facts["images"], facts["broken"]) == (300, 0)
    assert set(facts["charts"]) == {"chart narrow" if width == 360 else "chart wide"}
    assert facts["clipped"] == 0
    assert facts["smallest"] >= 9
    assert not browser.seen("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    asked = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_dark_is_dark_and_the_curves_follow(browser, report):
    looks = {}
    for scheme in ("light", "dark"):
        browser.open(report, width=1440, scheme=scheme)
        looks[scheme] = browser.value(FACTS)
    light, dark = (
        sum(int(x) for x in looks[scheme]["paper"][4:-1].split(",")) for scheme in ("light", "dark")
    )
    assert light > 3 * 230
    assert dark < 3 * 40
    assert looks["light"]["curve"] != looks["dark"]["curve"]


def test_what_lies_behind_is_reached_by_keyboard(browser, report):
    browser.open(report, width=1440, scheme="light")
    browser.value("document.querySelector('figure summary').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                     windowsVirtualKeyCode=13)  # fmt: skip
    assert browser.value("document.querySelector('figure details').open")
    assert browser.value("document.querySelector('figure table').offsetHeight") > 100


def test_a_wide_table_scrolls_in_its_own_box(browser, report):
    browser.open(report, width=360, scheme="light")
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    facts = browser.value(FACTS)
    assert facts["overflow"] <= 0
    boxes = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth)"
    assert browser.value(f"{boxes}.length") > 0


def test_hostile_names_stay_names(browser, tmp_path):
    name = '"><img src=x onerror=alert(1)><script>console.log(1)</script>' + "w" * 200
    path = tmp_path / "hostile.html"
    hostile = tiny_study(
        title=name,
        sentence=name,
        notes=(name,),
        classes={"0": name},
        results=lean_results(),
        verdict=[{**entry, "arm": name} for entry in tiny_study().verdict],
    )
    path.write_text(render_report(hostile), encoding="utf-8")
    browser.open(path, width=360, scheme="light")
    assert browser.value(FACTS)["overflow"] <= 0
    assert not browser.seen("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert not browser.seen("Page.javascriptDialogOpening")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_of_the_doctor_fits_and_is_silent(browser, tmp_path, width):
    path = hostile_page(tmp_path)
    browser.open(path, width=width, scheme="dark")
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    root = "document.documentElement"
    assert browser.value(f"{root}.scrollWidth - {root}.clientWidth") <= 0
    assert browser.value("document.querySelectorAll('mark').length") == 6
    assert not browser.seen("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    asked = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    assert asked == [path.as_uri()]
