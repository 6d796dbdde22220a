"""Stage 3: the convex optimisation of the last layer, on similarities computed once.

Shapes: n images, m prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAP_CHECK_INTERVAL: Final = 10
"""Iterations between two looks at the certificate, which costs one gradient."""


@dataclass(frozen=True)
class LastLayer:
    """A solved last layer and the proof of how well it is solved."""

    coef: Array
    """(K, m)"""
    objective: float
    gap: float
    """Certified upper bound on the objective minus its minimum."""
    n_iter: int


@dataclass(frozen=True)
class _Problem:
    similarities: Array  # (n, m)
    targets: Array  # (n, K) one-hot
    weights: Array  # (n, 1), of sum 1
    penalties: Array  # (K, m): l1_weight where class and prototype do not belong together
    l2_weight: float

    def smooth_gradient(self, coef: Array) -> Array:
        residuals = (_softmax(self.similarities @ coef.T) - self.targets) * self.weights  # (n, K)
        gradient: Array = residuals.T @ self.similarities + self.l2_weight * coef  # (K, m)
        return gradient

    def objective(self, coef: Array) -> float:
        logits = self.similarities @ coef.T  # (n, K)
        peak = logits.max(1, keepdims=True)  # (n, 1)
        log_sum = peak + np.log(np.exp(logits - peak).sum(1, keepdims=True))  # (n, 1)
        losses = log_sum - (self.targets * logits).sum(1, keepdims=True)  # (n, 1)
        return float(
            (self.weights * losses).sum()
            + (self.penalties * np.abs(coef)).sum()
            + self.l2_weight / 2 * np.square(coef).sum()
        )

    def gap(self, coef: Array) -> float:
        """``|s|^2 / (2 l2)`` with the minimum-norm subgradient s: strong convexity's bound."""
        gradient = self.smooth_gradient(coef)
        at_zero = _shrink(gradient, self.penalties)
        subgradient = np.where(coef == 0, at_zero, gradient + self.penalties * np.sign(coef))
        return float(np.square(subgradient).sum() / (2 * self.l2_weight))

    def lipschitz_constant(self) -> float:
        # The Hessian of the softmax loss in its logits is at most 1/2 (Boehning 1992).
        gram = self.similarities.T @ (self.weights * self.similarities)  # (m, m)
        return float(np.linalg.eigvalsh(gram)[-1] / 2 + self.l2_weight)


def solve_last_layer(
    similarities: Array,
    labels: NDArray[np.int64],
    prototype_classes: NDArray[np.int64],
    weights: Array,
    coef_init: Array,
    *,
    l1_weight: float,
    l2_weight: float,
    tol: float = 1e-4,
    max_iter: int = 2000,
) -> LastLayer:
    """Minimise cross-entropy + l1 on off-class weights + ridge over the last layer.

    ``sum_i w_i CrsEnt(W s_i, y_i) + l1 sum_{k, j: p_j not of k} |W_kj| + l2 / 2 |W|^2``
    (Chen et al. 2019, section 2.2, stage 3, and a ridge that makes the minimiser exist and
    unique), by accelerated proximal gradient (Beck and Teboulle 2009) with the restart of
    O'Donoghue and Candes 2015.

    Parameters
    ----------
    similarities : float64 array of shape (n, m)
    labels : int64 array of shape (n,)
        Class indices.
    prototype_classes : int64 array of shape (m,)
        Class indices.
    weights : float64 array of shape (n,)
        Sample weights, non-negative; only their ratios matter.
    coef_init : float64 array of shape (K, m)
    l1_weight, l2_weight : float
        ``l2_weight`` is positive.
    tol : float
        The certified gap, relative to the objective, at which to stop.
    max_iter : int

    Returns
    -------
    LastLayer
    """
    n_classes = coef_init.shape[0]
    classes = np.arange(n_classes)
    problem = _Problem(
        similarities,
        targets=(labels[:, None] == classes).astype(np.float64),
        weights=(weights / weights.sum())[:, None],
        penalties=np.where(classes[:, None] == prototype_classes, 0.0, l1_weight),
        l2_weight=l2_weight,
    )
    step = 1 / problem.lipschitz_constant()
    coef = ahead = coef_init
    momentum, gap, iteration = 1.0, np.inf, 0
    for iteration in range(1, max_iter + 1):
        proposal = _shrink(ahead - step * problem.smooth_gradient(ahead), step * problem.penalties)
        if ((ahead - proposal) * (proposal - coef)).sum() > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = proposal + (momentum - 1) / following * (proposal - coef)
        coef, momentum = proposal, following
        if iteration % GAP_CHECK_INTERVAL == 0:
            gap = problem.gap(coef)
            if gap <= tol * problem.objective(coef):
                break
    return LastLayer(coef, problem.objective(coef), gap, iteration)


def _shrink(values: Array, thresholds: Array) -> Array:
    """Soft thresholding: the proximal operator of the l1 penalty."""
    shrunk: Array = np.sign(values) * np.maximum(np.abs(values) - thresholds, 0)
    return shrunk


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))  # (n, K)
    probabilities: Array = powers / powers.sum(1, keepdims=True)
    return probabilities
