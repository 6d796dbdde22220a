"""Scorers, for searches and cross-validation: larger is better.

They take an estimator as it is, so that they need no ``make_scorer``: ``scoring={"sparsity":
sparsity_scorer}``.
"""

from __future__ import annotations

from typing import Any

from sklearn_protopnet.inspection._pipelines import find_classifier, open_images
from sklearn_protopnet.metrics._size import (
    global_size,
    local_size,
    n_distinct_prototypes,
    sparsity,
)


def sparsity_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by `sparsity`.

    Larger is better. Needs no annotation.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X, y : ignored
        Here since scikit-learn passes them.

    Returns
    -------
    float
        Share of weights that are exactly 0.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end.
    """
    return sparsity(find_classifier(estimator).coef_)


def neg_global_size_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by the negative of `global_size`.

    Larger is better. Needs no annotation.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X, y : ignored
        Here since scikit-learn passes them.

    Returns
    -------
    float
        Minus the number of prototypes that any class uses.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end.
    """
    return -float(global_size(find_classifier(estimator).coef_))


def neg_local_size_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by the negative of `local_size`, for the predicted classes.

    Larger is better. Needs images, and no annotation.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes.
    y : ignored
        Here since scikit-learn passes it.

    Returns
    -------
    float
        Minus the mean number of prototypes that have a say in a decision.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end.
    """
    images = open_images(estimator, X)
    evidence = images.fitted.evidence(images.source)
    coef = images.fitted.prototypes.coef
    return -local_size(coef[evidence.logits.argmax(1)] * evidence.similarities)


def distinct_prototypes_scorer(estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG001
    """Score an estimator by the share of its prototypes that differ: `n_distinct_prototypes`.

    Larger is better. Needs no annotation.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X, y : ignored
        Here since scikit-learn passes them.

    Returns
    -------
    float
        At most 1.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end.
    """
    prototypes = find_classifier(estimator).prototypes_
    return n_distinct_prototypes(prototypes) / len(prototypes)
