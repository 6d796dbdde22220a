"""Similarities: what becomes of the distance between a patch and a prototype.

To add one, write a function of squared distances and register its record; nothing else names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

EPSILON: Final = 1e-4
"""The paper's eps bounds the log similarity by log(1 + 1 / eps) = 9.2104."""


@dataclass(frozen=True)
class Similarity:
    """A similarity and all that the rest needs to know of it."""

    name: str
    function: Callable[[Tensor], Tensor]
    """Maps squared L2 distances to similarities; it decreases, since the nearest patch of an image
    stands for the image."""
    range: tuple[float, float]
    """Smallest and largest value, either of which may be infinite."""
    on_unit_vectors: bool
    """Whether patches and prototypes are scaled to length 1 before they are compared."""
    description: str
    """Says for the documentation what it is, of a squared distance d."""


def log_similarity(distances: Tensor) -> Tensor:
    """``log((d + 1) / (d + eps))`` of squared distances d (Chen et al. 2019, section 2.1)."""
    return torch.log((distances + 1) / (distances + EPSILON))


def linear_similarity(distances: Tensor) -> Tensor:
    """``-d`` of squared distances d."""
    return -distances


def cosine_similarity(distances: Tensor) -> Tensor:
    """``1 - d / 2``: the cosine of two *unit* vectors at squared distance d."""
    return 1 - distances / 2


SIMILARITIES: Final[dict[str, Similarity]] = {
    each.name: each
    for each in (
        Similarity(
            name="log",
            function=log_similarity,
            range=(0.0, math.log1p(1 / EPSILON)),
            on_unit_vectors=False,
            description="``log((d + 1) / (d + 1e-4))``, as in the paper",
        ),
        Similarity(
            name="linear",
            function=linear_similarity,
            range=(-math.inf, 0.0),
            on_unit_vectors=False,
            description="``-d``",
        ),
        Similarity(
            name="cosine",
            function=cosine_similarity,
            range=(-1.0, 1.0),
            on_unit_vectors=True,
            description="``1 - d / 2`` of unit vectors, which is the cosine of the angle",
        ),
    )
}
"""The registry holds every similarity by its name."""
