"""`solve_last_layer`: the solver of the last layer as a function of arrays."""

from __future__ import annotations

import warnings
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from sklearn_protopnet._compat import Interval, check_sample_weight, validate_params
from sklearn_protopnet._last_layer import MAX_ITER, TOLERANCE, LastLayer, Problem, solve


@validate_params(
    {
        "similarities": ["array-like"],
        "y": ["array-like"],
        "prototype_classes": ["array-like"],
        "l1_weight": [Interval(Real, 0, None, closed="left")],
        "l2_weight": [Interval(Real, 0, None, closed="neither")],
        "sample_weight": ["array-like", None],
        "coef_init": ["array-like", None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def solve_last_layer(
    similarities: ArrayLike,
    y: ArrayLike,
    prototype_classes: ArrayLike,
    *,
    l1_weight: float,
    l2_weight: float,
    sample_weight: ArrayLike | None = None,
    coef_init: ArrayLike | None = None,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> LastLayer:
    """Solve for the last layer, with a certificate.

    Minimise over W, of shape (n_classes, n_prototypes)::

        sum_i w_i CrossEntropy(W s_i, y_i) / sum_i w_i
            + l1_weight * sum |W_kj| over pairs of class k and prototype j of another class
            + l2_weight / 2 * sum W^2

    which is stage 3 of Chen et al. (2019, section 2.2) with a ridge that makes the minimiser
    exist and unique. Accelerated proximal gradient (Beck and Teboulle 2009) in a metric of
    identity plus rank one per class (Becker and Fadili 2012); weights of zero are exactly zero.

    Parameters
    ----------
    similarities : array-like of shape (n_samples, n_prototypes)
        What `ProtoPNetClassifier.transform` returns.
    y : array-like of int of shape (n_samples,)
        Index of each sample's class, from 0.
    prototype_classes : array-like of int of shape (n_prototypes,)
        Index of each prototype's class, from 0.
    l1_weight : float
        Penalty on absolute weights between a class and other classes' prototypes.
    l2_weight : float
        Ridge penalty, positive.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights, of which only the ratios matter.
    coef_init : array-like of shape (n_classes, n_prototypes), default=None
        Where to start; zeros with None.
    tol : float, default=1e-6
        The certified gap, relative to the objective, at which to stop.
    max_iter : int, default=5000
        Iterations after which to stop in any case.

    Returns
    -------
    LastLayer
        ``coef`` of shape (n_classes, n_prototypes); ``objective``; ``gap``, the certified upper
        bound ``|s|^2 / (2 l2_weight)`` on the objective minus its minimum, s the subgradient of
        least norm; ``n_iter``; ``converged``.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` ends before the gap is small enough.

    Raises
    ------
    ValueError
        If shapes do not match, a class index is no index, or no weight is positive.

    Examples
    --------
    >>> from sklearn_protopnet import solve_last_layer
    >>> similarities = [[2.0, 0.1], [1.5, 0.3], [0.2, 1.8], [0.1, 2.5]]
    >>> solution = solve_last_layer(
    ...     similarities, [0, 0, 1, 1], [0, 1], l1_weight=1.0, l2_weight=0.1
    ... )
    >>> solution.coef.round(2)
    array([[0.93, 0.  ],
           [0.  , 0.94]])
    >>> solution.gap <= 1e-6 * solution.objective
    True
    """
    similarities = check_array(similarities, dtype=np.float64, input_name="similarities")
    labels = _check_indices("y", y)
    owners = _check_indices("prototype_classes", prototype_classes)
    check_consistent_length(similarities, labels)
    n_prototypes = similarities.shape[1]
    if len(owners) != n_prototypes:
        raise ValueError(
            f"prototype_classes must have one index for each of the {n_prototypes} columns of "
            f"similarities, got {len(owners)}."
        )
    weights = check_sample_weight(
        sample_weight, similarities, dtype=np.float64, ensure_non_negative=True
    )
    if not (weights > 0).any():
        raise ValueError("sample_weight must have a positive weight, got none.")
    n_classes = int(max(labels.max(), owners.max())) + 1
    if coef_init is not None:
        coef_init = check_array(coef_init, dtype=np.float64, input_name="coef_init")
        n_classes = max(n_classes, len(coef_init))
        if coef_init.shape != (n_classes, n_prototypes):
            raise ValueError(
                f"coef_init must have shape {(n_classes, n_prototypes)}, got {coef_init.shape}."
            )
    problem = Problem.build(
        similarities,
        labels,
        weights,
        np.arange(n_classes)[:, None] != owners,
        l1_weight=float(l1_weight),
        l2_weight=float(l2_weight),
    )
    solution = solve(problem, coef_init, tol=tol, max_iter=max_iter)
    warn_unless_converged(solution, stacklevel=4)
    return solution


def warn_unless_converged(solution: LastLayer, *, stacklevel: int) -> None:
    """Warn if the iterations ended before the gap was as small as was asked for."""
    if not solution.converged:
        warnings.warn(
            f"The last layer was not solved to the tolerance in {solution.n_iter} iterations: its "
            f"objective, {solution.objective:.6g}, is certified to be within {solution.gap:.3g} of "
            "the minimum. A larger l2_weight is easier to solve for.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def _check_indices(name: str, values: ArrayLike) -> NDArray[np.int64]:
    indices = column_or_1d(values)
    if not np.issubdtype(indices.dtype, np.integer) or (len(indices) and indices.min() < 0):
        raise ValueError(f"{name} must hold indices of classes, integers from 0, got {values!r}.")
    checked: NDArray[np.int64] = indices.astype(np.int64)
    return checked
