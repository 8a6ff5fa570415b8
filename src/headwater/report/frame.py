"""What all pages share: one template language, one style, a security policy.

A page opens offline and loads nothing: its policy allows inline SVG, data addresses, the one style
sheet named by its digest and, where a page asks for one, the one script named by its own. Every
text from outside is escaped and freed of control characters.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from headwater.errors import plain


def render(
    template: str, *, styles: tuple[str, ...] = ("page.css",), script: str = "", **values: Any
) -> str:
    """Fill in a template that extends `frame.html`.

    Args:
        template: its file name in this package.
        styles: style sheets of this package, in order.
        script: a script of this package; most pages have none. It reads what it works on from the
            page, where all is escaped: nothing is ever filled into it.
        values: what the template shows.
    """
    style, code = "".join(map(_read, styles)), _read(script) if script else ""
    page = _environment().get_template(template)
    return page.render(
        style=Markup(style), digest=_digest(style), script=Markup(code),
        script_digest=_digest(code), **values,
    )  # fmt: skip


def _digest(text: str) -> str:
    """As a security policy names an inline style or script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return files("headwater.report").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Jinja with everything escaped, stripped of control characters, and nothing undefined."""
    return Environment(
        loader=PackageLoader("headwater.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )


def _clean(value: Any) -> Any:
    return plain(value) if type(value) is str else value
