"""Solutions that are near to a known one: Newton's method on the weights that are free.

After an edit few weights move by much, and fewer become zero or cease to be. Newton's method then
needs about seven gradients where the accelerated one needs some hundred. Whether its end is one is
for the solver to see.

Shapes: n images, m prototypes, K classes, a weights in use.
"""

from __future__ import annotations

from dataclasses import dataclass
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
MAX_HESSIANS: Final = 3
SHORTEST_STEP: Final = 2.0**-6


@dataclass(frozen=True, eq=False)
class Hessian:
    """Second derivatives of cross-entropy and ridge with respect to the weights in use."""

    index: NDArray[np.int64]
    """(a,) which weights, as positions in (K, m), ascending."""
    matrix: Array
    """(a, a)"""

    @classmethod
    def at(cls, problem: Problem, point: Point) -> Hessian | None:
        """Compute it at a point; None if too many weights are in use."""
        pull = np.abs(problem.smooth_gradient(point))
        index = np.flatnonzero((point.coef != 0) | (pull > NEAR * problem.penalties))
        if len(index) > MOST_WEIGHTS:
            return None
        classes, prototypes = np.divmod(index, point.coef.shape[1])
        matrix = np.diag(np.full(len(index), problem.l2_weight))
        for start in range(0, len(problem.labels), CHUNK):
            part = slice(start, start + CHUNK)
            similarities = problem.similarities[part].T[prototypes]  # (a, chunk)
            probabilities = point.probabilities[classes, part]
            masses = probabilities * problem.shares[part]
            scaled = similarities * probabilities * np.sqrt(problem.shares[part])
            matrix -= scaled @ scaled.T
            for k in np.unique(classes):
                mine = classes == k
                block = (similarities[mine] * masses[mine]) @ similarities[mine].T
                matrix[np.ix_(mine, mine)] += block
        return cls(index, matrix)


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
        for _ in range(MAX_HESSIANS):
            hessian = hessian or Hessian.at(problem, point)
            if hessian is None:
                break
            point = _improved(problem, point, hessian, tol)
            if problem.gap(point) <= tol * problem.objective(point):
                break
            hessian = Hessian.at(problem, point)
    return solve(problem, point.coef, tol=tol), hessian


def _improved(problem: Problem, point: Point, hessian: Hessian, tol: float) -> Point:
    """Go towards the minimum by Newton's steps, as far as they lead."""
    objective = problem.objective(point)
    for _ in range(MAX_STEPS):
        subgradient = problem.subgradient(point)
        slope = subgradient.ravel()[hessian.index]  # (a,)
        if np.square(slope).sum() <= problem.l2_weight * tol * objective:  # half of the gap
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
