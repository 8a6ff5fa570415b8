"""The labelling page: pictures of a pool, one at a time, and the classes to choose from.

It opens offline and keeps the answers in the browser until they are saved as a CSV. `label.html`
lays it out, `label.js` asks; whatever that script works on stands escaped in the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from headwater.report.frame import render
from headwater.report.views import data_address
from headwater.store import digest_value

NONE = "(none of these)"  # the answer on a picture that shows no class of the task
SKIPPED = "(skipped)"

BUTTONS = 30  # classes that have a button each; of more, those used last have one


class Picture(NamedTuple):
    """What is shown of a pair: its id, its caption, and a small JPEG, PNG or WebP."""

    id: str
    caption: str
    image: bytes


def render_label(task: str, names: Mapping[str, str], pictures: Sequence[Picture]) -> str:
    """One self-contained HTML page; the same pictures give the same text.

    Args:
        task: its name.
        names: label -> display name, in the order of the classes.
        pictures: in the order they are shown.
    """
    known = digest_value([task, list(names), [each.id for each in pictures]])
    return render(
        "label.html",
        styles=("page.css", "label.css"),
        script="label.js",
        task=task,
        known=known[:16],
        buttons=len(names) if len(names) <= BUTTONS else 0,
        none_said=NONE,  # `none` means nothing to the template
        skip_said=SKIPPED,
        classes=[{"label": _exact(label), "name": name} for label, name in names.items()],
        pictures=[_shown(each) for each in pictures],
    )


def _shown(picture: Picture) -> dict[str, str]:
    address = Markup(data_address(picture.image))  # megabytes of base64 need no escape
    return {"id": _exact(picture.id), "caption": picture.caption, "address": address}


def _exact(text: str) -> Markup:
    """A text that the script reads back letter by letter, whatever characters it has."""
    return escape(json.dumps(text))
