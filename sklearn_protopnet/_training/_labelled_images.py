"""Images with their labels and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._training._canonical import TrainingSet


@dataclass(frozen=True)
class LabelledImages:
    """Images to train or to validate on."""

    source: ImageSource
    members: TrainingSet

    def __len__(self) -> int:
        return len(self.members)

    def accuracy(self, predicted: NDArray[np.int64]) -> float:
        """Weighted share of right predictions."""
        return weighted_accuracy(predicted, self.members.labels, self.members.weights)


def weighted_accuracy(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Weighted share of predictions that are the labels, (n,) each."""
    return float(np.average(predicted == labels, weights=weights))
