"""What an expert asks of the last layer's weights.

Shapes: m prototypes, K classes, q forbidden prototypes, r required ones, images of H x W pixels
and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

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
    forbidden_images: NDArray[Any]
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
    def none(cls, images: NDArray[Any]) -> Constraints:
        """Ask for nothing, of prototypes that are patches of images (m, H, W, C)."""
        nobody = np.zeros(0, dtype=np.int64)
        return cls(nobody, images[:0].copy(), nobody, nobody, nobody, np.zeros(0))

    def forbid(
        self, numbers: NDArray[np.int64], images: NDArray[Any], positions: NDArray[np.int64]
    ) -> Constraints:
        """Forbid prototypes (q',), which are these patches (q', H, W, C) and (q',)."""
        _require_none(np.intersect1d(numbers, self.required), "forbidden", "required")
        is_new = ~np.isin(numbers, self.forbidden)
        return replace(
            self,
            forbidden=np.concatenate([self.forbidden, numbers[is_new]]),
            forbidden_images=np.concatenate([self.forbidden_images, images[is_new]]),
            forbidden_positions=np.concatenate([self.forbidden_positions, positions[is_new]]),
            merged=np.setdiff1d(self.merged, numbers),
        )

    def require(self, numbers: NDArray[np.int64], min_weights: Array) -> Constraints:
        """Require weights of at least so much to the own classes of prototypes (r',)."""
        _require_none(np.intersect1d(numbers, self.weightless), "required", "forbidden or merged")
        others = ~np.isin(self.required, numbers)
        return replace(
            self,
            required=np.concatenate([self.required[others], numbers]),
            min_weights=np.concatenate([self.min_weights[others], min_weights]),
        )

    def allow(self, numbers: NDArray[np.int64]) -> Constraints:
        """Ask nothing any more of prototypes."""
        kept, needed = (~np.isin(each, numbers) for each in (self.forbidden, self.required))
        return Constraints(
            self.forbidden[kept],
            self.forbidden_images[kept],
            self.forbidden_positions[kept],
            np.setdiff1d(self.merged, numbers),
            self.required[needed],
            self.min_weights[needed],
        )

    def merge(self, numbers: NDArray[np.int64]) -> Constraints:
        """Leave no weight to prototypes whose weights others have taken over."""
        return replace(self, merged=np.union1d(self.merged, numbers))

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


def _require_none(numbers: NDArray[np.int64], asked: str, found: str) -> None:
    """Raise if what is asked of prototypes contradicts what was asked of them before."""
    if len(numbers):
        raise ValueError(
            f"Prototypes that are to be {asked} must not be {found}, got {numbers.tolist()}, which "
            "are. allow takes that back."
        )
