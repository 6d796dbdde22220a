"""Images with their labels and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._training._canonical import TrainingSet


@dataclass(frozen=True)
class LabelledImages:
    """Images to train or to validate on."""

    source: ImageSource
    members: TrainingSet

    def __len__(self) -> int:
        return len(self.members)

    def batch(self, index: NDArray[np.int64]) -> Tensor:
        """Images at these positions of the set, (N, C, H, W)."""
        return self.source.batch(self.members.rows[index])

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """All images in chunks of one shape, with their positions in the set."""
        return self.source.chunks(self.members.rows)

    def accuracy(self, predicted: NDArray[np.int64]) -> float:
        """Weighted share of right predictions."""
        return weighted_accuracy(predicted, self.members.labels, self.members.weights)


def weighted_accuracy(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Weighted share of predictions that are the labels, (n,) each."""
    return float(np.average(predicted == labels, weights=weights))
