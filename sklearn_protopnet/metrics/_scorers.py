"""Scorers, for searches and cross-validation: larger is better.

They take an estimator as it is, so that they need no ``make_scorer``: ``scoring={"sparsity":
sparsity_scorer}``. What they have in common, their docstrings get in one place.
"""

from __future__ import annotations

from typing import Any, Final

from sklearn_protopnet.inspection._docstrings import Documented, fill_docstring
from sklearn_protopnet.inspection._pipelines import classifier_images, find_classifier
from sklearn_protopnet.metrics._size import (
    global_size,
    local_size,
    n_distinct_prototypes,
    sparsity,
)

SECTIONS: Final = """
    Larger is better.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes; ignored if no images are needed.
    y : ignored
        Here since scikit-learn passes it.

    Returns
    -------
    float
        The score.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end.
"""
"""These sections end the docstring of every scorer, where it has the line ``{sections}``."""


def _scorer(function: Documented) -> Documented:
    """Add `SECTIONS` to the docstring of a scorer."""
    return fill_docstring(function, {"{sections}": SECTIONS})


@_scorer
def sparsity_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by `sparsity`.

    The share of weights that are exactly 0. Needs no annotation, and no images.

    {sections}
    """
    return sparsity(find_classifier(estimator).coef_)


@_scorer
def neg_global_size_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by the negative of `global_size`.

    Minus the number of prototypes that any class uses. Needs no annotation, and no images.

    {sections}
    """
    return -float(global_size(find_classifier(estimator).coef_))


@_scorer
def neg_local_size_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by the negative of `local_size`, for the predicted classes.

    Minus the mean number of prototypes that have a say in a decision. Needs images, and no
    annotation.

    {sections}
    """
    images = classifier_images(estimator, X)
    evidence = images.fitted.evidence(images.source)
    coef = images.fitted.prototypes.coef
    return -local_size(coef[evidence.logits.argmax(1)] * evidence.similarities)


@_scorer
def distinct_prototypes_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by the share of its prototypes that differ: `n_distinct_prototypes`.

    At most 1. Needs no annotation, and no images.

    {sections}
    """
    prototypes = find_classifier(estimator).prototypes_
    return n_distinct_prototypes(prototypes) / len(prototypes)
