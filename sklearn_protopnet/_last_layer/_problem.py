"""What the last layer minimises, its derivatives, and the certificate.

Shapes: n images, m prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Weights of the last layer, and what the images make of them."""

    coef: Array
    """(K, m)"""
    logits: Array
    """(K, n): one row for each class, which NumPy reduces faster than one for each image."""

    @cached_property
    def probabilities(self) -> Array:
        """Softmax of the logits, (K, n)."""
        powers = np.exp(self.logits - self.logits.max(0))  # (K, n)
        probabilities: Array = powers / powers.sum(0)
        return probabilities


@dataclass(frozen=True)
class Problem:
    """``sum_i w_i CrsEnt(W s_i, y_i) + l1 sum_kj mask_kj |W_kj| + l2 / 2 |W|^2``.

    Stage 3 of the paper (Chen et al. 2019, section 2.2) where the mask is true for pairs of
    class and prototype that do not belong together, with a ridge that makes the minimiser
    exist and unique.
    """

    similarities: Array
    """(n, m)"""
    labels: NDArray[np.int64]
    """(n,) class indices."""
    weights: Array
    """(n,), of which only the ratios matter."""
    penalty_mask: NDArray[np.bool_]
    """(K, m)"""
    l1_weight: float
    """Infinite where the masked weights have to be 0."""
    l2_weight: float
    """Positive."""

    @cached_property
    def shares(self) -> Array:
        """Weights of sum 1, (n,)."""
        shares: Array = self.weights / self.weights.sum()
        return shares

    @cached_property
    def penalties(self) -> Array:
        """Of each weight, (K, m)."""
        return np.where(self.penalty_mask, self.l1_weight, 0.0)

    def point(self, coef: Array) -> Point:
        """Compute the logits of weights."""
        return Point(coef, coef @ self.similarities.T)

    def objective(self, point: Point) -> float:
        """Cross-entropy, l1 and ridge."""
        peaks = point.logits.max(0)  # (n,)
        totals = np.exp(point.logits - peaks).sum(0)  # (n,)
        own = point.logits[self.labels, np.arange(len(self.labels))]  # (n,)
        loss = self.shares @ (peaks + np.log(totals) - own)
        sizes = np.abs(point.coef)
        costs = np.multiply(self.penalties, sizes, where=sizes > 0, out=np.zeros_like(sizes))
        return float(loss + costs.sum() + self.l2_weight / 2 * np.square(sizes).sum())

    def smooth_gradient(self, point: Point) -> Array:
        """Gradient of cross-entropy and ridge, (K, m)."""
        residuals = self.shares * point.probabilities  # (K, n)
        residuals[self.labels, np.arange(len(self.labels))] -= self.shares
        gradient: Array = residuals @ self.similarities + self.l2_weight * point.coef
        return gradient

    def divergence(self, start: Point, end: Point) -> float:
        """Say by how much cross-entropy and ridge exceed their tangent in `start` at `end`.

        Cross-entropy's part of an image is ``log sum_k p_k exp(d_k)``, p the probabilities at the
        start and d how far the logits move, less their mean under p. It is computed without the
        difference of two losses, which rounding would swallow long before the optimum.
        """
        moves = end.logits - start.logits  # (K, n)
        moves -= (start.probabilities * moves).sum(0)
        with np.errstate(over="ignore", invalid="ignore"):  # so long a step is to fail: NaN will do
            excess = np.expm1(moves) - moves  # (K, n), not negative
            losses = np.log1p((start.probabilities * excess).sum(0))  # (n,)
        ridge = self.l2_weight / 2 * np.square(end.coef - start.coef).sum()
        return float(self.shares @ losses + ridge)

    def gap(self, point: Point) -> float:
        """Bound the objective's distance from its minimum.

        The objective is strongly convex with constant l2, hence nowhere more than
        ``|s|^2 / (2 l2)`` above its minimum, s any subgradient: here the shortest.
        """
        coef, gradient = point.coef, self.smooth_gradient(point)
        at_zero = shrink(gradient, self.penalties)
        signs = np.sign(coef)
        pull = np.multiply(self.penalties, signs, where=signs != 0, out=np.zeros_like(coef))
        subgradient = np.where(signs == 0, at_zero, gradient + pull)
        return float(np.square(subgradient).sum() / (2 * self.l2_weight))


def shrink(values: Array, thresholds: Array) -> Array:
    """Soft thresholding: the proximal operator of the l1 penalty."""
    shrunk: Array = np.sign(values) * np.maximum(np.abs(values) - thresholds, 0)
    return shrunk
