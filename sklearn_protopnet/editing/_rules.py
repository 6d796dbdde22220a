"""Rules that find prototypes to do without.

Shapes: n images, P prototypes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._last_layer import Constraints
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet.editing._comparison import Comparison


def duplicates(
    record: PrototypeRecord, owners: NDArray[np.int64], constraints: Constraints
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find prototypes of one class with the same latent values.

    Parameters
    ----------
    record : PrototypeRecord
    owners : int64 array of shape (P,)
        Class indices.
    constraints : Constraints
        What is forbidden, merged or required has no part in it.

    Returns
    -------
    heirs, merged : int64 arrays of shape (d,)
        Prototypes that take weights over, and those that lose them.
    """
    keys = np.column_stack([owners, record.vectors.view(np.uint32)])  # (P, 1 + D1)
    groups = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    asked = np.concatenate([constraints.weightless, constraints.required])
    is_open = ~np.isin(np.arange(len(owners)), asked)
    heirs, merged = [], []
    for group in np.unique(groups):
        members = np.flatnonzero((groups == group) & is_open).tolist()
        heirs += members[:1] * (len(members) - 1)
        merged += members[1:]
    return np.array(heirs, dtype=np.int64), np.array(merged, dtype=np.int64)


def crowded_out(
    training: Comparison,
    owners: NDArray[np.int64],
    constraints: Constraints,
    n_nearest: int,
    min_same_class: int,
) -> NDArray[np.int64]:
    """Find prototypes whose nearest images are of other classes (Chen et al. 2019, supplement).

    Parameters
    ----------
    training : Comparison
    owners : int64 array of shape (P,)
        Class indices.
    constraints : Constraints
        What is required stays, and what has no weight is no matter.
    n_nearest, min_same_class : int

    Returns
    -------
    int64 array of shape (q,)
        Less the best one of each class of which none would be left: the one with most images of its
        class, and of those the one that they are nearest to.
    """
    present = training.given_weights > 0
    distances, labels = training.distances[present], training.labels[present]
    k = min(n_nearest, len(labels))
    nearest = np.argpartition(distances, k - 1, axis=0)[:k]  # (k, P)
    n_same = (labels[nearest] == owners).sum(0)  # (P,)
    numbers = np.arange(len(owners))
    is_open = ~np.isin(numbers, constraints.weightless)
    leaves = is_open & (n_same < min_same_class) & ~np.isin(numbers, constraints.required)
    away = np.take_along_axis(distances, nearest, 0).mean(0)  # (P,)
    for label in np.setdiff1d(owners[leaves], owners[is_open & ~leaves]):
        members = np.flatnonzero(leaves & (owners == label))
        leaves[members[np.lexsort((away[members], -n_same[members]))[0]]] = False
    return np.flatnonzero(leaves)
