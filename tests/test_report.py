"""The report: what stands on the page, that it is safe, and that it never changes by itself."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from statistics import mean, stdev

import matplotlib
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_study import (
    LINES,
    NAMES,
    SCALES,
    digit,
    lean_results,
    tiny_look,
    tiny_numbers,
    tiny_pixels,
    tiny_study,
)

from headwater.curate.pixels import LOOK_SCHEMA, summarize
from headwater.errors import InputError
from headwater.report import ReportData, plots, render_report, views
from headwater.report.data import measured
from headwater.report.pixels import pixels_notes, pixels_sentence, pixels_table

EVIL = '"><script>alert(1)</script>$x_1$\x1b[31m\u202e'


class Page(HTMLParser):
    """Every start tag with its attributes, and all text outside of the style sheet."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.open = [], [], ""
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data):
        if self.open != "style":
            self.words.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def study():
    return tiny_study()


@pytest.fixture(scope="module")
def html(study):
    return render_report(study)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_answer_comes_first(study, page):
    text = page.text
    primary = study.primary
    number = f"{100 * primary['difference']:+.1f}"
    assert primary["arm"] == "captions"
    places = [text.index(words) for words in (study.sentence, number, "Scaling curves", "Verdict")]
    assert places == sorted(places[:2]) + places[2:]
    assert f"{views.points(primary['low'])} to {views.points(primary['high'])}" in text


def test_everything_a_reader_needs_is_there(study, page):
    for words in (*NAMES.values(), *study.notes, study.command, *LINES, "adapt.epochs", "torch"):
        assert words in page.text
    assert "600 test images" in page.text
    assert len(page.all("img")) == 6 * 10 * 5
    assert page.text.count("Linear-probe accuracy , %, against training images") == 2
    assert "Split “holes”" in page.text


def test_every_comparison_is_in_a_table(study, html):
    assert html.count('class="verdict"') == 2
    rows = html.count('<td class="verb">')
    assert rows == len(study.verdict)


def test_same_data_same_bytes_whatever_matplotlib_is_set_to(html):
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        assert render_report(tiny_study()) == html


def test_policy_allows_just_this_style_sheet(html):
    style = re.search(r"<style>(.*?)</style>", html, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in html
    assert "@import" not in style
    assert "url(" not in style


def test_nothing_on_the_page_runs_or_loads(page):
    assert not {"script", "link", "iframe", "object", "foreignobject"} & {t for t, _ in page.tags}
    for _, attrs in page.tags:
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,"))


def test_ids_are_unique_and_references_resolve(html, page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    hrefs = [attrs["href"][1:] for _, attrs in page.tags if "href" in attrs]
    clips = re.findall(r"url\(#([\w-]+)\)", html)
    assert clips
    assert set(hrefs) | set(clips) <= set(ids)


def test_names_from_outside_are_text(study):
    arms = pl.col("arm").replace("captions", EVIL)
    evil = tiny_study(
        title=EVIL,
        sentence=EVIL,
        notes=(EVIL,),
        command=EVIL,
        settings={EVIL: {EVIL: EVIL}},
        versions={EVIL: EVIL},
        verdict=[{**entry, "arm": EVIL} for entry in study.verdict],
        results=lean_results().with_columns(arms),
        largest={EVIL: 500, "synthetic": 400},
        funnels={EVIL: {"steps": [EVIL], "classes": {EVIL: {EVIL: 3}}}},
        gallery={EVIL: {EVIL: [digit("7", 0)]}},
        classes={EVIL: EVIL},
    )
    html = render_report(evil)
    page = Page(html)
    assert not page.all("script")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert page.text.count("<script>alert(1)</script>$x_1$[31m") > 10
    assert not [attrs for _, attrs in page.tags if attrs.get("style")]


def test_report_package_starts_without_matplotlib():
    code = "import sys, headwater.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Numbers


def test_measured_agrees_with_plain_python():
    results = tiny_numbers()[1]
    table = measured(results, split="test", metric="zero_shot")
    assert len(table) == 8 * len(SCALES) + len(LINES)
    for arm, scale, average, sd, seeds in table.iter_rows():
        plain = [
            row["value"]
            for row in results.iter_rows(named=True)
            if (row["arm"], row["scale"], row["split"]) == (arm, scale, "test")
            and row["metric"] == "zero_shot"
        ]
        assert (average, seeds) == (pytest.approx(mean(plain)), len(plain))
        assert sd == (pytest.approx(stdev(plain)) if len(plain) > 1 else None)


def test_val_results_of_rates_not_chosen_are_left_out():
    table = measured(tiny_numbers()[1], split="val", metric="zero_shot")
    test = measured(tiny_numbers()[1], split="test", metric="zero_shot")
    assert table["mean"].to_list() == test["mean"].to_list()


def points_of(rows):
    schema = ["arm", "scale", "mean", "sd", "seeds"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_curves_and_lines_share_the_arms():
    shown = points_of(
        [
            ("mixed", 300, 0.8, 0.01, 3),
            ("mixed", 100, 0.7, 0.02, 3),
            ("off-the-shelf", 0, 0.6, None, 1),
            ("labelled", 200, 0.9, 0.01, 3),
        ]
    )
    (curve,) = plots.curves(shown, lines=["labelled"], slots={"mixed": 4})
    assert (curve.arm, curve.slot, curve.images) == ("mixed", 4, [100, 300])
    assert curve.mean == pytest.approx([70, 80])
    assert curve.sd == pytest.approx([2, 1])
    lines = plots.levels(shown, lines=["labelled"])
    assert lines == pytest.approx({"off-the-shelf": 60, "labelled": 90})


def test_a_bar_reaches_one_sd_to_each_side():
    curve = plots.Curve("mixed", 0, [100, 1000], [50.0, 60.0], [5.0, float("nan")])
    svg = plots.scaling_chart([curve], {}, name="x", label="y")
    paths = re.findall(r'<path d="M ([\d. L]+)"[^>]*class="stroke-c0"', svg)
    places = [[float(x) for x in path.replace("L", "").split()] for path in paths]
    line = next(p for p in places if p[0] != p[2])
    bar = next(p for p in places if p[0] == p[2] == line[0])
    rise = line[1] - line[3]  # of 10 points, in pixels
    assert sorted(bar[1::2]) == pytest.approx([line[1] - rise / 2, line[1] + rise / 2], abs=0.01)


def test_shading_begins_where_one_of_the_two_arms_ends(html):
    assert html.count('class="fill-shade') == 2 * 2 * 2
    assert "shaded beyond 610 images, all that synthetic has" in Page(html).text
    enough = render_report(
        tiny_study(results=lean_results(), largest={"captions": 5000, "synthetic": 5000})
    )
    assert 'class="fill-shade' not in enough


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=12))
def test_labels_are_spread_in_order_and_within_bounds(wanted):
    placed = plots.spread(wanted, gap=0.07, low=0.0, high=1.0)
    inside = [min(max(spot, 0.0), 1.0) for spot in wanted]
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    steps = [placed[b] - placed[a] for a, b in pairwise(order)]
    assert all(step > 0.07 - 1e-9 for step in steps)
    assert all(-1e-9 <= spot <= 1 + 1e-9 for spot in placed)
    clear = sorted(inside)
    if all(b - a >= 0.07 for a, b in pairwise(clear)):
        assert placed == pytest.approx(inside)


def test_long_names_are_cut_in_charts_only():
    name = "retrieved-by-captions-from-a-large-pool"
    curve = plots.Curve(name, 0, [100], [50.0], [1.0])
    assert "retrieved-by-capt…<" in plots.scaling_chart([curve], {}, name="x", label="y")


def test_funnel_counts_over_and_per_class():
    counts = {"steps": ["found", "kept"], "classes": {"a": {"found": 4, "kept": 1}, "b": {}}}
    shown = views.funnel("captions", counts, {"a": "Anemone"})
    assert [(bar.name, bar.text, bar.full) for bar in shown.steps] == [
        ("found", "4", 100.0),
        ("kept", "1", 25.0),
    ]
    assert [(bar.name, bar.pale, bar.full) for bar in shown.classes] == [
        ("Anemone", 100.0, 25.0),
        ("b", 0.0, 0.0),
    ]
    assert shown.table.rows == [["Anemone", "4", "1"], ["b", "0", "0"]]


def test_an_empty_funnel_is_no_error():
    assert views.funnel("none", {"steps": [], "classes": {}}, {}).steps == []
    assert views.funnel("none", {"steps": ["found"], "classes": {}}, {}).steps[0].full == 0.0


def test_cards_keep_the_order_of_classes_and_show_gaps():
    gallery = {"truth": {"b": [digit("1", 0)], "a": []}, "synthetic": {"c": [digit("2", 0)]}}
    cards = views.cards(gallery, {"a": "A", "b": "B", "unseen": "U"})
    assert [card.label for card in cards] == ["A", "B", "c"]
    assert [[len(strip.images) for strip in card.strips] for card in cards] == [
        [0, 0],
        [1, 0],
        [0, 1],
    ]


def test_the_largest_scale_of_each_pair_is_shown_first(study):
    shown = {(e["arm"], e["scale"]) for e in study.verdict if views.is_largest(e, study.verdict)}
    assert {scale for arm, scale in shown if arm != "labelled"} == {900}


def test_intervals_beyond_the_axis_stop_at_its_end():
    axis = views.verdict_axis([{"low": -0.02, "high": 0.07}], margin=0.01)
    assert (axis.reach, axis.at(0.0), axis.at(-0.5), axis.at(0.08)) == (8.0, 100, 0, 200)


def test_accuracy_table_has_a_column_a_scale():
    shown = points_of([("mixed", 1000, 0.7, 0.02, 3), ("off-the-shelf", 0, 0.6, None, 1)])
    table = views.accuracy_table(shown)
    assert table.head == ["images", "0", "1,000"]
    assert table.rows == [["mixed", "", "70.0 ± 2.0"], ["off-the-shelf", "60.0", ""]]


# What may be missing


def test_without_test_images_val_is_shown_and_said(study):
    val_only = study.results.filter(split="val", metric="zero_shot")
    text = Page(render_report(tiny_study(results=val_only, verdict=[]))).text
    assert "on the val split, which also chose the learning rate" in text
    assert "Holm" not in text


def test_without_evaluation_images_the_page_says_so(study):
    nothing = tiny_study(results=study.results.clear(), verdict=[], gallery={}, funnels={})
    page = Page(render_report(nothing))
    assert "Nothing was measured: the task has no evaluation images." in page.text
    assert "headwater run recipes/miniature.yaml" in page.text


def test_an_unmeasured_comparison_has_no_numbers(study):
    blank = dict.fromkeys(("difference", "low", "high", "p", "p_holm"))
    entry = {**study.primary, **blank, "call": "unmeasured"}
    text = Page(render_report(tiny_study(verdict=[entry], results=lean_results()))).text
    assert "unmeasured" in text
    assert "nan" not in text.lower()


def test_one_scale_one_seed_is_drawn():
    lone = lean_results().filter(scale=300, seed=0)
    page = Page(render_report(tiny_study(results=lone)))
    assert "captions" in page.text
    assert "nan" not in page.text.lower()


def test_results_without_a_column_are_refused(study):
    with pytest.raises(InputError, match=r"saw no chosen"):
        tiny_study(results=study.results.drop("chosen"))


def test_times_may_not_enter_the_page(study):
    with pytest.raises(InputError, match="saw column seconds"):
        tiny_study(cost=pl.DataFrame({"step": ["retrieve"], "seconds": [3.5]}))
    counts = pl.DataFrame({"step": ["retrieve"], "bytes": [1_234_567]})
    assert "1,234,567" in render_report(tiny_study(cost=counts, results=lean_results()))


def test_an_unknown_image_is_refused():
    with pytest.raises(InputError, match="expected encoded PNG, JPEG, GIF or WebP"):
        views.cards({"truth": {"0": [b"<svg onload=alert(1)>"]}}, {})


def test_the_least_a_report_needs():
    columns = {"arm": pl.String, "scale": pl.Int64, "seed": pl.Int64, "split": pl.String}
    columns |= {"metric": pl.String, "value": pl.Float64, "chosen": pl.Boolean}
    least = ReportData("t", "roses", "Nothing yet.", [], pl.DataFrame(schema=columns))
    assert "Nothing yet." in render_report(least)


COPIES = {
    "arm": ["off-the-shelf", "captions"],
    "scale": [0, 1000],
    "metric": ["zero_shot", "zero_shot"],
    "images": [600, 600],
    "accuracy": [0.61, 0.812],
    "left": [587, 587],
    "without": [0.605, None],
}


def test_accuracy_stands_with_and_without_copies():
    tables = views.copies_tables(pl.DataFrame(COPIES))
    assert list(tables) == ["Zero-shot accuracy"]
    assert tables["Zero-shot accuracy"].head[2:4] == ["all 600", "587 without"]
    assert tables["Zero-shot accuracy"].rows == [
        ["off-the-shelf", views.NONE, "61.0", "60.5", f"{views.MINUS}0.5"],
        ["captions", "1,000", "81.2", views.NONE, views.NONE],
    ]


def test_leaks_are_on_the_page_where_there_are_any(study):
    leaks = pl.DataFrame({"source": [EVIL], "pairs": [80], "copies": [2], "why they stay": ["so"]})
    html = render_report(replace(study, leaks=leaks, without_copies=pl.DataFrame(COPIES)))
    page = Page(html)
    assert "Copies of test images among" in page.text and "587 without" in page.text
    assert "<script>alert" not in html
    for none in (None, leaks.clear()):
        assert "Copies of test images" not in render_report(replace(study, leaks=none))


def cells(table, source):
    return next(row for row in table.rows if row[0] == source)


def test_pixels_stand_as_they_came_and_as_they_are(page):
    text = page.text
    assert "sources differ in size, padding, codec and bytes per pixel" in text
    assert "as they are trained on, in nothing" in text
    assert cells(pixels_table(tiny_pixels()), "synthetic") == [
        "synthetic", "900", "512 → 256", "0 %", "0 %", "PNG → JPEG", "2.10 → 0.60",
    ]  # fmt: skip
    assert cells(pixels_table(tiny_pixels()), "captions")[2:6] == [
        "256 (225 to 287) → 256", "3 % → 0 %", "72 % (25 % of the picture) → 0 %",
        "93 % JPEG, 7 % PNG → JPEG",
    ]  # fmt: skip


def told(**after):
    before = tiny_look(256, "JPEG")
    return {"images": 10, "before": before, "after": {**before, **after}}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"padded": 0.11, "padding": 0.2}, "11 % against 0 % padded"),
        ({"not_square": 1.0}, "100 % against 0 % not square"),
        ({"codecs": {"JPEG": 0.5, "PNG": 0.5}}, "50 % JPEG, 50 % PNG against JPEG"),
        ({"short_side": {"p5": 300, "median": 300, "p95": 300}}, "short side 300 against 256 px"),
    ],
)
def test_what_still_differs_between_two_arms_is_said(after, words):
    pixels = {"found": told(**after), "made": told()}
    (note,) = pixels_notes(pixels, ["found"], ["made"])
    assert note.startswith("found and made images still differ")
    assert words in note
    assert pixels_notes(pixels, ["found"], ["found"]) == []
    assert pixels_notes(pixels, ["found"], ["labelled"]) == []


@pytest.mark.parametrize(
    "after",
    [{"padded": 0.09}, {"codecs": {"JPEG": 0.95, "PNG": 0.05}}, {"bytes_per_pixel": 2.0},
     {"short_side": {"p5": 1, "median": 270, "p95": 999}}],
)  # fmt: skip
def test_small_differences_need_no_word(after):
    assert pixels_notes({"found": told(**after), "made": told()}, ["found"], ["made"]) == []


def test_a_set_without_images_differs_in_nothing():
    looks = dict.fromkeys(("before", "after"), pl.Struct(LOOK_SCHEMA))
    pixels = {"none": summarize(pl.DataFrame(schema=looks)), "made": told()}
    assert pixels_notes(pixels, ["none"], ["made"]) == []
    assert cells(pixels_table(pixels), "none")[1:] == ["0", *[views.NONE] * 5]
    assert "in nothing; as they are trained on, in nothing" in pixels_sentence(pixels)
