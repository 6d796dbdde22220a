"""The classifier at the end of a pipeline or a search, and the images that reach it."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


class Opened(NamedTuple):
    """A fitted classifier and images for it."""

    classifier: Any
    X: Any
    names: NDArray[Any] | None
    """(n,) index of the frame or series that came in; None where it was none."""


def open_estimator(estimator: Any, X: Any) -> Opened:
    """Find the classifier, and bring images to it.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
    X : images
        As the estimator's ``predict`` takes them.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    """
    names = index_of(X)
    *around, classifier = _nested(estimator)
    for each in around:
        if isinstance(each, Pipeline) and len(each) > 1:
            X = each[:-1].transform(X)
    return Opened(classifier, X, names)


def open_image(estimator: Any, X: Any, sample: Any) -> tuple[Any, Any, NDArray[Any]]:
    """Find the classifier, and bring one image to it.

    Parameters
    ----------
    estimator, X
        As for `open_estimator`.
    sample : int
        Position in X.

    Returns
    -------
    classifier : ProtoPNetClassifier
    X : images
        The image.
    names : array of shape (1,)
        What to call it: by its index, or its position where X has none.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    ValueError
        If `sample` is no position in X.
    """
    classifier, one, names = open_estimator(estimator, only_image(X, sample))
    return classifier, one, np.array([sample]) if names is None else names


def find_classifier(estimator: Any) -> Any:
    """Find the classifier at the end of pipelines and searches.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    """
    return _nested(estimator)[-1]


def _nested(estimator: Any) -> list[Any]:
    """List an estimator, its last step or its best estimator, and so on down to the classifier."""
    check_is_fitted(estimator)
    nested = [estimator]
    while not hasattr(nested[-1], "explain"):
        found = nested[-1]
        if isinstance(found, Pipeline):
            nested.append(found[-1])
        elif hasattr(found, "best_estimator_"):
            nested.append(found.best_estimator_)
        else:
            raise TypeError(
                "estimator must be a ProtoPNetClassifier, or a pipeline or a search with refit "
                f"that ends in one, got {type(estimator).__name__}."
            )
    check_is_fitted(nested[-1])
    return nested


def index_of(X: Any) -> NDArray[Any] | None:
    """Index of a frame or a series, (n,); None of anything else."""
    return np.asarray(X.index) if hasattr(X, "iloc") else None


def only_image(X: Any, sample: Any) -> Any:
    """Cut one image out of X, as an X of one image."""
    n_samples = len(X)
    if not isinstance(sample, Integral) or not 0 <= int(sample) < n_samples:
        raise ValueError(
            f"sample must be the position of an image in X, an integer from 0 to {n_samples - 1}, "
            f"got {sample!r}."
        )
    rows = X.iloc if hasattr(X, "iloc") else X
    return rows[int(sample) : int(sample) + 1]
