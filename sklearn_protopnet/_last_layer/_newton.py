"""Solutions that are near to a known one: Newton's method on the weights that are free.

After an edit few weights move by much, and fewer become zero or cease to be. Newton's method then
needs about seven gradients where the accelerated one needs some hundred. Whether its end is one is
for the solver to see.

Shapes: n images, m prototypes, K classes, a weights in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._last_layer._problem import Array, Point, Problem
from sklearn_protopnet._last_layer._solver import (
    TOLERANCE,
    LastLayer,
    blas_threads,
    solve,
    starting_point,
)

MOST_WEIGHTS: Final = 2_000
"""The Hessian of more weights than this is not worth its time and its 32 MB."""
NEAR: Final = 0.5
"""A weight of 0 is in use if its derivative is more than this share of its penalty: the next edit
may free it."""
CHUNK: Final = 2_048
"""So many images at a time add to a Hessian."""
MAX_STEPS: Final = 15
"""After so many steps with one Hessian another one is worth its time."""
MAX_HESSIANS: Final = 4
"""Computed, or with weights that were missing."""
MOST_MISSING: Final = 50
"""One by one, so many weights take as long as the Hessian of some hundreds."""
RESTING: Final = 0.2
"""Newton's steps have done their part when the derivatives that they lower are below this share of
those that they do not know of."""
SHORTEST_STEP: Final = 2.0**-6


@dataclass(frozen=True, eq=False)
class Hessian:
    """Second derivatives of cross-entropy and ridge with respect to the weights in use."""

    index: NDArray[np.int64]
    """(a,) which weights, as positions in (K, m)."""
    matrix: Array
    """(a, a)"""
    point: Point
    """Where it is that of."""

    @classmethod
    def at(cls, problem: Problem, point: Point) -> Hessian | None:
        """Compute it at a point; None if too many weights are in use."""
        pull = np.abs(problem.smooth_gradient(point))
        is_used = (point.coef != 0) | (pull > NEAR * problem.penalties)
        index = np.flatnonzero(is_used & (problem.lower < problem.upper))
        if len(index) > MOST_WEIGHTS:
            return None
        classes, prototypes = np.divmod(index, point.coef.shape[1])
        ends = np.searchsorted(classes, np.arange(len(point.coef) + 1))
        blocks = [slice(*each) for each in pairwise(ends)]  # the weights of each class
        matrix = np.diag(np.full(len(index), problem.l2_weight))
        for start in range(0, len(problem.labels), CHUNK):
            rows = slice(start, start + CHUNK)
            similarities = problem.similarities[rows].T.copy()  # (m, chunk)
            shares = problem.shares[rows]
            scaled = np.empty((len(index), len(shares)))
            for block, probabilities in zip(blocks, point.probabilities[:, rows], strict=True):
                used = similarities[prototypes[block]] * np.sqrt(shares * probabilities)
                matrix[block, block] += used @ used.T
                scaled[block] = used * np.sqrt(probabilities)
            matrix -= scaled @ scaled.T
        return cls(index, matrix, point)

    def renewed(self, problem: Problem, point: Point) -> Hessian | None:
        """Compute it at a point, or go on with it and with weights that are about to join."""
        slope = np.abs(problem.subgradient(point)).ravel()
        missing = np.setdiff1d(np.flatnonzero(slope), self.index)
        n_weights = len(self.index) + len(missing)
        if len(missing) > MOST_MISSING or n_weights > MOST_WEIGHTS or not self.is_done(slope):
            return Hessian.at(problem, point)
        # At the same point as the others: from two points they might not be positive definite.
        columns = np.stack([_second_derivatives(problem, self.point, each) for each in missing])
        between, among = columns[:, self.index], columns[:, missing]
        matrix = np.block([[self.matrix, between.T], [between, among]])
        return Hessian(np.concatenate([self.index, missing]), matrix, self.point)

    def is_done(self, slope: Array) -> bool:
        """Say whether other weights hold more back, by sizes of derivatives (K * m,)."""
        return bool(slope[self.index].max(initial=0) < RESTING * slope.max())


def _second_derivatives(problem: Problem, point: Point, weight: int) -> Array:
    """Differentiate the smooth part's gradient with respect to one weight, (K * m,)."""
    k, j = divmod(weight, point.coef.shape[1])
    moves = problem.shares * point.probabilities[k] * problem.similarities[:, j]  # (n,)
    residuals = -point.probabilities * moves  # (K, n)
    residuals[k] += moves
    derivatives: Array = residuals @ problem.similarities
    derivatives[k, j] += problem.l2_weight
    return derivatives.ravel()


def solve_near(
    problem: Problem, coef_init: Array, hessian: Hessian | None, *, tol: float = TOLERANCE
) -> tuple[LastLayer, Hessian | None]:
    """Minimise a problem whose solution is near to weights that are known.

    Parameters
    ----------
    problem : Problem
    coef_init : float64 array of shape (K, m)
        Where to start.
    hessian : Hessian or None
        Of a problem with the same images, at weights that are near; with None it is computed.
    tol : float
        The certified gap, relative to the objective, at which to stop.

    Returns
    -------
    LastLayer
        As `solve` gives it; its iterations are those that Newton's method has left to do.
    Hessian or None
        That to go on with; None if so many weights are in use that the solver does all.
    """
    with blas_threads(problem):
        point = starting_point(problem, coef_init)
        hessian = hessian or Hessian.at(problem, point)
        gap = 0.0 if hessian is None else problem.gap(point)
        for _ in range(MAX_HESSIANS):
            if hessian is None:
                break
            before, point = gap, _improved(problem, point, hessian, tol)
            gap = problem.gap(point)
            if gap <= tol * problem.objective(point) or gap > before / 2:
                break
            hessian = hessian.renewed(problem, point)
    return solve(problem, point.coef, tol=tol), hessian


def _improved(problem: Problem, point: Point, hessian: Hessian, tol: float) -> Point:
    """Go towards the minimum by Newton's steps, as far as they lead."""
    objective = problem.objective(point)
    for _ in range(MAX_STEPS):
        subgradient = problem.subgradient(point)
        slope = subgradient.ravel()[hessian.index]  # (a,)
        if np.square(slope).sum() <= problem.l2_weight * tol * objective:  # half of the gap
            break
        if hessian.is_done(np.abs(subgradient).ravel()):
            break
        # Weights that were free come to rest before others join them: at the start nearly every
        # weight of 0 is pulled away from it, and in the end few are.
        is_free = problem.is_free(point.coef).flat[hessian.index]
        joins = np.abs(slope) > np.abs(slope).max(where=is_free, initial=0)
        moving = np.flatnonzero(is_free | joins)
        step = np.zeros_like(point.coef)
        block = hessian.matrix[np.ix_(moving, moving)]
        try:
            step.flat[hessian.index[moving]] = -np.linalg.solve(block, slope[moving])
        except np.linalg.LinAlgError:  # a ridge that rounding swallows
            break
        length, found = 1.0, np.inf
        while not found < objective and length >= SHORTEST_STEP:
            proposal = problem.point(_moved(problem, point.coef, subgradient, length * step))
            found, length = problem.objective(proposal), length / 2
        if not found < objective:
            break
        point, objective = proposal, found
    return point


def _moved(problem: Problem, coef: Array, subgradient: Array, step: Array) -> Array:
    """Move weights, those with a penalty as far as 0, and none beyond its bounds, (K, m)."""
    moved = coef + step
    sides = np.where(coef == 0, -subgradient, coef)
    turns = (problem.penalties > 0) & (sides * moved < 0)
    return np.clip(np.where(turns, 0.0, moved), problem.lower, problem.upper)
