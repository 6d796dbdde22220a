"""The page of a report as HTML, piece by piece, from its templates."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps

from sklearn_protopnet.inspection._pictures import COLOURS, format_number, format_percent

SCRIPTS: Final = ("report.js", "choice.js")
"""The page runs these, as one, since its policy allows code by a digest."""


def page_pieces(content: Mapping[str, Any]) -> Iterator[str]:
    """Write the page, as its content comes.

    Parameters
    ----------
    content : mapping of str
        What `report.html.jinja` names. Iterators are used as the page is written.

    Yields
    ------
    str
    """
    loader = PackageLoader("sklearn_protopnet.inspection._report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        digest=_digest, json=as_json, number=format_number, percent=format_percent
    )
    style = environment.get_template("report.css.jinja").render(colours=COLOURS)
    script = "".join(loader.get_source(environment, name)[0] for name in SCRIPTS)
    page = environment.get_template("report.html.jinja")
    yield from page.generate(content, style=style, script=script)


def as_json(value: Any) -> str:
    """Write plain values as JSON that may stand within HTML: all in ASCII, and without ``<``."""
    return htmlsafe_json_dumps(value, allow_nan=False, separators=(",", ":"))


def _digest(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
