"""The review page in a real browser: pictures are marked, and the CSV says just those."""

import base64

import polars as pl
import pytest
from tests.test_browser import CHROMIUM, Browser
from tests.tiny_curated import picture, tiny_sets, tiny_task

from headwater.decode import encode_png
from headwater.report.review import Gallery, Picture, ReviewData, render_review
from headwater.steps.curation.rejections import SCHEMA, read_rejections, write_rejections
from headwater.steps.looking.review import review

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER TESTS: chromium is not on the PATH"
)
HOSTILE = [
    '"><img src=x onerror=alert(1)><script>console.log(1)</script>',
    "</textarea><script>console.log(2)</script>",
    *("=1+1", "+1", "-web:1", "@SUM(A1)", "'=quoted", "'"),
    *('say "no", twice', "two\nlines", "carriage\rreturn", "\ttab", "nul\0byte", " spaces "),
    *("\u202eright to left", "\U0001f338", "w" * 300, "\u2028"),
]
ROOT = "document.documentElement"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(tmp_path):
    """The page of a small set, with every fate there is."""
    source, kept = tiny_sets(tmp_path)
    review(kept, source, tmp_path / "review.html", task=tiny_task(tmp_path))
    return tmp_path / "review.html"


@pytest.fixture
def hostile(tmp_path):
    image = encode_png(picture(1))
    pictures = [
        Picture(text, text[::-1], image, 0.5, text, (text, text, text), {text: text}, (image, text))
        for text in HOSTILE
    ]
    counts = {label: {"pixels": 40, "not_rejected": 20} for label in HOSTILE}
    galleries = {label: [Gallery(label, 40, pictures)] for label in HOSTILE[:2]}
    names = dict(zip(HOSTILE, HOSTILE, strict=True))
    told = ReviewData(
        HOSTILE[0], "k", ["pixels", "not_rejected"], counts, names, galleries, HOSTILE
    )
    path = tmp_path / "hostile.html"
    path.write_text(render_review(told), encoding="utf-8", newline="")
    return path


def mark(browser, *numbers):
    """Click on pictures, by their number on the page."""
    for number in numbers:
        browser.value(f"document.querySelectorAll('.view')[{number}].click()")


def test_marked_pictures_become_rejections(browser, page, tmp_path):
    browser.open_fresh(page)
    assert browser.text_of("count") == "0 marked"
    assert browser.value("document.getElementById('save').disabled")
    mark(browser, 0, 4, 10, 4)  # the last click takes a mark back
    assert browser.text_of("count") == "2 marked"
    file = browser.saved(tmp_path / "saved", "rejected.csv")
    assert read_rejections(file).rows() == [("w:r0", "rose"), ("w:r0", "fern")]
    assert browser.value("document.getElementById('csv').value") == file.read_text()
    browser.open(page, width=1440, scheme="light")  # marks outlive the page
    assert browser.text_of("count") == "2 marked"
    browser.value("document.getElementById('clear').click()")
    browser.open(page, width=1440, scheme="light")
    assert browser.text_of("count") == "0 marked"


def test_marks_are_set_by_keyboard(browser, page):
    browser.open_fresh(page)
    browser.value("document.querySelector('.tile input').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" ",
                     windowsVirtualKeyCode=32)  # fmt: skip
    assert browser.text_of("count") == "1 marked"


def test_ids_and_labels_of_any_characters_are_read_back_exactly(browser, hostile, tmp_path):
    browser.open_fresh(hostile)
    mark(browser, *range(len(HOSTILE)))
    file = browser.saved(tmp_path / "saved", "rejected.csv")
    rows = [(text, text[::-1]) for text in HOSTILE]
    assert read_rejections(file).rows() == rows
    write_rejections(tmp_path / "own.csv", pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    assert file.read_bytes() == (tmp_path / "own.csv").read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_fits_asks_nobody_and_is_silent(browser, page, hostile, width, scheme):
    for path in (page, hostile):
        browser.open_fresh(path, width=width, scheme=scheme)
        browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        browser.value("document.querySelectorAll('.class').forEach("
                      "s => s.style.setProperty('content-visibility', 'visible'))")  # fmt: skip
        mark(browser, 0, 1)
        assert browser.value(f"{ROOT}.scrollWidth - {ROOT}.clientWidth") <= 0
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
        assert browser.value(broken) == 0
        silent = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        assert browser.seen(*silent, "Page.javascriptDialogOpening") == []
        asked = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def test_a_count_is_a_number_on_a_narrow_page_too(browser, page):
    browser.open_fresh(page, width=360)
    cells = "[...document.querySelectorAll('.index td')]"
    drawn = f"{cells}.map(c => getComputedStyle(c, '::after').content)"
    assert set(browser.value(drawn)) == {"none"}


def test_no_other_script_runs(browser, page, tmp_path):
    """The policy allows the page's own script alone, should a text ever get through."""
    text = page.read_text()
    own = text[text.index("<script>") :]
    evil = (
        "<script>document.title = 'stolen'</script><img src=x onerror=\"document.title='stolen'\">"
    )
    data = base64.b64encode(b"document.title = 'stolen'").decode()
    evil += f'<script src="data:text/javascript;base64,{data}"></script>'
    path = tmp_path / "evil.html"
    path.write_text(text.replace(own, evil + own))
    browser.open(path, width=1440, scheme="light")
    assert "stolen" not in browser.value("document.title")
    assert browser.text_of("count").endswith("marked")


def test_without_scripts_the_page_says_what_is_needed(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, width=360, scheme="light")
        tree = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        look = {
            name: browser.call("DOM.querySelector", nodeId=tree, selector=name)["nodeId"]
            for name in ("#off", "#on", "#bar", ".tile input")
        }
        shown = {name for name, node in look.items() if is_shown(browser, node)}
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert shown == {"#off", ".tile input"}


def is_shown(browser, node):
    """Whether a node of the document has a box."""
    described = browser.call("DOM.describeNode", nodeId=node)["node"]
    names = described.get("attributes", [])[::2]
    return "hidden" not in names
