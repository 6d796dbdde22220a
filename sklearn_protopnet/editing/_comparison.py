"""The images that an editor solves the last layer for, compared with the prototypes.

Shapes: n images, P prototypes, Q new ones, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._training import Similarities
from sklearn_protopnet._validation import check_two_classes, effective_weights, scaled_weights


@dataclass(frozen=True, eq=False)
class Comparison:
    """Labelled images, and how similar they are to the prototypes."""

    sources: tuple[ImageSource, ...]
    """Which images, those that came later behind the others."""
    labels: NDArray[np.int64]
    """(n,) class indices."""
    given_weights: NDArray[np.float64]
    """(n,) weights of the images, as they were given."""
    similarities: NDArray[np.float64]
    """(n, P)"""
    distances: NDArray[np.float64]
    """(n, P) of each prototype to the nearest patch."""

    @classmethod
    def of(
        cls,
        fitted: FittedNetwork,
        source: ImageSource,
        labels: NDArray[np.int64],
        sample_weight: ArrayLike | None = None,
    ) -> Comparison:
        """Compare labelled images (n,) with the prototypes."""
        scaled_weights(sample_weight, labels)  # which checks them
        given = np.asarray(1.0 if sample_weight is None else sample_weight, float)
        weights = np.broadcast_to(given, len(labels)).copy()
        return cls((source,), labels, weights, *fitted.gather(source, "similarities", "distances"))

    def __len__(self) -> int:
        return len(self.labels)

    def weighted(self, class_weight: Any, classes: NDArray[Any]) -> Similarities:
        """Give what a last layer depends on, with weights of the classes."""
        weights = effective_weights(self.given_weights, class_weight, classes, self.labels)
        return Similarities(self.similarities, self.labels, weights)

    def check_present(self, class_weight: Any, classes: NDArray[Any]) -> NDArray[np.int64]:
        """Give the class indices of images that count, ascending, if there are two or more."""
        weights = self.weighted(class_weight, classes).weights
        present = np.unique(self.labels[weights > 0])
        check_two_classes(classes, present)
        return present

    def predicted(self, coef: NDArray[np.float64]) -> NDArray[np.int64]:
        """Class indices (n,) that the weights (K, P) of a last layer lead to."""
        predicted: NDArray[np.int64] = (self.similarities @ coef.T).argmax(1)
        return predicted

    def score(self, predicted: NDArray[np.int64], n_first: int | None = None) -> float:
        """Accuracy of predictions (n,), weighted, of all images or of the first so many."""
        weights = scaled_weights(self.given_weights, self.labels)
        is_right = predicted == self.labels
        return float(np.average(is_right[:n_first], weights=weights[:n_first]))

    def columns(
        self, fitted: FittedNetwork, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Similarities and distances (n, Q) to other patches (Q, D1)."""
        other = fitted.comparing(vectors)
        found = [other.gather(source, "similarities", "distances") for source in self.sources]
        similarities, distances = (np.concatenate(each) for each in zip(*found, strict=True))
        return similarities, distances

    def with_columns(
        self, similarities: NDArray[np.float64], distances: NDArray[np.float64]
    ) -> Comparison:
        """Add what new prototypes (n, Q) are to the images."""
        return replace(
            self,
            similarities=np.hstack([self.similarities, similarities]),
            distances=np.hstack([self.distances, distances]),
        )

    def with_images(self, more: Comparison) -> Comparison:
        """Add images behind these."""
        return Comparison(
            (*self.sources, *more.sources),
            np.concatenate([self.labels, more.labels]),
            np.concatenate([self.given_weights, more.given_weights]),
            np.concatenate([self.similarities, more.similarities]),
            np.concatenate([self.distances, more.distances]),
        )

    def with_labels(self, labels: NDArray[np.int64]) -> Comparison:
        """Count classes anew: each label (K,) is what it becomes."""
        return replace(self, labels=labels[self.labels])

    def image(self, row: int) -> tuple[ImageSource, int]:
        """Find an image: its source, which has that one only, and its row there."""
        for source in self.sources:
            if row < len(source):
                return source.part(slice(row, row + 1)), row
            row -= len(source)
        raise IndexError(row)
