"""`solve_last_layer`: the solver of the last layer as a function of arrays."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from sklearn_protopnet._compat import Interval, check_sample_weight, validate_params
from sklearn_protopnet._last_layer import (
    LARGEST,
    MAX_ITER,
    TOLERANCE,
    UNBOUNDED,
    Array,
    LastLayer,
    Problem,
    off_class_mask,
    solve,
)

L1_WEIGHTS: Final = [Interval(Real, 0, None, closed="both")]
"""`l1_weight` has these values; infinity leaves nothing of what it penalises."""
L2_WEIGHTS: Final = [Interval(Real, 0, None, closed="neither")]
"""`l2_weight` has these values."""


@validate_params(
    {
        "similarities": ["array-like"],
        "y": ["array-like"],
        "prototype_classes": ["array-like"],
        "l1_weight": L1_WEIGHTS,
        "l2_weight": L2_WEIGHTS,
        "sample_weight": ["array-like", None],
        "penalty_mask": ["array-like", None],
        "coef_init": ["array-like", None],
        "bounds": [tuple, None],
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
    penalty_mask: ArrayLike | None = None,
    coef_init: ArrayLike | None = None,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> LastLayer:
    """Solve for the last layer, with a certificate.

    Minimise over W, of shape (n_classes, n_prototypes)::

        sum_i w_i CrossEntropy(W s_i, y_i) / sum_i w_i
            + l1_weight * sum |W_kj| over pairs of a class k and a prototype j of another class
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
        Penalty on absolute weights between a class and other classes' prototypes; infinity
        leaves none of them.
    l2_weight : float
        Ridge penalty, positive.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights, of which only the ratios matter.
    penalty_mask : array-like of bool of shape (n_classes, n_prototypes), default=None
        Weights that `l1_weight` penalises; with None those between a class and other classes'
        prototypes.
    coef_init : array-like of shape (n_classes, n_prototypes), default=None
        Where to start; at zeros with None, or if these are better.
    bounds : (array-like, array-like), default=None
        Least and largest values of the weights, each a number or of shape
        (n_classes, n_prototypes), infinite or up to 1e50: the problem is solved within them.
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

    Raises
    ------
    ValueError
        If shapes do not match, a class index is no index, no weight is positive, bounds leave
        nothing or not what `l1_weight` does, or similarities are larger than 1e50.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` ends before the gap is small enough.

    Examples
    --------
    >>> from sklearn_protopnet import solve_last_layer
    >>> similarities = [[2.0, 0.1], [1.5, 0.3], [0.2, 1.8], [0.1, 2.5]]
    >>> solution = solve_last_layer(
    ...     similarities, [0, 0, 1, 1], [0, 1], l1_weight=1.0, l2_weight=0.1
    ... )
    >>> solution.coef.round(2)
    array([[1.14, 0.  ],
           [0.  , 1.04]])
    >>> solution.gap <= 1e-6 * solution.objective
    True
    """
    checked: Array = check_array(similarities, dtype=np.float64, input_name="similarities")
    labels = _check_indices("y", y)
    owners = _check_indices("prototype_classes", prototype_classes)
    check_consistent_length(checked, labels)
    n_prototypes = checked.shape[1]
    if len(owners) != n_prototypes:
        raise ValueError(
            f"prototype_classes must have one index for each of the {n_prototypes} columns of "
            f"similarities, got {len(owners)}."
        )
    weights: Array = check_sample_weight(
        sample_weight, checked, dtype=np.float64, ensure_non_negative=True
    )
    start: Array | None = None
    if coef_init is not None:
        start = check_array(coef_init, dtype=np.float64, input_name="coef_init")
    mask = None if penalty_mask is None else np.asarray(penalty_mask)
    if mask is not None and (mask.dtype != np.bool_ or mask.ndim != 2):
        raise ValueError(
            f"penalty_mask must be a two-dimensional array of booleans, got {mask.dtype} of "
            f"shape {mask.shape}."
        )
    heights = [len(matrix) for matrix in (start, mask) if matrix is not None]
    shape = int(max(labels.max() + 1, owners.max() + 1, *heights)), n_prototypes
    for name, matrix in {"coef_init": start, "penalty_mask": mask}.items():
        if matrix is not None and matrix.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {matrix.shape}.")
    lower, upper = _check_bounds(bounds, shape)
    solution = solve(
        Problem(
            similarities=checked,
            labels=labels,
            weights=weights,
            penalty_mask=off_class_mask(owners, shape[0]) if mask is None else mask,
            l1_weight=float(l1_weight),
            l2_weight=float(l2_weight),
            lower=lower,
            upper=upper,
        ),
        start,
        tol=tol,
        max_iter=max_iter,
    )
    if not solution.converged:
        warnings.warn(not_converged(solution), ConvergenceWarning, stacklevel=3)
    return solution


def _check_bounds(
    bounds: tuple[ArrayLike, ArrayLike] | None, shape: tuple[int, int]
) -> tuple[Array | float, Array | float]:
    if bounds is None:
        return UNBOUNDED
    rule = (
        f"bounds must be two numbers, or arrays of shape {shape}, the first at most the second, "
        f"and leave weights of up to {LARGEST:g}"
    )
    try:
        lower, upper = (np.broadcast_to(np.asarray(each, np.float64), shape) for each in bounds)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}, found: {error}") from error
    if not ((lower <= upper) & (lower <= LARGEST) & (upper >= -LARGEST)).all():
        raise ValueError(f"{rule}, got others.")
    return lower, upper


def not_converged(solution: LastLayer) -> str:
    """Say that the iterations ended before the gap was as small as was asked for."""
    return (
        f"The last layer was not solved to the tolerance in {solution.n_iter} iterations: its "
        f"objective, {solution.objective:.6g}, is certified to be within {solution.gap:.3g} of "
        "the minimum. A larger l2_weight is easier to solve for."
    )


def _check_indices(name: str, values: ArrayLike) -> NDArray[np.int64]:
    rule = f"{name} must hold indices of classes, integers from 0"
    try:
        indices = column_or_1d(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}, found: {str(error).splitlines()[0]}") from error
    if not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"{rule}, got {indices.dtype}.")
    if len(indices) and indices.min() < 0:
        raise ValueError(f"{rule}, got {indices.min()}.")
    checked: NDArray[np.int64] = indices.astype(np.int64)
    return checked
