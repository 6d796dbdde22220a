"""Tables of an editor: its log, and what forbidding prototypes would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_protopnet._edits import EditRow
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet.editing._costs import Cost
from sklearn_protopnet.editing._snapshot import Snapshot
from sklearn_protopnet.inspection._tables import build_table, name_column

LOG_COLUMNS: Final = ("edit", *(each.name for each in fields(EditRow)))
"""`log_table` has these columns, in order."""

COST_COLUMNS: Final = (
    "prototype",
    "prototype_class",
    "objective_lower",
    "objective_upper",
    "increase_lower",
    "increase_upper",
    "train_score",
    "validation_score",
    "n_changed",
    "is_last",
    "can_go",
)
"""`costs_table` has these columns, in order; ``name`` follows ``prototype_class`` once there are
names."""


def log_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Build one row per edit.

    Parameters
    ----------
    rows : sequence of dict
        `EditRow` as dicts.
    """
    columns: dict[str, Any] = {"edit": np.arange(1, len(rows) + 1)}
    for name in LOG_COLUMNS[1:]:
        columns[name] = [row[name] for row in rows]
    columns["prototypes"] = [tuple(numbers) for numbers in columns["prototypes"]]
    return build_table(columns, "edits")


def costs_table(snapshot: Snapshot, found: Sequence[Cost]) -> pd.DataFrame:
    """Build one row per prototype.

    Parameters
    ----------
    snapshot : Snapshot
    found : sequence of Cost
    """
    numbers = np.array([each.prototype for each in found], dtype=np.int64)
    columns: dict[str, Any] = {
        name: [getattr(each, name) for each in found] for name in COST_COLUMNS[2:]
    }
    columns["can_go"] = pd.array(columns["can_go"], dtype="boolean")
    return build_table({**_identity(snapshot.fitted.prototypes, numbers), **columns}, "costs")


def constraints_table(snapshot: Snapshot) -> pd.DataFrame:
    """Build one row per prototype that something was asked of."""
    asked, record = snapshot.constraints, snapshot.fitted.prototypes
    kinds = asked.of_each(len(record.samples))
    numbers = np.flatnonzero(kinds)
    weights = np.full(len(kinds), np.nan)
    weights[asked.required] = asked.min_weights
    columns: dict[str, Any] = {
        **_identity(record, numbers),
        "constraint": kinds[numbers].astype(object),
        "min_weight": weights[numbers],
    }
    return build_table(columns, "constraints")


def _identity(record: PrototypeRecord, numbers: NDArray[np.int64]) -> dict[str, Any]:
    identity = {"prototype": numbers, "prototype_class": record.classes[numbers]}
    return identity | (name_column(record, numbers) if record.has_names else {})
