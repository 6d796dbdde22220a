"""What is known of the prototypes of a fit.

Shapes: P prototypes of D1 = D H1 W1 numbers, K classes, images of H x W pixels and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._training import NO_SOURCE


@dataclass(frozen=True)
class PrototypeRecord:
    """What is known of every prototype; one entry per prototype."""

    classes: NDArray[Any]
    """(P,) labels."""
    coef: NDArray[np.float64]
    """(K, P) weights of the last layer."""
    vectors: NDArray[np.float32]
    """(P, D1)"""
    samples: NDArray[np.int64]
    """(P,) rows of the training X, `NO_SOURCE` of prototypes that are no patch."""
    boxes: NDArray[np.int64]
    """(P, 4) source patches in pixels of the images as they were given."""
    distances: NDArray[np.float64]
    """(P,) distance to the source patch."""
    images: NDArray[Any]
    """(P, H, W, C) source images as the network takes them, but not standardised."""
    sizes: NDArray[np.int64]
    """(P, 2) height and width of the source images as they were given."""
    quantiles: NDArray[np.float64]
    """(2, P, 101) of the similarities of training images, of the own class and of others."""
    names: NDArray[np.str_]
    """(P,) what an expert calls them; empty for no name."""
    constraints: NDArray[np.str_]
    """(P,) what an expert asks of them, as `Constraints.of_each` says it; empty for nothing."""

    @property
    def n_duplicates(self) -> NDArray[np.int64]:
        """Other prototypes with the same latent values, (P,)."""
        _, group, sizes = np.unique(self.vectors, axis=0, return_inverse=True, return_counts=True)
        others: NDArray[np.int64] = sizes[group.ravel()] - 1
        return others

    @property
    def has_names(self) -> bool:
        """Whether any has a name."""
        return bool((self.names != "").any())

    @property
    def has_source(self) -> NDArray[np.bool_]:
        """Whether a prototype is a patch of a training image, (P,)."""
        has_source: NDArray[np.bool_] = self.samples != NO_SOURCE
        return has_source
