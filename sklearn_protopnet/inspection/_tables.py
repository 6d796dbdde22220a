"""Evidence as tables: why an image was classified, and what the prototypes are.

Shapes: n samples, P prototypes, K classes, k classes explained per sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.extmath import softmax

from sklearn_protopnet._located_boxes import LocatedBoxes
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._prototype_record import PrototypeRecord

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
"""`explanation_table` has these columns, in order; those of details follow."""

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


def ranked_prototypes(
    coef: NDArray[np.float64],
    similarities: NDArray[np.float64],
    explained: NDArray[np.int64],
    top_k: int | None,
) -> NDArray[np.int64]:
    """Order prototypes by what they contribute, the largest first.

    Parameters
    ----------
    coef : float64 array of shape (K, P)
    similarities : float64 array of shape (n, P)
    explained : int64 array of shape (n, k)
        Class indices to explain.
    top_k : int or None
        How many to keep; None for all.

    Returns
    -------
    int64 array of shape (n, k, min(top_k, P))
    """
    contributions = coef[explained] * similarities[:, None, :]  # (n, k, P)
    ranked: NDArray[np.int64] = np.argsort(-contributions, axis=2, kind="stable")[:, :, :top_k]
    return ranked


@dataclass(frozen=True)
class Rows:
    """What each row of an explanation is about."""

    sample: NDArray[np.int64]
    class_: NDArray[np.int64]
    """Class indices."""
    prototype: NDArray[np.int64]
    rank: NDArray[np.int64]
    patch: NDArray[np.int64]
    """Which of the pooled patches, 0 for the most similar one."""

    @classmethod
    def of(
        cls, explained: NDArray[np.int64], ranked: NDArray[np.int64], n_patches: int = 1
    ) -> Rows:
        """Lay out rows by sample, class, rank and patch.

        Parameters
        ----------
        explained : int64 array of shape (n, k)
            Class indices to explain.
        ranked : int64 array of shape (n, k, rows)
            `ranked_prototypes` of them.
        n_patches : int, default=1
            Rows of each prototype.
        """
        shape = (*ranked.shape, n_patches)
        sample, _, rank, patch = np.indices(shape, sparse=True)

        def spread(values: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.broadcast_to(values, shape).ravel()

        return cls(
            sample=spread(sample),
            class_=spread(explained[:, :, None, None]),
            prototype=spread(ranked[:, :, :, None]),
            rank=spread(rank + 1),
            patch=spread(patch),
        )


@dataclass(frozen=True)
class Explained:
    """What a table of explanations is made of."""

    evidence: Evidence
    """Of n images."""
    located: LocatedBoxes
    """(n, P, k) of the k patches that have a row each."""
    sources: PrototypeRecord
    samples: NDArray[Any]
    """(n,) names of the images."""
    rows: Rows

    @property
    def patch_similarities(self) -> NDArray[np.float64]:
        """Similarity of the patch of each row, (rows,)."""
        rows = self.rows
        return self.evidence.patch_similarities[rows.sample, rows.prototype, rows.patch]

    @property
    def shares(self) -> NDArray[np.float64]:
        """What the patch of each row adds to the similarity, (rows,).

        All of it where the others have no rows.
        """
        n_pooled = self.evidence.patch_similarities.shape[2]
        if self.located.kinds.shape[2] < n_pooled:
            return self.evidence.similarities[self.rows.sample, self.rows.prototype]
        shares: NDArray[np.float64] = self.patch_similarities / n_pooled
        return shares


def explanation_table(
    explained: Explained,
    labels: NDArray[Any],
    details: Mapping[str, NDArray[Any]] | None = None,
    units: Mapping[str, str] = UNITS,
) -> pd.DataFrame:
    """Build one row per sample, class and prototype, by rank within a sample and class.

    Or one per patch of them.

    Parameters
    ----------
    explained : Explained
        If all prototypes are there, contributions add up to the logit.
    labels : array of shape (K,)
    details : mapping of str to array of shape (rows,), default=None
        Columns that follow.
    units : mapping of str to str, default=UNITS
        Units of columns; those that the table does not have are passed over.

    Returns
    -------
    DataFrame
        With `EXPLANATION_COLUMNS`.
    """
    evidence, located, sources = explained.evidence, explained.located, explained.sources
    rows = explained.rows
    sample, prototype = rows.sample, rows.prototype
    patch = sample, prototype, rows.patch
    weight = sources.coef[rows.class_, prototype]
    probabilities = softmax(evidence.logits)
    columns = {
        "sample": explained.samples[sample],
        "class": labels[rows.class_],
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
        **source_columns(sources, prototype),
        **(details or {}),
    }
    # Without a copy: the arrays are this table's own.
    return build_table(columns, "explanation", units, copy=False)


def box_columns(boxes: NDArray[np.int64], prefix: str = "") -> dict[str, NDArray[np.int64]]:
    """Columns of the edges of boxes (rows, 4)."""
    names = (f"{prefix}{edge}" for edge in ("y0", "y1", "x0", "x1"))
    return dict(zip(names, boxes.T, strict=True))


def source_columns(
    sources: PrototypeRecord, prototype: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Columns of the training images and the patches that prototypes (rows,) are.

    And of their names, once any has one.
    """
    has_names = (sources.names != "").any()
    return {
        **({"name": sources.names[prototype].astype(object)} if has_names else {}),
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
        **source_columns(sources, prototypes),
        "distance": sources.distances,
        "n_duplicates": sources.n_duplicates,
        "box_kind": box_kinds,
    }
    weights = {f"weight_{label}": row for label, row in zip(labels, sources.coef, strict=True)}
    return build_table({**columns, **weights}, "prototype")


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
