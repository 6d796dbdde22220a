"""What an expert asks of the last layer's weights.

Shapes: m prototypes, K classes, q forbidden prototypes, r required ones, images of H x W pixels
and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._last_layer._problem import Array

Bounds = tuple[Array | float, Array | float]
"""The least and the largest value of each weight, (K, m)."""

UNBOUNDED: Final[Bounds] = (-np.inf, np.inf)
"""Weights are free."""


@dataclass(frozen=True)
class Constraints:
    """Prototypes that may have no weight, and prototypes that must have some."""

    forbidden: NDArray[np.int64]
    """(q,) numbers of prototypes whose weights are 0."""
    forbidden_images: NDArray[np.generic]
    """(q, H, W, C) what they were patches of when they were forbidden; zeros for none."""
    forbidden_positions: NDArray[np.int64]
    """(q,) which patches, -1 for none."""
    merged: NDArray[np.int64]
    """Numbers of prototypes whose weights are 0 since another one has the same latent values."""
    required: NDArray[np.int64]
    """(r,) numbers of prototypes."""
    min_weights: Array
    """(r,) least weights of them to their own classes."""

    @classmethod
    def none(cls, images: NDArray[np.generic]) -> Constraints:
        """Ask for nothing, of prototypes that are patches of images (m, H, W, C)."""
        nobody = np.zeros(0, dtype=np.int64)
        return cls(nobody, images[:0].copy(), nobody, nobody, nobody, np.zeros(0))

    @property
    def weightless(self) -> NDArray[np.int64]:
        """Numbers of prototypes whose weights are 0."""
        return np.concatenate([self.forbidden, self.merged])

    def bounds(self, prototype_classes: NDArray[np.int64], n_classes: int) -> Bounds:
        """Give the least and the largest value of each weight.

        Parameters
        ----------
        prototype_classes : int64 array of shape (m,)
            Class indices.
        n_classes : int
        """
        if not (len(self.weightless) or len(self.required)):
            return UNBOUNDED
        shape = n_classes, len(prototype_classes)
        lower, upper = np.full(shape, -np.inf), np.full(shape, np.inf)
        lower[:, self.weightless] = upper[:, self.weightless] = 0.0
        lower[prototype_classes[self.required], self.required] = self.min_weights
        return lower, upper
