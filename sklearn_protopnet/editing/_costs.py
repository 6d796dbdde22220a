"""What forbidding a prototype would cost, without doing it.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._last_layer import Hessian, LastLayer, Problem, solve_near
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

    The problem with all prototypes is solved first, which it is already but for merged ones and
    other images. Each of the others is solved from there, less one column, with the same Hessian.
    Its value at the end is an upper bound, and less the certified gap a lower one.

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
    now, hessian = solve_near(snapshot.problem, snapshot.coef, snapshot.hessian, tol=FINEST)
    question = _Question(snapshot.problem, now, hessian, max(tol, FINEST), max_increase)
    asked = snapshot.constraints
    is_open = ~np.isin(np.arange(len(snapshot.owners)), asked.weightless)
    n_open = np.bincount(snapshot.owners[is_open], minlength=len(snapshot.coef))
    found = []
    for number in numbers.tolist():
        solution, can_go = question.without(number)
        is_last = bool(is_open[number] and n_open[snapshot.owners[number]] == 1)
        if can_go and (is_last or number in asked.required):
            can_go = False
        lower, upper = question.increases(solution)
        after, validation = snapshot.training.predicted(solution.coef), snapshot.validation
        validation_score = np.nan
        if validation is not None:
            validation_score = validation.score(validation.predicted(solution.coef))
        found.append(
            Cost(
                prototype=number,
                objective_lower=solution.objective - solution.gap,
                objective_upper=solution.objective,
                increase_lower=lower,
                increase_upper=upper,
                train_score=snapshot.training.score(after),
                validation_score=validation_score,
                n_changed=int((after != snapshot.predicted).sum()),
                is_last=is_last,
                can_go=can_go,
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked of each prototype."""

    problem: Problem
    now: LastLayer
    """The optimum with all prototypes."""
    hessian: Hessian | None
    """Near to it."""
    tol: float
    max_increase: float | None

    def without(self, number: int) -> tuple[LastLayer, bool | None]:
        """Solve the last layer without a prototype, as closely as the question needs."""
        if not self.now.coef[:, number].any():  # the optimum does without it
            return self.now, None if self.max_increase is None else True
        shape = self.problem.penalties.shape
        lower, upper = (
            np.broadcast_to(each, shape).copy() for each in (self.problem.lower, self.problem.upper)
        )
        lower[:, number] = upper[:, number] = 0.0
        problem, tol = replace(self.problem, lower=lower, upper=upper), self.tol
        coef, hessian = self.now.coef.copy(), self.hessian
        coef[:, number] = 0.0
        while True:
            solution, hessian = solve_near(problem, coef, hessian, tol=tol)
            if self.max_increase is None:
                return solution, None
            least, most = self.increases(solution)
            if most <= self.max_increase or least > self.max_increase:
                return solution, most <= self.max_increase
            if tol <= FINEST:
                return solution, None
            tol, coef = max(FINEST, REFINEMENT * tol), solution.coef

    def increases(self, solution: LastLayer) -> tuple[float, float]:
        """Bound how much more an optimum is than that with all prototypes."""
        if solution is self.now:
            return 0.0, 0.0
        least = solution.objective - solution.gap - self.now.objective
        return max(0.0, least), max(0.0, solution.objective - self.now.objective + self.now.gap)
