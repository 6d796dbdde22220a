"""The classifier at the end of a pipeline or a search, and the images that reach it."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet._fitted import FittedClassifier, FittedNetwork, fitted_network
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._validation import check_images, check_text, native_order


class ClassifierImages(NamedTuple):
    """A fitted classifier, its network, and images for it."""

    classifier: FittedClassifier
    fitted: FittedNetwork
    source: ImageSource
    names: NDArray[Any]
    """(n,) what to call the images: the index of the frame or series that came in, or rows."""


def classifier_images(estimator: Any, X: Any, input_name: str = "X") -> ClassifierImages:
    """Find the classifier, and bring images to it.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
    X : images
        As the estimator's ``predict`` takes them.
    input_name : str
        What errors call them.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    """
    names = index_of(X, input_name)
    *around, classifier = _nested(estimator)
    for each in around:
        if isinstance(each, Pipeline) and len(each) > 1:
            X = each[:-1].transform(X)
    fitted = fitted_network(classifier)
    source = fitted.source(check_images(classifier, X, input_name=input_name))
    return ClassifierImages(classifier, fitted, source, source.rows if names is None else names)


def classifier_image(estimator: Any, X: Any, sample: Any) -> ClassifierImages:
    """Find the classifier, and bring one image to it, which is called by its place in X.

    Parameters
    ----------
    estimator, X
        As for `classifier_images`.
    sample : int
        Position in X.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    ValueError
        If `sample` is no position in X.
    """
    one = classifier_images(estimator, only_image(X, sample))
    return one if index_of(X) is not None else one._replace(names=np.array([sample]))


def find_classifier(estimator: Any) -> FittedClassifier:
    """Find the classifier at the end of pipelines and searches.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    """
    classifier: FittedClassifier = _nested(estimator)[-1]
    return classifier


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


def index_of(X: Any, input_name: str = "X") -> NDArray[Any] | None:
    """Index of a frame or a series, (n,), in native byte order; None of anything else.

    Raises
    ------
    ValueError
        If it has text that UTF-8 cannot hold.
    """
    if not hasattr(X, "iloc"):
        return None
    names = np.asarray(X.index)
    check_text(f"The index of {input_name}", names)
    return native_order(names)


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
