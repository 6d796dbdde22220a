"""How similar training images are to each prototype.

Shapes: n images, P prototypes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._training._last_layer import SeenImages

PERCENT: Final = 100
"""Quantiles are those of 0, 1, ..., 100 %."""


def similarity_quantiles(
    seen: SeenImages, prototype_classes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute quantiles of the similarities of images of the own and of other classes.

    Those of the inverted distribution function: each is the similarity of an image, and an image
    of weight 2 is the image twice.

    Parameters
    ----------
    seen : SeenImages
    prototype_classes : int64 array of shape (P,)

    Returns
    -------
    float64 array of shape (2, P, 101)
        Own class, other classes; NaN where there is no image.
    """
    quantiles = np.full((2, len(prototype_classes), PERCENT + 1), np.nan)
    for label in np.unique(prototype_classes):
        is_own = seen.labels == label
        prototypes = np.flatnonzero(prototype_classes == label)
        for i, rows in enumerate((is_own, ~is_own)):
            if rows.any():
                quantiles[i, prototypes] = _quantiles(
                    seen.similarities[np.ix_(rows, prototypes)], seen.weights[rows]
                )
    return quantiles


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles (P, 101) of values (n, P) with weights (n,)."""
    order = np.argsort(values, axis=0, kind="stable")  # (n, P)
    ranked = np.take_along_axis(values, order, axis=0)
    shares = np.cumsum(weights[order], axis=0)  # (n, P)
    levels = np.arange(PERCENT + 1) / PERCENT
    found = np.empty((values.shape[1], PERCENT + 1))
    for p, share in enumerate(shares.T):
        # A whole weight missing by rounding is no reason to go on to the next image.
        places = np.searchsorted(share, levels * share[-1] * (1 - 1e-12), side="left")
        found[p] = ranked[places, p]
    return found
