"""What the last layer minimises, its derivatives, and the certificate.

Shapes: n images, m prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Weights of the last layer, and what the images make of them."""

    coef: Array
    """(K, m)"""
    logits: Array
    """(n, K)"""
    loss: float
    """Weighted cross-entropy, without penalties."""
    probabilities: Array
    """(n, K)"""


@dataclass(frozen=True)
class Problem:
    """``sum_i w_i CrsEnt(W s_i, y_i) + sum_kj penalty_kj |W_kj| + l2 / 2 |W|^2``.

    Stage 3 of the paper (Chen et al. 2019, section 2.2) where `penalties` is l1 on pairs of
    class and prototype that do not belong together, with a ridge that makes the minimiser
    exist and unique.
    """

    similarities: Array
    """(n, m)"""
    labels: NDArray[np.int64]
    """(n,) class indices."""
    weights: Array
    """(n, 1), of sum 1."""
    penalties: Array
    """(K, m); infinite where a weight has to be 0."""
    l2_weight: float
    """Positive."""

    @classmethod
    def build(
        cls,
        similarities: Array,
        labels: NDArray[np.int64],
        weights: Array,
        is_penalized: NDArray[np.bool_],
        *,
        l1_weight: float,
        l2_weight: float,
    ) -> Problem:
        """Give the l1 penalty to some of the weights, (K, m); only ratios of `weights` matter."""
        return cls(
            similarities,
            labels,
            (weights / weights.sum())[:, None],
            np.where(is_penalized, l1_weight, 0.0),
            l2_weight,
        )

    def with_penalty(self, l1_weight: float) -> Problem:
        """Give the same weights another l1 penalty, which is not 0 now."""
        return replace(self, penalties=np.where(self.penalties > 0, l1_weight, 0.0))

    def point(self, coef: Array, logits: Array | None = None) -> Point:
        """Compute cross-entropy and probabilities; logits too, unless they are known."""
        if logits is None:
            logits = self.similarities @ coef.T  # (n, K)
        peaks = logits.max(1, keepdims=True)  # (n, 1)
        powers = np.exp(logits - peaks)  # (n, K)
        totals = powers.sum(1, keepdims=True)  # (n, 1)
        own = np.take_along_axis(logits, self.labels[:, None], 1)  # (n, 1)
        losses = peaks + np.log(totals) - own  # (n, 1)
        return Point(coef, logits, float(np.vdot(self.weights, losses)), powers / totals)

    def smooth(self, point: Point) -> float:
        """Cross-entropy and ridge."""
        return float(point.loss + self.l2_weight / 2 * np.square(point.coef).sum())

    def objective(self, point: Point) -> float:
        """Cross-entropy, ridge and l1."""
        sizes = np.abs(point.coef)
        costs = np.multiply(self.penalties, sizes, where=sizes > 0, out=np.zeros_like(sizes))
        return float(self.smooth(point) + costs.sum())

    def smooth_gradient(self, point: Point) -> Array:
        """Gradient of `smooth`, (K, m)."""
        residuals = point.probabilities.copy()  # (n, K)
        residuals[np.arange(len(self.labels)), self.labels] -= 1
        residuals *= self.weights
        gradient: Array = residuals.T @ self.similarities + self.l2_weight * point.coef
        return gradient

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
