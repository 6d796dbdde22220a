"""The classifier at the end of a pipeline or a search, and the images as it gets them there."""

from __future__ import annotations

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
    check_is_fitted(estimator)
    found = estimator
    while not hasattr(found, "explain"):
        if isinstance(found, Pipeline):
            X = found[:-1].transform(X) if len(found) > 1 else X
            found = found[-1]
        elif hasattr(found, "best_estimator_"):
            found = found.best_estimator_
        else:
            raise TypeError(
                "estimator must be a ProtoPNetClassifier, or a pipeline or a search with refit "
                f"that ends in one, got {type(estimator).__name__}."
            )
    check_is_fitted(found)
    return Opened(found, X, names)


def index_of(X: Any) -> NDArray[Any] | None:
    """Index of a frame or a series, (n,); None of anything else."""
    return np.asarray(X.index) if hasattr(X, "iloc") else None
