"""The path: last layers from the sparsest to the densest, as a table.

Shapes: n images, P prototypes, K classes, q values of the penalty.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from sklearn_protopnet._last_layer import Array, Constraints, LastLayer, Problem, solve
from sklearn_protopnet._last_layer._function import not_converged
from sklearn_protopnet._training import Similarities
from sklearn_protopnet._validation import (
    check_given_together,
    check_labels,
    check_positive,
    class_indices,
    effective_weights,
    scaled_weights,
)
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._pipelines import (
    ClassifierImages,
    classifier_images,
    find_classifier,
)
from sklearn_protopnet.inspection._tables import build_table

PATH_COLUMNS: Final = (
    "l1_weight",
    "objective",
    "gap",
    "n_off_class_weights",
    "off_class_share",
    "n_prototypes_in_use",
    "mean_contributions_per_class",
    "train_score",
    "validation_score",
)
"""`last_layer_path` has these columns, in order."""

SMALLEST: Final = 1e-4
"""The smallest of automatic penalties is this share of the largest."""


@with_shared_descriptions
def last_layer_path(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    l1_weights: ArrayLike | None = None,
    n_l1_weights: int = 30,
    sample_weight: ArrayLike | None = None,
    X_val: Any = None,
    y_val: ArrayLike | None = None,
) -> pd.DataFrame:
    """Say how sparse the reasons can be, and what that costs.

    Solve for the last layer of a fitted classifier with one `l1_weight` after the other, from
    the largest to the smallest, each from the solution before it. The classifier, its ridge
    penalty `l2_weight_` and its `class_weight` stay as they are.

    Parameters
    ----------
    {estimator}
    X : array-like, frame, CPU tensor, list of images or paths of images
        Training images, as the estimator's ``predict`` takes them.
    y : array-like of shape (n,)
        Their labels.
    l1_weights : array-like of shape (q,), default=None
        Penalties, in any order. With None, `n_l1_weights` values in geometric progression over
        four decades, from the smallest that leaves no weight between a class and another
        class's prototype. By the optimality conditions that one is the largest derivative of
        the loss with respect to such a weight, where own prototypes alone are solved for.
    n_l1_weights : int, default=30
        Number of automatic penalties.
    sample_weight : array-like of shape (n,), default=None
        Weights of the training images.
    X_val, y_val : as X and y, default=None
        Images to score.

    Returns
    -------
    DataFrame
        One row per penalty, the largest first.

        ``l1_weight``
            The penalty.
        ``objective``, ``gap``
            What is minimised, and a certified bound on its distance from the minimum.
        ``n_off_class_weights``
            Weights that are not zero, between a class and other classes' prototypes.
        ``off_class_share``
            Their share of all such weights, of which there are
            ``(n_classes - 1) * n_prototypes``.
        ``n_prototypes_in_use``
            Prototypes with a weight that is not zero to any class.
        ``mean_contributions_per_class``
            Weights that are not zero, for one class on average: so many rows of an explanation
            contribute something.
        ``train_score``, ``validation_score``
            Accuracy, with sample weights and without those of the classes; NaN without
            validation images.

    Raises
    ------
    {estimator_errors}
    ValueError
        If images, labels or penalties are not valid.

    Warns
    -----
    ConvergenceWarning
        If the solver's iterations end before a certified gap is small enough.

    See Also
    --------
    LastLayerPathDisplay : The path as a picture.
    ProtoPNetClassifier.refit_last_layer : Takes a penalty from the path.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import last_layer_path
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> path = last_layer_path(clf, X[:100], y[:100], n_l1_weights=3)
    >>> path["n_off_class_weights"].is_monotonic_increasing
    True
    """
    clf = find_classifier(estimator)
    check_given_together(X_val, y_val)
    check_positive("n_l1_weights", n_l1_weights)
    penalties = None if l1_weights is None else _check_penalties(l1_weights)
    given = _labelled(estimator, X, y, sample_weight)
    held_out = None if X_val is None else _labelled(estimator, X_val, y_val, None, "_val")
    weights = effective_weights(sample_weight, clf.class_weight, clf.classes_, given.labels)
    training, validation = given.similarities(), held_out and held_out.similarities()
    problem = replace(training, weights=weights).problem(
        class_indices(clf.prototype_classes_, clf.classes_),
        len(clf.classes_),
        l1_weight=np.inf,
        l2_weight=clf.l2_weight_,
        constraints=Constraints(**clf.state_["constraints"]),
    )
    rows = []
    for l1_weight, solution in _solutions(problem, penalties, n_l1_weights):
        if not solution.converged:
            warnings.warn(not_converged(solution), ConvergenceWarning, stacklevel=2)
        coef = solution.coef
        rows.append(
            (
                l1_weight,
                solution.objective,
                solution.gap,
                np.count_nonzero(coef[problem.penalty_mask]),
                np.mean(coef[problem.penalty_mask] != 0),
                np.count_nonzero(coef.any(0)),
                np.count_nonzero(coef) / len(coef),
                training.accuracy(coef),
                validation.accuracy(coef) if validation else np.nan,
            )
        )
    columns = dict(zip(PATH_COLUMNS, zip(*rows, strict=True), strict=True))
    table = build_table(columns, "last_layer_path")
    table.attrs["l2_weight"] = clf.l2_weight_
    return table


@dataclass(frozen=True)
class _Labelled:
    """Images that have been checked, with all that goes with them."""

    images: ClassifierImages
    labels: NDArray[np.int64]
    """(n,) class indices."""
    weights: Array
    """(n,)"""

    def similarities(self) -> Similarities:
        similarities = self.images.fitted.similarities(self.images.source)
        return Similarities(similarities, self.labels, self.weights)


def _labelled(
    estimator: Any, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None, suffix: str = ""
) -> _Labelled:
    """Check images and labels; their arguments are called X and y, with a suffix."""
    images = classifier_images(estimator, X, f"X{suffix}")
    n_images, classes = len(images.source), images.fitted.classes
    labels = check_labels(f"y{suffix}", y, f"X{suffix}", n_images, classes)
    return _Labelled(images, labels, scaled_weights(sample_weight, labels))


def _solutions(
    problem: Problem, penalties: Array | None, n_l1_weights: int
) -> Iterator[tuple[float, LastLayer]]:
    """Yield penalties, the largest first, with their solutions."""
    # Sparse solutions come first: from no weight off class, each is near the one before it.
    solution = solve(problem)
    if penalties is None:
        penalties = _automatic_penalties(problem, solution.coef, n_l1_weights)
    for l1_weight in penalties.tolist():
        solution = solve(replace(problem, l1_weight=l1_weight), solution.coef)
        yield l1_weight, solution


def _automatic_penalties(problem: Problem, own_coef: Array, n_l1_weights: int) -> Array:
    """Choose penalties down from the smallest at which own prototypes alone are optimal, (q,)."""
    gradient = problem.smooth_gradient(problem.point(own_coef))
    largest = np.abs(gradient[problem.penalty_mask]).max()
    penalties: Array = largest * np.geomspace(1, SMALLEST, n_l1_weights)
    return penalties


def _check_penalties(l1_weights: ArrayLike) -> Array:
    """Check a user's penalties; the largest first, each once, (q,).

    Raises
    ------
    ValueError
        If they are not of one dimension, or one is no number or negative.
    """
    rule = "l1_weights must be one-dimensional and hold numbers that are not negative"
    try:
        penalties = np.asarray(l1_weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}, found: {error}") from error
    if penalties.ndim != 1 or len(penalties) == 0:
        raise ValueError(f"{rule}, got shape {penalties.shape}.")
    wrong = penalties[~(penalties >= 0)]  # NaN too
    if len(wrong):
        raise ValueError(f"{rule}, got {wrong[0]}.")
    return np.unique(penalties)[::-1]
