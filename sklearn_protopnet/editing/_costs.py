"""What forbidding a prototype would cost, without doing it.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._last_layer import LastLayer, Problem, solve_near
from sklearn_protopnet.editing._snapshot import Snapshot

FINEST: Final = 1e-10
"""Bounds that are this close, relative to the objective, are not brought closer."""
REFINEMENT: Final = 1e-2
"""Bounds that leave a question open are brought closer by this factor."""


@dataclass(frozen=True)
class Cost:
    """What forbidding one prototype would cost."""

    prototype: int
    objective_lower: float
    objective_upper: float
    """Bounds on the objective without it."""
    increase_lower: float
    increase_upper: float
    """Bounds on how much more that is than the optimum with it."""
    train_score: float
    validation_score: float
    n_changed: int
    is_last: bool
    can_go: bool | None
    """Whether it can be forbidden at so small an increase; None where that is not asked or cannot
    be told."""


def costs(
    snapshot: Snapshot, numbers: NDArray[np.int64], tol: float, max_increase: float | None
) -> list[Cost]:
    """Say what forbidding each of some prototypes would cost.

    Each problem is solved from the weights that there are, less one column, with the Hessian that
    they have. Its value at the end is an upper bound, and less the certified gap a lower one. That
    of the optimum now is bounded in the same way.

    Parameters
    ----------
    snapshot : Snapshot
    numbers : int64 array of shape (q,)
    tol : float
    max_increase : float or None

    Returns
    -------
    list of q Cost
    """
    predicted = snapshot.training.predicted(snapshot.coef)
    is_open = np.ones(len(snapshot.owners), dtype=bool)
    is_open[snapshot.constraints.weightless] = False
    n_open = np.bincount(snapshot.owners[is_open], minlength=len(snapshot.coef))
    found = []
    for number in numbers.tolist():
        solution, can_go = _without(snapshot, number, tol, max_increase)
        is_last = bool(is_open[number] and n_open[snapshot.owners[number]] == 1)
        if can_go and (is_last or number in snapshot.constraints.required):
            can_go = False
        lower, upper = _increases(snapshot, solution)
        after = snapshot.training.predicted(solution.coef)
        validation = snapshot.validation
        found.append(
            Cost(
                prototype=number,
                objective_lower=solution.objective - solution.gap,
                objective_upper=solution.objective,
                increase_lower=lower,
                increase_upper=upper,
                train_score=snapshot.training.score(solution.coef),
                validation_score=np.nan if validation is None else validation.score(solution.coef),
                n_changed=int((after != predicted).sum()),
                is_last=is_last,
                can_go=can_go,
            )
        )
    return found


def _without(
    snapshot: Snapshot, number: int, tol: float, max_increase: float | None
) -> tuple[LastLayer, bool | None]:
    """Solve the last layer without a prototype, as closely as the question needs."""
    if not snapshot.coef[:, number].any():  # the optimum does without it
        kept = LastLayer(snapshot.coef, snapshot.objective, snapshot.gap, 0, converged=True)
        return kept, None if max_increase is None else True
    problem, coef = _forbidding(snapshot.problem, number), snapshot.coef.copy()
    coef[:, number] = 0.0
    hessian = snapshot.hessian
    while True:
        solution, hessian = solve_near(problem, coef, hessian, tol=tol)
        if max_increase is None:
            return solution, None
        lower, upper = _increases(snapshot, solution)
        if upper <= max_increase or lower > max_increase:
            return solution, upper <= max_increase
        if tol <= FINEST:
            return solution, None
        tol, coef = max(FINEST, REFINEMENT * tol), solution.coef


def _forbidding(problem: Problem, number: int) -> Problem:
    shape = problem.penalties.shape
    lower, upper = (np.broadcast_to(each, shape).copy() for each in (problem.lower, problem.upper))
    lower[:, number] = upper[:, number] = 0.0
    return replace(problem, lower=lower, upper=upper)


def _increases(snapshot: Snapshot, solution: LastLayer) -> tuple[float, float]:
    """Bound how much more an optimum is than the one that there is now."""
    least = solution.objective - solution.gap - snapshot.objective
    return max(0.0, least), max(0.0, solution.objective - (snapshot.objective - snapshot.gap))
