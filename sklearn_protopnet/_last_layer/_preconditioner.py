"""The preconditioner of the solver: identity plus rank one, for each class.

Similarities are positive and strongly correlated: their mean direction has nearly all of the
curvature. A preconditioner that knows it leaves the solver a well-conditioned rest.

Shapes: n images, m prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sklearn_protopnet._last_layer._problem import Array, Point, Problem

N_POWER_ITERATIONS: Final = 4
SAFETY: Final = 1.1
"""Eigenvalues are enlarged by this factor, since few power iterations underestimate them."""
GLOBAL_SCALE: Final = 100
"""Above this scale the preconditioner bounds the curvature anywhere. A failed step or two take in
next to nothing of that bound, which is a thousand times the curvature where the solver ends."""
MAX_ROOT_ITERATIONS: Final = 100
ROUNDING: Final = 1e-15


@dataclass(frozen=True)
class Preconditioner:
    """Block k is ``diagonal_k I + direction_k direction_k^T``."""

    diagonal: Array
    """(K, 1), positive."""
    direction: Array
    """(K, m)"""

    def inner(self, one: Array, other: Array) -> float:
        """Inner product of two sets of weights, (K, m) each."""
        along = (self.direction * one).sum(1) * (self.direction * other).sum(1)  # (K,)
        return float((self.diagonal * one * other).sum() + along.sum())

    def solve(self, gradient: Array) -> Array:
        """Inverse metric times a gradient, (K, m): the formula of Sherman and Morrison."""
        plain = gradient / self.diagonal
        ray = self.direction / self.diagonal
        along = (self.direction * plain).sum(1, keepdims=True)  # (K, 1)
        shrinkage = 1 + (self.direction * ray).sum(1, keepdims=True)
        solution: Array = plain - ray * along / shrinkage
        return solution

    def prox(self, coef: Array, problem: Problem) -> Array:
        """Proximal operator of a problem's penalty and bounds in its metric, (K, m).

        It is that of the diagonal alone at ``coef - a direction / diagonal``, where the number a of
        each class solves ``a = direction . (prox - coef)`` (Becker and Fadili 2012, theorem 7): the
        root of an increasing, piecewise linear function, by Newton's method in a bracket.
        """
        thresholds = problem.penalties / self.diagonal
        ray = self.direction / self.diagonal
        rounding = ROUNDING * np.vecdot(np.abs(self.direction), np.abs(coef))[:, None]
        a = np.zeros_like(self.diagonal)  # (K, 1)
        low, high = np.full_like(a, -np.inf), np.full_like(a, np.inf)
        for _ in range(MAX_ROOT_ITERATIONS):
            found = problem.nearest(coef - a * ray, thresholds)
            miss = a - np.vecdot(self.direction, found - coef)[:, None]
            slope = 1 + np.vecdot(self.direction * ray, problem.is_free(found))[:, None]
            if (np.abs(miss) <= rounding + ROUNDING * slope * np.abs(a)).all():
                break
            low, high = np.where(miss < 0, a, low), np.where(miss > 0, a, high)
            a = a - miss / slope
            with np.errstate(invalid="ignore"):  # where a bound is infinite it has not been passed
                a = np.where((a < low) | (a > high), (low + high) / 2, a)
        return found


class LocalCurvature:
    """How the smooth part of a problem is curved where the solver is.

    Block k of the Hessian is ``S^T D S + l2``, D = diag(w p (1 - p)) with the probabilities p of
    class k: ``sum(D) mean mean^T`` plus a covariance, whose largest eigenvalue is found by
    power iteration. Blocks off the diagonal are left out; steps are checked, and a step that
    fails is tried again with more curvature.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        # The softmax loss is nowhere curved more than 1/2 in its logits (Boehning 1992).
        self.bound = problem.shares @ np.square(problem.similarities).sum(1) / 2
        shape = problem.penalties.shape
        self.vectors = np.random.default_rng(0).normal(size=shape)  # (K, m), where to start from

    def estimate(self, point: Point) -> None:
        """Take in the curvature at a point."""
        similarities, tiny = self.problem.similarities, np.finfo(np.float64).tiny
        probabilities = point.probabilities
        masses = self.problem.shares * probabilities * (1 - probabilities) + tiny  # (K, n)
        totals = masses.sum(1, keepdims=True)  # (K, 1)
        means = masses @ similarities / totals  # (K, m)
        vectors = self.vectors
        for _ in range(N_POWER_ITERATIONS):
            vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + tiny)
            along = vectors @ similarities.T - (means * vectors).sum(1, keepdims=True)  # (K, n)
            moved = masses * along  # (K, n)
            vectors = moved @ similarities - moved.sum(1, keepdims=True) * means  # (K, m)
        self.vectors = vectors
        self.eigenvalues = SAFETY * np.linalg.norm(vectors, axis=1, keepdims=True)  # (K, 1)
        self.direction = np.sqrt(totals) * means  # (K, m)

    def preconditioner(self, scale: float) -> Preconditioner:
        """Give the preconditioner with the curvature times `scale`.

        Above `GLOBAL_SCALE` it bounds the curvature anywhere.
        """
        spare = self.bound * ((scale - 1) / (GLOBAL_SCALE - 1)) ** 2
        return Preconditioner(
            scale * self.eigenvalues + spare + self.problem.l2_weight,
            np.sqrt(scale) * self.direction,
        )
