"""The canonical training set: what a fit may depend on, whatever the order of the rows.

Shapes: n rows; u distinct ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingSet:
    """Rows to train on, in canonical order."""

    rows: NDArray[np.int64]
    """(u,) rows of the user's X."""
    labels: NDArray[np.int64]
    """(u,) class indices."""
    weights: NDArray[np.float64]
    """(u,) sample weights, of mean 1."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.int64]) -> TrainingSet:
        """Part of the set, in canonical order again, its weights of mean 1 again."""
        index = np.sort(index)
        weights = self.weights[index]
        return TrainingSet(self.rows[index], self.labels[index], weights / weights.mean())


def canonical_training_set(
    digests: NDArray[np.uint64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> TrainingSet:
    """Drop rows of weight 0, merge equal pairs of row and label, sort by label and digest.

    Then neither the order of the rows nor the difference between repeating a row and
    weighting it can matter, to the last bit. Of equal rows the first one stands for all.

    Parameters
    ----------
    digests : uint64 array of shape (n, 2)
        Equal for equal rows only.
    labels : int64 array of shape (n,)
    weights : float64 array of shape (n,)
        Non-negative, not all 0.

    Returns
    -------
    TrainingSet
    """
    kept = np.flatnonzero(weights > 0)
    low, high = digests[kept].T  # (n,) each
    # Weights are a key too, so that those of equal rows are always added in one order.
    order = np.lexsort((weights[kept], high, low, labels[kept]))
    kept = kept[order]
    keys = np.stack([labels[kept].astype(np.uint64), low[order], high[order]])  # (3, n)
    is_first = np.concatenate([[True], (keys[:, 1:] != keys[:, :-1]).any(0)])
    starts = np.flatnonzero(is_first)  # (u,)
    summed = np.add.reduceat(weights[kept], starts)
    return TrainingSet(
        rows=np.minimum.reduceat(kept, starts),
        labels=labels[kept][starts],
        weights=summed / summed.mean(),
    )
