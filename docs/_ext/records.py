"""A directive for tables that are read off the registries: a new record appears by itself."""

import math
import re
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sphinx.util.docutils import SphinxDirective

from sklearn_protopnet._images._forms import INPUT_FORMS
from sklearn_protopnet._network._backbones import BACKBONES
from sklearn_protopnet._network._similarity import SIMILARITIES
from sklearn_protopnet.inspection._details import DETAILS
from sklearn_protopnet.inspection._localizers import LOCALIZERS
from sklearn_protopnet.metrics._report._column import ARGUMENTS
from sklearn_protopnet.metrics._report._columns import COLUMNS


def code(text: object) -> str:
    return f"``{text}``"


def name(text: str) -> str:
    return code(f'"{text}"')


def bound(value: float) -> str:
    if math.isinf(value):
        return r"\ :math:`-\infty`" if value < 0 else r"\ :math:`\infty`"
    return f"{value:.4g}"


def similarities() -> Iterator[Iterable[str]]:
    yield "similarity", "of a squared distance d", "smallest and largest"
    for each in SIMILARITIES.values():
        low, high = each.range
        yield name(each.name), each.description, f"{bound(low)}, {bound(high)}"


def localizers() -> Iterator[Iterable[str]]:
    yield "localizer", "what it does", "passes of the network"
    for each in LOCALIZERS.values():
        yield name(each.name), each.description, each.cost


def backbones() -> Iterator[Iterable[str]]:
    yield "backbone", "channels of images", '``weights="imagenet"``'
    alike: dict[tuple[str, str], list[str]] = {}
    for each in BACKBONES.values():
        published = "" if each.channels is None else f"; published for {each.channels}"
        channels = f"any number{published}"
        weights = "no" if each.weights is None else "yes"
        alike.setdefault((channels, weights), []).append(name(each.name))
    for (channels, weights), names in alike.items():
        yield ", ".join(names), channels, weights


def input_forms() -> Iterator[Iterable[str]]:
    yield "``X``", "an image"
    for each in INPUT_FORMS:
        yield each.name, each.image


def details() -> Iterator[Iterable[str]]:
    yield "group", "columns", "what they say"
    for each in DETAILS.values():
        yield name(each.name), ", ".join(map(code, each.columns)), each.description


def report_columns() -> Iterator[Iterable[str]]:
    yield "column", "group or argument", "better", "passes of the network"
    for each in COLUMNS.values():
        needs = (code(need) if need in ARGUMENTS else name(need) for need in each.needs)
        yield code(each.name), ", ".join(needs), each.better or "", each.cost or ""


def tools() -> Iterator[Iterable[str]]:
    """Forms that all tools take alike share a column."""
    tests = Path(__file__).parents[2] / "tests"
    records = runpy.run_path(str(tests / "tools_table.py"))
    alike: dict[tuple[str, ...], list[str]] = {}
    for form in records["FORMS"]:
        answers = tuple(taken(tool, form) for tool in records["TOOLS"])
        alike.setdefault(answers, []).append(form)
    yield "tool", *map(", ".join, alike.values())
    for tool, *answers in zip(records["TOOLS"], *alike, strict=True):
        tools_name, comma, way = tool.name.partition(",")
        way = re.sub(r"\w*(?:_|[a-z][A-Z])\w*", lambda word: code(word[0]), way)
        yield code(tools_name) + comma + way, *answers


def taken(tool: Any, form: str) -> str:
    if form in tool.refuses:
        return "refused by scikit-learn"
    return "yes, with a warning" if form in tool.warns else "yes"


TABLES = {
    "similarities": similarities,
    "backbones": backbones,
    "localizers": localizers,
    "input_forms": input_forms,
    "details": details,
    "report_columns": report_columns,
    "tools": tools,
}


class Records(SphinxDirective):
    """``.. records:: similarities`` is the table of what is registered."""

    required_arguments = 1

    def run(self):
        heading, *rows = TABLES[self.arguments[0]]()
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in (heading, *rows):
            cells = [re.sub(r"\s+", " ", cell).strip() for cell in row]
            lines += [f"   {'  -' if i else '* -'} {cell}" for i, cell in enumerate(cells)]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app):
    app.add_directive("records", Records)
    return {"parallel_read_safe": True}
