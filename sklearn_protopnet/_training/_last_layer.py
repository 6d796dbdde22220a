"""Stage 3, the last layer, on similarities computed once.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._images import Dataset
from sklearn_protopnet._last_layer import (
    UNBOUNDED,
    Array,
    Constraints,
    LastLayer,
    Problem,
    off_class_mask,
    solve,
)
from sklearn_protopnet._network import Chunk, PrototypeNetwork, chunks_of_evidence
from sklearn_protopnet._ranks import Ranks
from sklearn_protopnet._training._history import NAN, HistoryRow
from sklearn_protopnet._training._projection import NO_SOURCE


@dataclass(frozen=True)
class Similarities:
    """Similarities of labelled images to the prototypes: all that a last layer depends on."""

    values: Array
    """(n, P)"""
    labels: NDArray[np.int64]
    """(n,) class indices."""
    weights: Array
    """(n,)"""

    def accuracy(self, coef: Array) -> float:
        """Weighted accuracy with the weights (K, P) of a last layer."""
        predicted = (self.values @ coef.T).argmax(1)
        return float(np.average(predicted == self.labels, weights=self.weights))

    def problem(
        self,
        prototype_classes: NDArray[np.int64],
        n_classes: int,
        *,
        l1_weight: float,
        l2_weight: float,
        constraints: Constraints | None,
    ) -> Problem:
        """Say what a last layer minimises.

        Parameters
        ----------
        prototype_classes : int64 array of shape (P,)
            Class indices.
        n_classes : int
        l1_weight, l2_weight : float
        constraints : Constraints or None
            Of an editor, if there was one.
        """
        bounds = UNBOUNDED
        if constraints is not None:
            bounds = constraints.bounds(prototype_classes, n_classes)
        return Problem(
            similarities=self.values,
            labels=self.labels,
            weights=self.weights,
            penalty_mask=off_class_mask(prototype_classes, n_classes),
            l1_weight=l1_weight,
            l2_weight=l2_weight,
            lower=bounds[0],
            upper=bounds[1],
        )


def dataset_similarities(
    network: PrototypeNetwork,
    maps: Iterable[Chunk],
    dataset: Dataset,
    sources: NDArray[np.int64] | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - a constant
) -> tuple[Similarities, Array]:
    """Compute the similarities of the images of a dataset.

    Parameters
    ----------
    network : PrototypeNetwork
    maps : iterable of Chunk
        Backbone maps of all images of the dataset, or of this process's part of them.
    dataset : Dataset
    sources : int64 array of shape (P,), default=None
        An image of the dataset for each prototype; none where negative, or with None.
    ranks : Ranks
        Processes that have a part each.

    Returns
    -------
    similarities : Similarities
    distances : float64 array of shape (P,)
        Of each prototype to its source; NaN where there is none.
    """
    n_prototypes = len(network.prototypes)
    values = np.zeros((len(dataset), n_prototypes))  # at once: parts would need twice that
    distances = np.zeros(n_prototypes)
    sources = np.full(n_prototypes, NO_SOURCE) if sources is None else sources
    coef = np.zeros((0, n_prototypes))  # no logits are asked for
    for index, evidence in chunks_of_evidence(network, maps, coef):
        values[index] = evidence.similarities
        here = np.flatnonzero(np.isin(sources, index))
        distances[here] = evidence.distances[sources[here] - index[0], here]
    ranks.add_up_arrays(values, distances)
    distances[sources == NO_SOURCE] = np.nan
    return Similarities(values, dataset.labels, dataset.weights), distances


@dataclass(frozen=True)
class LastLayerTask:
    """Everything that a last layer depends on, but for its penalties."""

    prototype_classes: NDArray[np.int64]
    """(P,) class indices."""
    coef: Array
    """(K, P) weights that the solved ones replace."""
    training: Similarities
    validation: Similarities | None
    row: HistoryRow
    """The row of the history to fill in."""
    constraints: Constraints | None = None
    """Of an editor, if there was one."""

    def solve(self, l1_weight: float, l2_weight: float) -> tuple[LastLayer, HistoryRow]:
        """Solve for the last layer, from zeros, and say what that did."""
        start = time.perf_counter()
        training, validation = self.training, self.validation
        last_layer = solve(
            training.problem(
                self.prototype_classes,
                len(self.coef),
                l1_weight=l1_weight,
                l2_weight=l2_weight,
                constraints=self.constraints,
            )
        )
        return last_layer, replace(
            self.row,
            seconds=self.row.seconds + time.perf_counter() - start,
            loss=last_layer.objective,
            accuracy_before=training.accuracy(self.coef),
            accuracy=training.accuracy(last_layer.coef),
            validation_accuracy=validation.accuracy(last_layer.coef) if validation else NAN,
            gap=last_layer.gap,
        )
