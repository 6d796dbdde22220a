"""Boxes around the patches of images that prototypes are compared with.

Shapes: n images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RECEPTIVE_FIELD: Final = "receptive_field"
WIDE: Final = "wide_receptive_field"
WHOLE: Final = "whole_image"
"""A box is called by one of these where it holds all pixels that a patch depends on."""


@dataclass(frozen=True)
class LocatedBoxes:
    """Where patches are that prototypes are compared with; arrays may be changed."""

    boxes: NDArray[np.int64]
    """(..., 4) ``y0, y1, x0, x1``, half-open, in pixels of the images as they were given."""
    kinds: NDArray[Any]
    """(...) what each box is: how it was found, or how much of the image it is."""
    effects: NDArray[np.float64]
    """(..., 2) similarity without what is outside of the box, and without what is inside; NaN where
    that was not measured."""
    deltas: NDArray[np.float64]
    """(...) by how much the map that a box was made from misses the sum that it should have; NaN
    where there is no such sum."""

    @classmethod
    def of_receptive_fields(
        cls, boxes: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> LocatedBoxes:
        """Say of receptive fields whether they are parts of images.

        Parameters
        ----------
        boxes : int64 array of shape (n, ..., 4)
        sizes : int64 array of shape (n, 2)
            Height and width of the images.
        """
        shape = boxes.shape[:-1]
        areas = (boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])  # (n, ...)
        images = sizes.prod(1).reshape(-1, *[1] * (areas.ndim - 1))
        names = np.array([RECEPTIVE_FIELD, WIDE, WHOLE], dtype=object)
        kinds = names[(2 * areas >= images).astype(int) + (areas == images)]
        return cls(boxes, kinds, np.full((*shape, 2), np.nan), np.full(shape, np.nan))
