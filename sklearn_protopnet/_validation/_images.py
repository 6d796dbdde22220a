"""Images that users pass, checked.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from sklearn_protopnet._images import (
    ArrayImages,
    Expected,
    Images,
    ImageShape,
    as_numbers,
    check_shape,
    check_size,
    describe,
    is_ambiguous,
    read_input,
    resize_all,
    shape_of_rows,
)
from sklearn_protopnet._validation._parameters import check_text


@np.errstate(over="ignore", invalid="ignore")  # scikit-learn adds pixels up to find NaN
def check_training_images(
    estimator: BaseEstimator, X: Any, y: ArrayLike
) -> tuple[Images, NDArray[Any], ImageShape]:
    """Check the images and the labels of a fit.

    For rows scikit-learn names `n_features_in_` and `feature_names_in_`.

    Returns
    -------
    images : Images
    y : array of shape (n,)
    image_shape : (H, W, C)
        What `image_shape` resolves to: the shape of the images before they are resized, or after
        that where it differs among them.

    Raises
    ------
    TypeError, ValueError, OSError
        If X is none of what it may be, or y no labels.
    """
    size, shape = check_size(estimator.image_size), check_shape(estimator.image_shape)
    found = read_input(X, Expected(size=size, shape=shape))
    if isinstance(found, Images):
        images, y = _checked(found, "X"), validate_data(estimator, y=y)
        check_consistent_length(range(len(images)), y)
        if shape is not None:
            _check_shape_of(images, shape)
        shape = images.given_shape
    else:
        rows, y = validate_data(estimator, found, y)
        names = getattr(estimator, "feature_names_in_", None)
        if names is not None:
            check_text("Names of columns in X", names, "column")
        shape = _row_shape(shape, rows.shape[1])
        images = _unfolded(rows, shape, size, "X")
    return _with_processes(images, estimator), np.asarray(y), shape


@np.errstate(over="ignore", invalid="ignore")  # as above
def check_images(
    estimator: BaseEstimator, X: Any, *, input_name: str = "X", is_resized: bool | None = None
) -> Images:
    """Check images like those of `fit`, by `image_shape_` and `input_shape_`.

    Parameters
    ----------
    estimator : ProtoPNetClassifier
    X : images
    input_name : str
        What errors call them.
    is_resized : bool, default=None
        Whether images may have other sizes than the network takes; as in the fit with None.

    Raises
    ------
    TypeError, ValueError, OSError
        If X is none of what it may be, or unlike the images of the fit.
    """
    shape, (*network_size, channels) = estimator.image_shape_, estimator.input_shape_
    if is_resized is None:
        is_resized = estimator.state_["is_resized"]
    size = (network_size[0], network_size[1]) if is_resized else None
    found = read_input(X, Expected(input_name, size, shape, channels))
    if isinstance(found, Images):
        images = _checked(found, input_name)
    else:
        rows = _checked_rows(estimator, found, input_name)
        images = _unfolded(rows, shape, size, input_name)
    if images.shape != estimator.input_shape_:
        raise ValueError(
            f"Images in {input_name} must have {describe(estimator.input_shape_)} as in fit, got "
            f"{describe(images.shape)}."
        )
    return _with_processes(images, estimator)


def _with_processes(images: Any, estimator: BaseEstimator) -> Images:
    """Have as many processes as the estimator says read images, which few of them need."""
    n_jobs = estimator.n_jobs
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise ValueError(f"n_jobs must be None or an integer other than 0, got {n_jobs!r}.")
    read: Images = replace(images, n_jobs=n_jobs)
    return read


def _check_shape_of(images: Images, image_shape: ImageShape) -> None:
    """Raise unless all images had this shape before they were resized."""
    sizes, channels = images.original_sizes(np.arange(len(images))), images.shape[2]
    differs = np.flatnonzero((sizes != image_shape[:2]).any(1) | (channels != image_shape[2]))
    if differs.size:
        row = differs[0]
        raise ValueError(
            f"Images in X must have image_shape, {describe(image_shape)}, got "
            f"{describe((*sizes[row].tolist(), channels))} in row {row}."
        )


def _row_shape(image_shape: ImageShape | None, n_features: int) -> ImageShape:
    """Say how rows unfold, with a warning where it is a guess between two likely shapes."""
    shape = shape_of_rows(image_shape, n_features)
    if image_shape is None and is_ambiguous(shape):
        half = shape[0] // 2
        warnings.warn(
            f"Rows of X with {n_features} features are taken for grey images of {describe(shape)}; "
            f"they could also be {describe((half, half, 4))}. Set image_shape to say which.",
            stacklevel=2,
        )
    return shape


def _unfolded(
    rows: NDArray[Any], shape: ImageShape, size: tuple[int, int] | None, name: str
) -> ArrayImages:
    """Unfold rows that have been checked."""
    pixels = as_numbers(rows, name).reshape(-1, *shape)  # (n, H, W, C)
    return ArrayImages(*resize_all(pixels, size))


def _checked_rows(estimator: BaseEstimator, X: Any, input_name: str) -> NDArray[Any]:
    """Check rows like those of `fit`; scikit-learn's function calls all of them X."""
    if input_name == "X":
        return np.asarray(validate_data(estimator, X, reset=False))
    rows: NDArray[Any] = check_array(X, input_name=input_name, estimator=estimator)
    if rows.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"{input_name} has {rows.shape[1]} features, but {type(estimator).__name__} is "
            f"expecting {estimator.n_features_in_} features as input."
        )
    validate_data(estimator, X, reset=False, skip_check_array=True)  # names of columns
    return rows


def _checked(images: Images, input_name: str) -> Images:
    """Check that pixels (n, H, W, C) in memory are there, and finite."""
    if not isinstance(images, ArrayImages):
        return images
    rows = images.pixels.reshape(len(images.pixels), math.prod(images.pixels.shape[1:]))
    flat = check_array(rows, input_name=input_name)
    return replace(images, pixels=flat.reshape(images.pixels.shape))
