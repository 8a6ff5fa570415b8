"""A matplotlib figure as SVG that belongs to the page: its colors are classes, its ids its own.

Colors become classes so that the page's style sheet gives them, in light and in dark; style
attributes become plain ones so that the page needs no inline styles in its security policy.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from headwater.errors import plain

INK, RULE, SHADE = "#000001", "#000002", "#000003"
SLOTS = 8
"""Colors the page knows for arms; `slot_color` gives each a stand-in."""

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_DROPPED = ("metadata", "style")


def slot_color(slot: int) -> str:
    """The stand-in for the page's color number `slot`, to hand to matplotlib.

    Example:
        >>> slot_color(1)
        '#0a0001'
    """
    return f"#0a00{slot % SLOTS:02x}"


CLASSES = {INK: "ink", RULE: "rule", SHADE: "shade"} | {
    slot_color(slot): f"c{slot}" for slot in range(SLOTS)
}


@contextmanager
def own_settings() -> Iterator[None]:
    """Matplotlib as this package draws, whatever the user's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "headwater",
                "font.size": 12,
                "text.color": INK,
                "axes.labelcolor": INK,
                "axes.edgecolor": RULE,
                "xtick.color": RULE,
                "ytick.color": RULE,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "text.parse_math": False,
            }
        )
        yield


def themed_svg(figure: Figure, *, name: str, label: str) -> str:
    """The figure as one inline SVG element; call within `own_settings`.

    Args:
        figure: drawn with INK, RULE, SHADE and `slot_color` only, at 72 dots per inch.
        name: unique on the page; it starts every id.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, dpi=72, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    _prune(root)
    used = set(re.findall(r"#(\w+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = _attributes(element.attrib, name, used)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib.update({"role": "img", "aria-label": plain(label)})
    return ElementTree.tostring(root, encoding="unicode")


def _prune(element: ElementTree.Element) -> None:
    """Drop what the page gives itself, and the blanks between elements."""
    for child in list(element):
        if child.tag.removeprefix(_SVG) in _DROPPED:
            element.remove(child)
            continue
        child.tail = None
        _prune(child)
    if element.text is not None and not element.text.strip():
        element.text = None


def _attributes(old: dict[str, str], name: str, used: set[str]) -> dict[str, str]:
    """Plain attributes and classes in place of style; ids told apart from other charts'."""
    new = {}
    classes = []
    for key, value in old.items():
        if key == "style":
            for prop, setting in _declarations(value):
                theme = CLASSES.get(setting)
                if theme and prop in ("fill", "stroke"):
                    classes.append(f"{prop}-{theme}")
                elif prop != "font-family":
                    new[prop] = setting
        elif key == "id":
            new |= {"id": f"{name}-{value}"} if value in used else {}
        elif key == f"{_XLINK}href":
            new["href"] = value.replace("#", f"#{name}-")
        elif key == "clip-path":
            new[key] = value.replace("#", f"#{name}-")
        else:
            new[key] = " ".join(value.split())
    return new | ({"class": " ".join(classes)} if classes else {})


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in style.split(";"):
        prop, colon, setting = declaration.partition(":")
        if colon:
            yield prop.strip(), setting.strip()
