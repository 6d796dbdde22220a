"""What the last layer minimises, its derivatives, and the certificate.

Shapes: n images, m prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LARGEST: Final = 1e50
"""Similarities may be as large as this; powers of it are still far from overflowing."""


@dataclass(frozen=True)
class Point:
    """Weights of the last layer, and what the images make of them."""

    coef: Array
    """(K, m)"""
    logits: Array
    """(K, n): one row for each class, which NumPy reduces faster than one for each image."""

    @cached_property
    def log_totals(self) -> Array:
        """Logarithms of the sums of the exponentials of an image's logits, (n,)."""
        peaks = self.logits.max(0)  # (n,)
        log_totals: Array = peaks + np.log(np.exp(self.logits - peaks).sum(0))
        return log_totals

    @cached_property
    def probabilities(self) -> Array:
        """Softmax of the logits, (K, n)."""
        probabilities: Array = np.exp(self.logits - self.log_totals)
        return probabilities


@dataclass(frozen=True)
class Problem:
    """``sum_i w_i CrsEnt(W s_i, y_i) + l1 sum_kj mask_kj |W_kj| + l2 / 2 |W|^2`` within bounds.

    Stage 3 of the paper (Chen et al. 2019, section 2.2) where the mask is true for pairs of
    class and prototype that do not belong together, with a ridge that makes the minimiser
    exist and unique; and with a box, ``lower <= W <= upper``, for what an expert asks of weights.
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
    lower: Array | float = -np.inf
    """(K, m), at most `upper`."""
    upper: Array | float = np.inf
    """(K, m)"""

    def __post_init__(self) -> None:
        largest = float(np.abs(self.similarities).max())
        if largest > LARGEST:
            raise ValueError(f"Similarities must not be larger than {LARGEST:g}, got {largest:g}.")

    @cached_property
    def shares(self) -> Array:
        """Weights of sum 1, (n,)."""
        relative = self.weights / self.weights.max()  # their sum is finite
        shares: Array = relative / relative.sum()
        return shares

    @cached_property
    def penalties(self) -> Array:
        """Of each weight, (K, m)."""
        # No derivative is as large as LARGEST: beyond it a penalty leaves as much as infinity.
        l1_weight = np.inf if self.l1_weight > LARGEST else self.l1_weight
        return np.where(self.penalty_mask, l1_weight, 0.0)

    def nearest(self, values: Array, thresholds: Array) -> Array:
        """Proximal operator of the penalty and the bounds: shrink, then clip; (K, m)."""
        nearest: Array = np.clip(shrink(values, thresholds), self.lower, self.upper)
        return nearest

    def is_free(self, coef: Array) -> NDArray[np.bool_]:
        """Say which weights neither the penalty nor a bound holds where they are, (K, m)."""
        is_free: NDArray[np.bool_] = (coef != 0) & (self.lower < coef) & (coef < self.upper)
        return is_free

    def point(self, coef: Array) -> Point:
        """Compute the logits of weights."""
        return Point(coef, coef @ self.similarities.T)

    def objective(self, point: Point) -> float:
        """Cross-entropy, l1 and ridge."""
        own = point.logits[self.labels, np.arange(len(self.labels))]  # (n,)
        loss = self.shares @ (point.log_totals - own)
        sizes = np.abs(point.coef)
        costs = np.multiply(self.penalties, sizes, where=sizes > 0, out=np.zeros_like(sizes))
        return float(loss + costs.sum() + self.l2_weight / 2 * np.square(sizes).sum())

    def smooth_gradient(self, point: Point) -> Array:
        """Gradient of cross-entropy and ridge, (K, m)."""
        gradient: Array = self.residuals(point) @ self.similarities
        return gradient + self.l2_weight * point.coef

    def residuals(self, point: Point) -> Array:
        """Differentiate the cross-entropy with respect to the logits, (K, n)."""
        residuals: Array = self.shares * point.probabilities
        residuals[self.labels, np.arange(len(self.labels))] -= self.shares
        return residuals

    def divergence(self, start: Point, end: Point) -> float:
        """Say by how much cross-entropy and ridge exceed their tangent in `start` at `end`.

        Cross-entropy's part of an image is ``log sum_k p_k exp(d_k)``, p the probabilities at the
        start and d how far the logits move, less their mean under p. For small moves it is computed
        without the difference of two losses, which rounding would swallow before the optimum.
        """
        moves = end.logits - start.logits  # (K, n)
        means = (start.probabilities * moves).sum(0)  # (n,)
        moves -= means
        small = np.minimum(moves, 1.0)
        excess = np.expm1(small) - small  # (K, n), not negative
        losses = np.log1p((start.probabilities * excess).sum(0))  # (n,)
        is_large = (moves > 1).any(0)  # (n,)
        if is_large.any():
            losses = np.where(is_large, end.log_totals - start.log_totals - means, losses)
        ridge = self.l2_weight / 2 * np.square(end.coef - start.coef).sum()
        return float(self.shares @ losses + ridge)

    def balanced(self, point: Point) -> Point:
        """Add to all classes' weights of a prototype the number that lowers the objective most.

        No probability changes by that, so that the number v is the minimum of the penalties
        alone, ``sum_k l2 / 2 (w_k + v)^2 + penalty_k |w_k + v|``: of a convex function with kinks
        at the ``-w_k``, found by sorting those, or what the bounds leave of the way there. Steps by
        the gradient are slow in this direction, in which the penalties have next to no curvature
        and the preconditioner has much.
        """
        columns = np.arange(point.coef.shape[1])
        order = np.argsort(-point.coef, axis=0)  # (K, m)
        kinks, penalties = -point.coef[order, columns], self.penalties[order, columns]
        is_fixed = np.isinf(penalties).any(0)  # (m,) some weight has to stay 0
        penalties[:, is_fixed] = 0.0
        # The derivative to the right of each kink, and to its left: it increases.
        n_classes, passed = len(kinks), 2 * np.cumsum(penalties, 0)
        right = self.l2_weight * (n_classes * kinks - kinks.sum(0)) + passed - passed[-1] / 2
        number = (right < 0).sum(0)  # (m,) kinks to the left of the minimum
        at = np.minimum(number, n_classes - 1), columns
        left = np.maximum(right[at] - 2 * penalties[at], 0.0)  # (m,)
        slope = np.where(number == n_classes, right[at], left) / n_classes / self.l2_weight
        shift = np.where(is_fixed, 0.0, kinks[at] - slope)  # (m,)
        least, most = (self.lower - point.coef).max(0), (self.upper - point.coef).min(0)  # (m,)
        shift = np.clip(shift, least, most)
        return Point(point.coef + shift, point.logits + self.similarities @ shift)

    def gap(self, point: Point) -> float:
        """Bound the objective's distance from its minimum.

        The objective is strongly convex with constant l2, hence nowhere more than
        ``|s|^2 / (2 l2)`` above its minimum, s any subgradient: here the shortest.
        """
        return float(np.square(self.subgradient(point)).sum() / (2 * self.l2_weight))

    def subgradient(self, point: Point) -> Array:
        """Give the shortest subgradient of the objective and its bounds, (K, m).

        Where it is 0 for all weights is the minimum.
        """
        coef, gradient = point.coef, self.smooth_gradient(point)
        at_zero = shrink(gradient, self.penalties)
        signs = np.sign(coef)
        pull = np.multiply(self.penalties, signs, where=signs != 0, out=np.zeros_like(coef))
        subgradient = np.where(signs == 0, at_zero, gradient + pull)
        # A bound holds what would go beyond it.
        subgradient = np.where(coef <= self.lower, np.minimum(subgradient, 0.0), subgradient)
        return np.where(coef >= self.upper, np.maximum(subgradient, 0.0), subgradient)


def shrink(values: Array, thresholds: Array) -> Array:
    """Soft thresholding: the proximal operator of the l1 penalty."""
    shrunk: Array = np.sign(values) * np.maximum(np.abs(values) - thresholds, 0)
    return shrunk


def off_class_mask(prototype_classes: NDArray[np.int64], n_classes: int) -> NDArray[np.bool_]:
    """Say which pairs of class and prototype do not belong together, (K, m)."""
    mask: NDArray[np.bool_] = np.arange(n_classes)[:, None] != prototype_classes
    return mask
