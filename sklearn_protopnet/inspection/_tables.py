"""Evidence as tables: why an image was classified, and what the prototypes are.

Shapes: n samples, P prototypes, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.extmath import softmax

from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet.inspection._rows import Explained

SCHEMA_VERSION: Final = 2
"""Readers of a table know by this number what its columns mean."""

EXPLANATION_COLUMNS: Final = (
    "sample",
    "class",
    "prototype",
    "prototype_class",
    "rank",
    "similarity",
    "distance",
    "weight",
    "contribution",
    "logit",
    "probability",
    "y0",
    "y1",
    "x0",
    "x1",
    "box_kind",
    "source_sample",
    "source_y0",
    "source_y1",
    "source_x0",
    "source_x1",
)
"""`explanation_columns` are these, in order; those of details follow."""

MEMBER: Final = "member"
"""A table of several networks has this column before ``prototype``."""

PROTOTYPE_COLUMNS: Final = (
    "prototype",
    "prototype_class",
    "source_sample",
    "source_y0",
    "source_y1",
    "source_x0",
    "source_x1",
    "distance",
    "n_duplicates",
    "box_kind",
)
"""`prototype_table` has these columns, in order; one ``weight_<class>`` for each class follows."""

SIMILARITY_UNIT: Final = "the network's similarity score"
"""All similarities are in this unit, whatever their function."""

LOGIT_UNIT: Final = "logit"
"""Contributions and margins are parts and differences of logits."""

UNITS: Final = {
    "distance": "squared L2 distance of latent patches",
    "similarity": SIMILARITY_UNIT,
    "contribution": LOGIT_UNIT,
    **dict.fromkeys(("y0", "y1", "x0", "x1"), "pixel, half-open"),
    **dict.fromkeys(("source_y0", "source_y1", "source_x0", "source_x1"), "pixel, half-open"),
}
"""Columns that several tables share have these units; those of details stand in their records."""


def explanation_columns(
    explained: Explained,
    labels: NDArray[Any],
    member: str | None = None,
    *,
    has_names: bool = False,
) -> dict[str, NDArray[Any]]:
    """Build the columns of a network: a row per sample, class and prototype, or per patch of them.

    Parameters
    ----------
    explained : Explained
        If all prototypes of all networks are there, contributions add up to the logit.
    labels : array of shape (K,)
    member : str, default=None
        The network's name in an ensemble.
    has_names : bool, default=False
        Whether a prototype of some network has a name.

    Returns
    -------
    dict of str to array of shape (rows,)
        `EXPLANATION_COLUMNS`, with `MEMBER` before the prototype in an ensemble.
    """
    evidence, located, sources = explained.evidence, explained.located, explained.sources
    rows = explained.rows
    sample, prototype = rows.sample, rows.prototype
    patch = sample, prototype, rows.patch
    weight = sources.coef[rows.class_, prototype]
    probabilities = softmax(evidence.logits)
    names = {} if member is None else {MEMBER: np.full(len(sample), member, dtype=object)}
    return {
        "sample": explained.samples[sample],
        "class": labels[rows.class_],
        **names,
        "prototype": prototype,
        "prototype_class": sources.classes[prototype],
        "rank": rows.rank,
        "similarity": evidence.similarities[sample, prototype],
        "distance": evidence.patch_distances[patch],
        "weight": weight,
        "contribution": weight * explained.shares,
        "logit": evidence.logits[sample, rows.class_],
        "probability": probabilities[sample, rows.class_],
        **box_columns(located.boxes[patch]),
        "box_kind": located.kinds[patch],
        **(name_column(sources, prototype) if has_names else {}),
        **source_columns(sources, prototype),
    }


def merge_columns(
    columns: Sequence[Mapping[str, NDArray[Any]]], places: Sequence[NDArray[np.int64]]
) -> dict[str, NDArray[Any]]:
    """Put rows of several networks in order.

    Parameters
    ----------
    columns : sequence of mappings of str to array of shape (rows, ...)
        The same columns for each network.
    places : sequence of int64 arrays of shape (rows,)
        `Rows.place` of each network.
    """
    if len(columns) == 1:  # in order already, and not to be copied
        return dict(columns[0])
    order = np.argsort(np.concatenate(places), kind="stable")
    return {name: np.concatenate([each[name] for each in columns])[order] for name in columns[0]}


def box_columns(boxes: NDArray[np.int64], prefix: str = "") -> dict[str, NDArray[np.int64]]:
    """Columns of the edges of boxes (rows, 4)."""
    names = (f"{prefix}{edge}" for edge in ("y0", "y1", "x0", "x1"))
    return dict(zip(names, boxes.T, strict=True))


def name_column(sources: PrototypeRecord, prototype: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Column of the names of prototypes (rows,)."""
    return {"name": sources.names[prototype].astype(object)}


def source_columns(
    sources: PrototypeRecord, prototype: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Columns of the training images and the patches that prototypes (rows,) are."""
    return {
        "source_sample": sources.samples[prototype],
        **box_columns(sources.boxes[prototype], "source_"),
    }


def prototype_table(
    sources: PrototypeRecord, box_kinds: NDArray[Any], labels: NDArray[Any]
) -> pd.DataFrame:
    """Build one row per prototype, with the training patch that it is.

    Parameters
    ----------
    sources : PrototypeRecord
    box_kinds : array of shape (P,)
    labels : array of shape (K,)

    Returns
    -------
    DataFrame
        With `PROTOTYPE_COLUMNS` and ``weight_<class>`` for each class.
    """
    prototypes = np.arange(len(sources.classes))
    columns = {
        "prototype": prototypes,
        "prototype_class": sources.classes,
        **(name_column(sources, prototypes) if sources.has_names else {}),
        **source_columns(sources, prototypes),
        "distance": sources.distances,
        "n_duplicates": sources.n_duplicates,
        "box_kind": box_kinds,
    }
    weights = {f"weight_{label}": row for label, row in zip(labels, sources.coef, strict=True)}
    return build_table({**columns, **weights}, "prototype")


def member_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the tables of prototypes of several networks, by their names, below each other.

    Returns
    -------
    DataFrame
        With `MEMBER` before all columns of `prototype_table`.
    """
    names = np.array(list(tables), dtype=object).repeat([len(each) for each in tables.values()])
    together = pd.concat(list(tables.values()))
    order = max(tables.values(), key=lambda table: table.shape[1])  # names, if any member has some
    columns = {str(name): together[name].to_numpy() for name in order}
    if "name" in columns:
        columns["name"] = together["name"].fillna("").to_numpy()
    return build_table({MEMBER: names, **columns}, "prototype")


def history_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Build one row per stage and epoch.

    Parameters
    ----------
    rows : sequence of dict
        What the training recorded.

    Returns
    -------
    DataFrame
    """
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return build_table(columns, "history", {"seconds": "s"})


def build_table(
    columns: dict[str, Any],
    schema: str,
    units: Mapping[str, str] = UNITS,
    *,
    copy: bool = True,
) -> pd.DataFrame:
    """Build a table whose `attrs` hold its schema and the units of its columns.

    Parameters
    ----------
    columns : dict of str to array of shape (rows,)
    schema : str
        Name of the schema, without the package.
    units : mapping of str to str, default=UNITS
        Units of columns; those that the table does not have are passed over.
    copy : bool, default=True
        Without a copy the table takes the arrays as they are, which must then be nobody else's.
    """
    table = pd.DataFrame(columns, copy=copy)
    table.attrs["schema"] = f"sklearn_protopnet.{schema}"
    table.attrs["schema_version"] = SCHEMA_VERSION
    table.attrs["units"] = {name: unit for name, unit in units.items() if name in columns}
    return table
