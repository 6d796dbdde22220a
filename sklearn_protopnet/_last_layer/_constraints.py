"""What an expert asks of the last layer's weights.

Shapes: m prototypes, K classes, q forbidden prototypes, r required ones, c patches, images of H x W
pixels and C channels.
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
    merged: NDArray[np.int64]
    """Numbers of prototypes whose weights are 0 since another one has the same latent values."""
    required: NDArray[np.int64]
    """(r,) numbers of prototypes."""
    min_weights: Array
    """(r,) least weights of them to their own classes."""
    patch_images: NDArray[Any]
    """(c, H, W, C) images of patches that an expert objects to: a further training keeps away from
    them, whatever the prototypes become that they were."""
    patch_positions: NDArray[np.int64]
    """(c,) which patches of the images."""
    patch_prototypes: NDArray[np.int64]
    """(c,) numbers of the prototypes that they were."""

    @classmethod
    def none(cls, images: NDArray[Any]) -> Constraints:
        """Ask for nothing, of prototypes that are patches of images (m, H, W, C)."""
        nobody = np.zeros(0, dtype=np.int64)
        return cls(nobody, nobody, nobody, np.zeros(0), images[:0].copy(), nobody, nobody)

    def forbid(self, numbers: NDArray[np.int64]) -> Constraints:
        """Leave prototypes (q',) no weight."""
        _require_none(np.intersect1d(numbers, self.required), "forbidden", "required")
        return replace(
            self,
            forbidden=np.union1d(self.forbidden, numbers),
            merged=np.setdiff1d(self.merged, numbers),
        )

    def object_to(
        self, numbers: NDArray[np.int64], images: NDArray[Any], positions: NDArray[np.int64]
    ) -> Constraints:
        """Object to the patches (q', H, W, C) and (q',) that prototypes are; -1 for none."""
        asked = _keys(numbers, images, positions)
        known = self._keys
        is_new = (positions >= 0) & np.array([key not in known for key in asked], dtype=bool)
        return replace(
            self,
            patch_images=np.concatenate([self.patch_images, images[is_new]]),
            patch_positions=np.concatenate([self.patch_positions, positions[is_new]]),
            patch_prototypes=np.concatenate([self.patch_prototypes, numbers[is_new]]),
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

    def allow(
        self, numbers: NDArray[np.int64], images: NDArray[Any], positions: NDArray[np.int64]
    ) -> Constraints:
        """Ask nothing any more of prototypes, which are these patches now.

        What they were before a training remains objected to.
        """
        needed = ~np.isin(self.required, numbers)
        now = _keys(numbers, images, positions)
        kept = np.array([key not in now for key in self._keys], dtype=bool)
        return Constraints(
            np.setdiff1d(self.forbidden, numbers),
            np.setdiff1d(self.merged, numbers),
            self.required[needed],
            self.min_weights[needed],
            self.patch_images[kept],
            self.patch_positions[kept],
            self.patch_prototypes[kept],
        )

    @property
    def _keys(self) -> list[tuple[int, int, bytes]]:
        return _keys(self.patch_prototypes, self.patch_images, self.patch_positions)

    def merge(self, numbers: NDArray[np.int64]) -> Constraints:
        """Leave no weight to prototypes whose weights others have taken over."""
        return replace(self, merged=np.union1d(self.merged, numbers))

    @property
    def weightless(self) -> NDArray[np.int64]:
        """Numbers of prototypes whose weights are 0."""
        return np.concatenate([self.forbidden, self.merged])

    def of_each(self, n_prototypes: int) -> NDArray[np.str_]:
        """Say what is asked of each prototype, (m,): forbidden, merged, required, or nothing."""
        asked = np.full(n_prototypes, "", dtype="<U9")
        asked[self.forbidden] = "forbidden"
        asked[self.merged] = "merged"
        asked[self.required] = "required"
        return asked

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


def _keys(
    numbers: NDArray[np.int64], images: NDArray[Any], positions: NDArray[np.int64]
) -> list[tuple[int, int, bytes]]:
    """Give what tells patches of prototypes apart."""
    contents = (image.tobytes() for image in images)
    return list(zip(numbers.tolist(), positions.tolist(), contents, strict=True))
