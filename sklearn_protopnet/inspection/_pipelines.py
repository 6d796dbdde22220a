"""The networks at the end of a pipeline or a search, and the images that reach them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet._fitted import (
    FittedClassifier,
    FittedEnsemble,
    FittedNetwork,
    fitted_network,
)
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._validation import check_images, check_text, native_order


class ClassifierImages(NamedTuple):
    """A fitted classifier, its network, and images for it."""

    classifier: FittedClassifier
    fitted: FittedNetwork
    source: ImageSource
    names: NDArray[Any]
    """(n,) what to call the images: the index of the frame or series that came in, or rows."""
    member: str | None = None
    """The classifier's name in an ensemble, if it was found in one."""


def member_images(estimator: Any, X: Any, input_name: str = "X") -> list[ClassifierImages]:
    """Find the classifiers whose logits are added, and bring images to each.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, ProtoPNetEnsemble, Pipeline or search over parameters
    X : images
        As the estimator's ``predict`` takes them.
    input_name : str
        What errors call them.

    Returns
    -------
    list of ClassifierImages
        One of a classifier, which is no member; those of an ensemble in its order.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end.
    """
    names = index_of(X, input_name)
    *around, last = _nested(estimator)
    X = _transformed(around, X)
    if _is_ensemble(last):
        return [
            found._replace(member=name, names=found.source.rows if names is None else names)
            for name, member in last.named_estimators_.items()
            for found in member_images(member, X, input_name)
        ]
    fitted = fitted_network(last)
    source = fitted.source(check_images(last, X, input_name=input_name))
    return [ClassifierImages(last, fitted, source, source.rows if names is None else names)]


def member_image(estimator: Any, X: Any, sample: Any) -> list[ClassifierImages]:
    """Find the classifiers, and bring one image to each, which is called by its place in X.

    Parameters
    ----------
    estimator, X
        As for `member_images`.
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
    found = member_images(estimator, only_image(X, sample))
    if index_of(X) is not None:
        return found
    return [each._replace(names=np.array([sample])) for each in found]


def classifier_images(estimator: Any, X: Any, input_name: str = "X") -> ClassifierImages:
    """Find the one classifier, and bring images to it, as `member_images`."""
    find_classifier(estimator)
    (found,) = member_images(estimator, X, input_name)
    return found


def classifier_image(estimator: Any, X: Any, sample: Any) -> ClassifierImages:
    """Find the one classifier, and bring one image to it, as `member_image`."""
    find_classifier(estimator)
    (found,) = member_image(estimator, X, sample)
    return found


def find_classifier(estimator: Any) -> FittedClassifier:
    """Find the one classifier at the end of pipelines and searches.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such classifier at its end, or an ensemble of several.
    """
    last = _nested(estimator)[-1]
    if _is_ensemble(last):
        raise TypeError(
            f"estimator must have one network here, got a {type(last).__name__}. Pass one of its "
            f"members: named_estimators_ has {sorted(last.named_estimators_)}."
        )
    return cast(FittedClassifier, last)


def picture_source(members: Sequence[ClassifierImages]) -> ImageSource:
    """Give the images as that member takes them whose pixels are most; of several, the first.

    Raises
    ------
    ValueError
        If pipelines make images of other sizes for one member than for another: boxes of both
        are no boxes in one picture.
    """
    first = members[0]
    for each in members[1:]:
        if not np.array_equal(each.source.sizes, first.source.sizes):
            raise ValueError(
                "Images must reach all members in one size to be drawn with the boxes of all, and "
                f"those of {each.member!r} have another size than those of {first.member!r}. "
                "explain gives the boxes of each member in pixels of its own images."
            )
    sources = (each.source for each in members)
    return max(sources, key=lambda source: math.prod(source.images.shape[:2]))


def _is_ensemble(found: FittedClassifier | FittedEnsemble) -> TypeGuard[FittedEnsemble]:
    return hasattr(found, "named_estimators_")


def _transformed(around: list[Any], X: Any) -> Any:
    """Apply the transformers of these pipelines."""
    for each in around:
        if isinstance(each, Pipeline) and len(each) > 1:
            X = each[:-1].transform(X)
    return X


def _nested(estimator: Any) -> list[Any]:
    """List an estimator, its last step or its best estimator, and so on down to what explains."""
    check_is_fitted(estimator)
    nested = [estimator]
    while isinstance(nested[-1], FrozenEstimator) or not hasattr(nested[-1], "explain"):
        found = nested[-1]
        if isinstance(found, FrozenEstimator):
            nested.append(found.estimator)
        elif isinstance(found, Pipeline):
            nested.append(found[-1])
        elif hasattr(found, "best_estimator_"):
            nested.append(found.best_estimator_)
        else:
            raise TypeError(
                "estimator must be a ProtoPNetClassifier, or a ProtoPNetEnsemble, a pipeline or a "
                f"search with refit that ends in one, got {type(estimator).__name__}."
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
    if isinstance(X, str | os.PathLike) or not hasattr(X, "__len__"):
        return X  # no images, of which more is said where they are read
    n_samples = len(X)
    if not isinstance(sample, Integral) or not 0 <= int(sample) < n_samples:
        raise ValueError(
            f"sample must be the position of an image in X, an integer from 0 to {n_samples - 1}, "
            f"got {sample!r}."
        )
    rows = X.iloc if hasattr(X, "iloc") else X
    return rows[int(sample) : int(sample) + 1]
