"""The page of a report: pieces of HTML.

All that comes from the data is escaped here, once. Only one script and one style sheet may run in
the page, those whose digests it names, and nothing is loaded.

Shapes: P prototypes, L labels: the K classes first, then those that the classifier does not know.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._fitted import PrototypeRecord
from sklearn_protopnet._training import NO_SOURCE
from sklearn_protopnet.inspection._plot._canvas import (
    COLOURS,
    format_number,
    format_percent,
)
from sklearn_protopnet.inspection._report._pictures import data_uri, svg

MOST_CONFUSION_CLASSES: Final = 15
"""Labels up to which a confusion table is readable; beyond, the most frequent confusions are."""

MOST_CONFUSIONS: Final = 20

HEADINGS: Final = {
    "sample": ("Image", ""),
    "result": ("Result", "result"),
    "truth": ("True class", ""),
    "predicted": ("Predicted", ""),
    "probability": ("Probability", "number second"),
    "margin": ("Margin", "number second"),
}
"""Columns of the table of images by which it can be sorted: heading and class of its cells."""

OF_TRUTH: Final = ("result", "truth")
"""Columns that need labels."""


def head(title: str) -> str:
    """Begin the page."""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(_style())}'; "
        f"script-src '{_digest(_script())}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        '<svg id="svg" class="away" aria-hidden="true"></svg>\n'
        '<a class="skip" href="#images">Skip to the images</a>\n'
        f"<header><h1>{text(title)}</h1></header>\n"
        '<nav aria-label="Sections"><a href="#summary">Summary</a><a href="#prototypes">'
        'Prototypes</a><a href="#images">Images</a></nav>\n<main>\n'
    )


def summary(facts: dict[str, str], labels: list[str], counts: NDArray[np.int64] | None) -> str:
    """Say how good the classifier is, and how large.

    Parameters
    ----------
    facts : dict of str
    labels : list of L str
    counts : int64 array of shape (L, L), or None
        Images by true and predicted class.
    """
    entries = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items()
    )
    page = '<section id="summary" aria-labelledby="of-summary">\n<h2 id="of-summary">Summary</h2>\n'
    page += f'<dl class="facts">{entries}</dl>\n'
    if counts is not None:
        is_small = len(labels) <= MOST_CONFUSION_CLASSES
        page += _confusion_table(labels, counts) if is_small else _confusions(labels, counts)
    return f"{page}</section>\n"


def _confusion_table(labels: list[str], counts: NDArray[np.int64]) -> str:
    columns = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1))
    rows = np.flatnonzero(counts.any(axis=1))
    heading = "".join(f'<th scope="col" class="number">{label(labels[j])}</th>' for j in columns)
    lines = []
    for i in rows:
        cells = "".join(
            f'<td class="number{" wrong" if i != j and counts[i, j] else ""}">{counts[i, j]}</td>'
            for j in columns
        )
        lines.append(f'<tr><th scope="row">{label(labels[i])}</th>{cells}</tr>')
    caption = "Images by true class (rows) and predicted class (columns)"
    return _table("confusion", caption, f"<td></td>{heading}", lines)


def _confusions(labels: list[str], counts: NDArray[np.int64]) -> str:
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(k), len(counts)) for k in order if wrong.flat[k]]
    if not pairs:
        return "<p>No image is confused with another class.</p>\n"
    lines = [
        f"<tr><td>{label(labels[i])}</td><td>{label(labels[j])}</td>"
        f'<td class="number">{wrong[i, j]}</td></tr>'
        for i, j in pairs
    ]
    heading = '<th scope="col">True class</th><th scope="col">Predicted</th>'
    heading += '<th scope="col" class="number">Images</th>'
    return _table("confusion", "What is confused most often", heading, lines)


def _table(kind: str, caption: str, heading: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="scrolls" role="region" aria-label="{caption}" tabindex="0">'
        f'<table class="{kind}"><caption>{caption}</caption><thead><tr>{heading}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def gallery(
    record: PrototypeRecord,
    classes: NDArray[np.int64],
    labels: list[str],
    images: NDArray[Any],
    sizes: NDArray[np.int64],
    *,
    largest: int,
) -> Iterator[str]:
    """Show all prototypes, class by class.

    Parameters
    ----------
    record : PrototypeRecord
    classes : int64 array of shape (P,)
        Numbers of their labels.
    labels : list of L str
    images : array of shape (P, H, W, C)
    sizes : int64 array of shape (P, 2)
        Of the images as they were given, in whose pixels boxes are.
    largest : int
        Pixels of the longer side of an image, at most.

    Yields
    ------
    str
    """
    yield (
        '<section id="prototypes" aria-labelledby="of-prototypes">\n'
        '<h2 id="of-prototypes">Prototypes</h2>\n<p>What each class is recognised by. A prototype '
        "is the boxed part of a training image; its weight says how much a part that looks like "
        "it speaks for its class.</p>\n"
    )
    n_alike = record.n_duplicates  # (P,)
    for k in np.unique(classes):
        name = label(labels[k])
        yield f'<section class="class"><h3>Class {name}</h3>\n<ul class="gallery">\n'
        for j in np.flatnonzero(classes == k):
            weight = format_number(record.coef[k, j], 3)
            caption = f"<b>{j}</b>: weight {weight}"
            caption += f", same as {n_alike[j]} more" if n_alike[j] else ""
            if record.samples[j] == NO_SOURCE:
                picture = '<div class="none">no training image</div>'
            else:
                caption += f", training row {record.samples[j]}"
                seen = f"Training row {record.samples[j]} with the part that is prototype {j}."
                uri = data_uri(images[j], sizes[j], largest)
                picture = svg(uri, sizes[j], record.boxes[j], seen)
            yield (
                f'<li id="prototype-{j}"><figure>{picture}<figcaption>{caption}</figcaption>'
                "</figure></li>\n"
            )
        yield "</ul></section>\n"
    yield "</section>\n"


def images_section(first: Sequence[Sequence[Any]], labels: list[str], notes: list[str]) -> str:
    """Make the place where the script shows images, and a table for where there is no script.

    Parameters
    ----------
    first : sequence of rows
        The first ones that the script gets, as it gets them.
    labels : list of L str
    notes : list of str
        What is to be known of the images that are shown.
    """
    has_truth = first[0][2] >= 0
    keys = [key for key in HEADINGS if has_truth or key not in OF_TRUTH]
    heading = "".join(
        f'<th scope="col" class="{HEADINGS[key][1]}" data-key="{key}">'
        f'<button type="button">{HEADINGS[key][0]}</button></th>'
        for key in keys
    )
    said = "".join(f"<p>{text(note)}</p>\n" for note in notes)
    truth, wrong = (_TRUTH, _WRONG) if has_truth else ("", "")
    return (
        '<section id="images" aria-labelledby="of-images">\n<h2 id="of-images">Images</h2>\n'
        f"{said}<noscript><p>Without JavaScript these are the first images only.</p>\n"
        f"{_static_table(first, labels, keys)}</noscript>\n"
        '<div id="live" hidden>\n<div class="controls" role="search" aria-label="Choose images">\n'
        '<label>Image or class <input id="text" type="search" autocomplete="off"></label>\n'
        f"{truth}{_PREDICTED}{wrong}"
        '<button id="open" type="button">Open all on this page</button>\n'
        '<button id="close" type="button">Close all</button>\n</div>\n'
        '<p id="status" role="status" aria-live="polite"></p>\n'
        '<table id="table" aria-describedby="status"><caption>Open a row to see why. Headings '
        'sort.</caption><thead><tr><td class="thumbnail"></td>'
        f"{heading}</tr></thead><tbody></tbody></table>\n"
        '<div class="pager"><button id="before" type="button">Previous page</button>'
        '<span id="page"></span><button id="after" type="button">Next page</button></div>\n'
        "</div>\n</section>\n"
    )


_TRUTH: Final = (
    '<label>True class <select id="truth"><option value="">any</option></select></label>\n'
)
_PREDICTED: Final = (
    '<label>Predicted class <select id="predicted"><option value="">any</option></select></label>\n'
)
_WRONG: Final = (
    '<label class="beside"><input id="wrong" type="checkbox"> Wrong predictions only</label>\n'
)


def _static_table(first: Sequence[Sequence[Any]], labels: list[str], keys: list[str]) -> str:
    heading = "".join(f'<th scope="col">{HEADINGS[key][0]}</th>' for key in keys)
    lines = []
    for name, file, truth, predicted, probability, margin, *_ in first:
        cells = {
            "sample": label(name if file is None else f"{name} \N{MIDDLE DOT} {file}"),
            "result": "right" if truth == predicted else "wrong",
            "truth": label(labels[truth]),
            "predicted": label(labels[predicted]),
            "probability": format_percent(probability),
            "margin": format_number(margin),
        }
        lines.append(f"<tr>{''.join(f'<td>{cells[key]}</td>' for key in keys)}</tr>")
    return _table("first", "The first images", heading, lines)


def foot() -> str:
    """End what is seen, and start the script, before the images that it finds behind it."""
    return f"</main>\n<script>{_script()}</script>\n"


def end() -> str:
    """End the page."""
    return "</body>\n</html>\n"


def data_script(name: str, parts: Iterator[str]) -> Iterator[str]:
    """Put data, parts of JSON, where the script finds it; it cannot end the element."""
    yield f'<script type="application/json" id="{name}">'
    yield from parts
    yield "</script>\n"


def as_json(value: Any) -> str:
    """Write plain values as JSON that may stand within HTML: all in ASCII, and without ``<``."""
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def text(value: str) -> str:
    """Escape a text; what is no Unicode, as in some names of files, becomes a question mark."""
    return escape(value.encode("utf-8", "replace").decode("utf-8"))


def label(value: str) -> str:
    """Escape a label, whose direction shall not change that of what is around it."""
    return f"<bdi>{text(value)}</bdi>"


def _style() -> str:
    colours = "\n".join(
        f".box.c{i} {{ stroke: {colour}; }}\n"
        f".box-fill.c{i} {{ background: {colour}; fill: {colour}; }}"
        for i, colour in enumerate(COLOURS)
    )
    return f"{_resource('report.css')}\n{colours}\n"


def _script() -> str:
    return _resource("report.js")


def _resource(name: str) -> str:
    return files("sklearn_protopnet.inspection._report").joinpath(name).read_text(encoding="utf-8")


def _digest(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")
