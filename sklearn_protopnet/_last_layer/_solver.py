"""The solver: accelerated proximal gradient, preconditioned by the curvature where it is."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from threadpoolctl import ThreadpoolController

from sklearn_protopnet._last_layer._preconditioner import (
    GLOBAL_SCALE,
    LocalCurvature,
    Preconditioner,
)
from sklearn_protopnet._last_layer._problem import Array, Point, Problem
from sklearn_protopnet._threads import SharedLimit

TOLERANCE: Final = 1e-6
"""Iterations stop at this certified gap, relative to the objective."""
MAX_ITER: Final = 5_000
CHECK_INTERVAL: Final = 10
"""So many iterations come between two certificates, each of which costs one gradient."""
FIRST_RENEWAL, RENEWAL_RATIO = 5, 3
"""The preconditioner is estimated at the start and after 5, 15, 45, ... iterations: each time the
momentum is lost, which an interval of 30 iterations did not survive."""
GROWTH: Final = 1.5
"""A step that fails is tried again with the curvature times this factor."""
ROUNDING: Final = 1e-6
"""A step may exceed its bound by this share, which rounding leaves of it."""
SMALL: Final = 5 * 10**7
"""Matrix products of up to so many multiplications are best on one thread. 2,000 images x 100
prototypes x 10 classes (2 million) took 50 times as long on two threads beside another process."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A solved last layer and the proof of how well it is solved."""

    coef: Array
    """(K, m) weights."""
    objective: float
    gap: float
    """Certified upper bound on the objective minus its minimum."""
    n_iter: int
    converged: bool
    """Whether the gap is as small as was asked for."""


def solve(
    problem: Problem,
    coef_init: Array | None = None,
    *,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> LastLayer:
    """Minimise a problem until the certified gap is at most `tol` times the objective.

    Accelerated proximal gradient (FISTA, Beck and Teboulle 2009) with the restart of O'Donoghue
    and Candes 2015, in a metric of identity plus rank one per class (Becker and Fadili 2012). After
    each step the weights of all classes to a prototype are moved together to where they cost least.
    Memory: a few arrays of the size of the logits and of the weights.

    Parameters
    ----------
    problem : Problem
    coef_init : float64 array of shape (K, m) or None
        Where to start; at zeros with None, or if these are better.
    tol : float
    max_iter : int

    Returns
    -------
    LastLayer
    """
    with blas_threads(problem):
        return _solve(problem, coef_init, tol, max_iter)


def _solve(problem: Problem, coef_init: Array | None, tol: float, max_iter: int) -> LastLayer:
    point = previous = starting_point(problem, coef_init)
    curvature, scale = LocalCurvature(problem), 1.0
    momentum, renewal, n_iter = 1.0, 0, 0
    while True:
        # The certificate is the only way out, and it is taken at a point of the sequence, not at
        # an extrapolated one: what is returned is what is certified.
        if n_iter % CHECK_INTERVAL == 0 or n_iter == max_iter:
            objective, gap = problem.objective(point), problem.gap(point)
            converged = gap <= tol * objective and math.isfinite(objective)
            if converged or n_iter == max_iter:
                coef = point.coef + 0.0  # -0.0 is 0.0
                return LastLayer(coef, objective, gap, n_iter, converged)
        # The softmax is curved most where it is undecided, so that an estimate ages as the
        # probabilities move. Momentum belongs to one metric: with a new one it starts again.
        if n_iter == renewal:
            curvature.estimate(point)
            previous, momentum, scale = point, 1.0, 1.0
            renewal = max(FIRST_RENEWAL, RENEWAL_RATIO * renewal)
        # FISTA: the step is taken from a point ahead, in the direction of the last one.
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = _extrapolate(previous, point, (momentum - 1) / following)
        proposal, preconditioner, scale = _step(problem, ahead, curvature, scale)
        # Restart where the step turns back against the way that led here: momentum would
        # overshoot from now on, and swing (O'Donoghue and Candes 2015, the gradient scheme).
        if preconditioner.inner(ahead.coef - proposal.coef, proposal.coef - point.coef) > 0:
            following = 1.0
        previous, point, momentum = point, proposal, following
        n_iter += 1


def starting_point(problem: Problem, coef_init: Array | None) -> Point:
    """Start where the user says, within the bounds, unless zeros are better."""
    zeros = problem.point(problem.nearest(np.zeros_like(problem.penalties), problem.penalties))
    if coef_init is None:
        return zeros
    with np.errstate(over="ignore", invalid="ignore"):
        allowed = np.where(np.isinf(problem.penalties), 0.0, coef_init)
        point = problem.point(np.clip(allowed, problem.lower, problem.upper))
        is_better = problem.objective(point) <= problem.objective(zeros)
    return point if is_better else zeros


def _extrapolate(previous: Point, point: Point, factor: float) -> Point:
    """Go on in the direction of the last step; logits are linear in the weights."""
    if factor == 0:
        return point
    return Point(
        point.coef + factor * (point.coef - previous.coef),
        point.logits + factor * (point.logits - previous.logits),
    )


def _step(
    problem: Problem, start: Point, curvature: LocalCurvature, scale: float
) -> tuple[Point, Preconditioner, float]:
    """Take a proximal gradient step, with as much curvature as its bound needs to hold."""
    gradient = problem.smooth_gradient(start)
    while True:
        preconditioner = curvature.preconditioner(scale)
        coef = preconditioner.prox(start.coef - preconditioner.solve(gradient), problem)
        proposal, move = problem.point(coef), coef - start.coef
        # The quadratic model must lie above the loss where the step ends: then the objective falls
        # as the theory wants. The scale stays as large as it had to be until the next estimate.
        bound = preconditioner.inner(move, move) / 2
        if problem.divergence(start, proposal) <= (1 + ROUNDING) * bound or scale > GLOBAL_SCALE:
            return problem.balanced(proposal), preconditioner, scale
        scale *= GROWTH


def _begin_one_blas_thread() -> Any:
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _end_one_blas_thread(limit: Any) -> None:
    limit.restore_original_limits()


_ONE_BLAS_THREAD: Final = SharedLimit(_begin_one_blas_thread, _end_one_blas_thread)


def blas_threads(problem: Problem) -> AbstractContextManager[None]:
    """Give small matrix products one thread, and undo that afterwards."""
    is_small = problem.similarities.size * len(problem.penalties) <= SMALL
    return _ONE_BLAS_THREAD if is_small else nullcontext()
