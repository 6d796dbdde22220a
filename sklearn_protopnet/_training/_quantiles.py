"""How similar training images are to each prototype.

Shapes: n images, P prototypes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._training._last_layer import Similarities

N_QUANTILES: Final = 101
"""There are so many quantiles: of 0, 1, ..., 100 %."""

LEVELS: Final = np.arange(N_QUANTILES) / (N_QUANTILES - 1) * (1 - 1e-12)
"""Quantiles are taken at these levels, less what rounding may take from a sum of weights: a whole
weight that is missing by that is no reason to go on to the next image."""


def similarity_quantiles(
    similarities: Similarities, prototype_classes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute quantiles of the similarities of images of the own and of other classes.

    Those of the inverted distribution function: each is the similarity of an image, and an image
    of weight 2 is the image twice.

    Parameters
    ----------
    similarities : Similarities
    prototype_classes : int64 array of shape (P,)

    Returns
    -------
    float64 array of shape (2, P, 101)
        Own class, other classes; NaN where there is no image.
    """
    quantiles = np.full((2, len(prototype_classes), N_QUANTILES), np.nan)
    for label in np.unique(prototype_classes):
        is_own = similarities.labels == label
        prototypes = np.flatnonzero(prototype_classes == label)
        for i, rows in enumerate((is_own, ~is_own)):
            if rows.any():
                values = similarities.values[np.ix_(rows, prototypes)]
                weights = similarities.weights[rows]
                quantiles[i, prototypes] = np.quantile(
                    values, LEVELS, axis=0, weights=weights, method="inverted_cdf"
                ).T
    return quantiles
