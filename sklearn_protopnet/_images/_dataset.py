"""Labelled images, and the canonical order of those that a fit may depend on.

Shapes: n images, u distinct ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._images._source import ImageSource, Standardization
from sklearn_protopnet._images._store import Images


@dataclass(frozen=True)
class Dataset:
    """Images with their labels and weights, to train, to validate or to solve on."""

    source: ImageSource
    rows: NDArray[np.int64]
    """(n,) rows of the source's images."""
    labels: NDArray[np.int64]
    """(n,) class indices."""
    weights: NDArray[np.float64]
    """(n,) sample weights; of mean 1 in a canonical dataset."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.int64]) -> Dataset:
        """Part of the dataset, in canonical order again, its weights of mean 1 again."""
        index = np.sort(index)
        weights = self.weights[index]
        return Dataset(self.source, self.rows[index], self.labels[index], weights / weights.mean())

    def standardized(self, standardization: Standardization) -> Dataset:
        """Give the same images, standardised in this way."""
        return replace(self, source=ImageSource(self.source.images, standardization))

    def accuracy(self, predicted: NDArray[np.int64]) -> float:
        """Weighted share of predictions (n,) that are the labels."""
        return float(np.average(predicted == self.labels, weights=self.weights))


def unstandardized(images: Images) -> ImageSource:
    """Take images as they are, before anything is known of them."""
    n_channels = images.shape[2]
    return ImageSource(images, Standardization(np.zeros(n_channels), np.ones(n_channels)))


def canonical_dataset(
    source: ImageSource, labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> Dataset:
    """Drop images of weight 0, merge equal pairs of image and label, sort by label and digest.

    Then neither the order of the images nor the difference between repeating an image and
    weighting it can matter, to the last bit. Of equal images the first one stands for all.

    Parameters
    ----------
    source : ImageSource
        Of n images; equal ones have equal digests.
    labels : int64 array of shape (n,)
        Class indices.
    weights : float64 array of shape (n,)
        Non-negative, not all 0.

    Returns
    -------
    Dataset
        Of u images, with weights of mean 1.
    """
    kept = np.flatnonzero(weights > 0)
    low, high = source.images.survey.digests[kept].T  # (n,) each
    # Weights are a key too, so that those of equal images are always added in one order.
    order = np.lexsort((weights[kept], high, low, labels[kept]))
    kept = kept[order]
    keys = np.stack([labels[kept].astype(np.uint64), low[order], high[order]])  # (3, n)
    is_first = np.concatenate([[True], (keys[:, 1:] != keys[:, :-1]).any(0)])
    starts = np.flatnonzero(is_first)  # (u,)
    summed = np.add.reduceat(weights[kept], starts)
    return Dataset(
        source=source,
        rows=np.minimum.reduceat(kept, starts),
        labels=labels[kept][starts],
        weights=summed / summed.mean(),
    )
