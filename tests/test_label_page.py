"""The labelling page in a real browser, by keyboard, from the first picture to the CSV."""

import csv

import pytest
import yaml
from tests.test_browser import CHROMIUM, Browser
from tests.test_label import make_pool

from headwater.report.label import NONE, SKIPPED
from headwater.splits import load_split
from headwater.steps.labelling.page import make_page
from headwater.steps.labelling.sample import Sampling
from headwater.steps.labelling.split import make_split
from headwater.task import load_task

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER TESTS: chromium is not on the PATH"
)
FEW = ["rose", {"label": "fern", "name": "tree fern"}, {"label": "AC/DC", "queries": ["acdc"]}]
MANY = [{"label": f"missile ({n})", "name": "missile", "queries": ["rose"]} for n in (657, 744)]
MANY += [f"kind {n}" for n in range(1000)]
HOSTILE = ["</script><script>console.log(1)</script>", '"><img src=x onerror=alert(1)>', "w" * 190]
ENTER = {"key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def pool(tmp_path):
    return make_pool(tmp_path / "pool", n=16, shards=1)


def make(folder, pool, classes, n=6):
    told = {"format": 1, "name": "garden", "classes": classes}
    (folder / "garden.yaml").write_text(yaml.safe_dump(told))
    task = load_task(folder / "garden.yaml")
    make_page(pool, task, folder / "label.html", how=Sampling(n=n))
    return task, folder / "label.html"


def press(browser, *keys):
    for key in keys:
        told = ENTER if key == "Enter" else {"key": key, "text": key if len(key) == 1 else ""}
        browser.call("Input.dispatchKeyEvent", type="keyDown", **told)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def find(browser, text):
    press(browser, "/")
    browser.call("Input.insertText", text=text)
    press(browser, "Enter")


def said(browser):
    return browser.value("[...document.querySelectorAll('#sheet span')].map(s => s.textContent)")


def test_a_person_labels_by_keyboard_and_gets_a_split(browser, pool, tmp_path):
    task, page = make(tmp_path, pool, FEW)
    browser.open_fresh(page)
    assert browser.text_of("place") == "picture 1 of 6"
    press(browser, "1", "2", "n", "s")
    assert browser.text_of("place") == "picture 5 of 6"
    find(browser, "ac/dc")
    find(browser, "TREE")
    assert said(browser) == ["rose", "tree fern", NONE, SKIPPED, "AC/DC", "tree fern"]
    assert browser.text_of("message").startswith("All are answered")
    press(browser, "b", "b", "3")  # the fifth is answered anew, and nothing is left to answer
    assert browser.text_of("place") == "picture 4 of 6"
    assert said(browser)[3] == "AC/DC"
    rows = list(csv.reader(browser.saved(tmp_path / "saved", "answers.csv").open(newline="")))
    assert rows[0] == ["id", "label"]
    assert [label for _, label in rows[1:]] == ["rose", "fern", NONE, "AC/DC", "AC/DC", "fern"]
    make_split(pool, task, tmp_path / "saved/answers.csv", tmp_path / "out")
    split = load_split(load_task(tmp_path / "out/task.yaml"), "test")
    assert split.targets.tolist() == [0, 1, 1, 2, 2]


def test_answers_outlive_the_page_and_stay_apart_from_other_pages(browser, pool, tmp_path):
    _, page = make(tmp_path, pool, FEW)
    browser.open_fresh(page)
    press(browser, "1", "n")
    browser.open(page, width=1440, scheme="light")
    assert said(browser) == ["rose", NONE, "", "", "", ""]
    assert browser.text_of("place") == "picture 3 of 6"
    (tmp_path / "other").mkdir()
    _, other = make(tmp_path / "other", pool, FEW, n=5)
    browser.open(other, width=1440, scheme="light")
    assert said(browser) == [""] * 5


def test_a_thousand_classes_are_found_by_typing(browser, pool, tmp_path):
    task, page = make(tmp_path, pool, MANY, n=12)
    browser.open_fresh(page, width=360)
    root = "document.documentElement"
    assert browser.value(f"{root}.scrollWidth - {root}.clientWidth") <= 0
    assert browser.value("document.querySelectorAll('#choices button').length") == 0
    find(browser, "kind")
    assert browser.text_of("message").startswith("1000 classes fit: kind 0, kind 1, ")
    assert said(browser)[0] == ""
    press(browser, "Escape")
    browser.value("document.getElementById('find').value = ''")
    find(browser, "kind 7")  # exactly this one, though many others hold it
    find(browser, "missile")
    assert browser.text_of("message") == "2 classes fit: missile (657), missile (744)"
    browser.value("document.getElementById('find').value = 'missile (744)'")
    press(browser, "Enter", "1")  # then the first class used again, by its key
    assert said(browser)[:3] == ["kind 7", "missile", "kind 7"]
    for n in range(20, 28):
        find(browser, f"kind {n}")
    press(browser, "2")  # of nine keys this one was free: its class was not used for longest
    rows = list(csv.reader(browser.saved(tmp_path / "saved", "answers.csv").open(newline="")))
    assert rows[2][1] == "missile (744)"
    assert rows[12][1] == "kind 27"
    make_split(pool, task, tmp_path / "saved/answers.csv", tmp_path / "out")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_fits_asks_nobody_and_is_silent(browser, pool, tmp_path, width):
    _, page = make(tmp_path, pool, [*FEW, *HOSTILE])
    browser.open_fresh(page, width=width)
    press(browser, "4", "5", "6", "c")
    root = "document.documentElement"
    assert browser.value(f"{root}.scrollWidth - {root}.clientWidth") <= 0
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth)")
    assert said(browser)[:3] == HOSTILE
    assert not browser.seen("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert not browser.seen("Page.javascriptDialogOpening")
    asked = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
