"""Images that users pass, checked.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import (
    check_array,
    check_consistent_length,
)
from sklearn.utils.validation import validate_data

from sklearn_protopnet._images import (
    ArrayImages,
    FileImages,
    Images,
    ImageShape,
    as_array,
    check_shape,
    check_size,
    describe,
    find_images,
    find_paths,
    naming_row,
    read_header,
    resize_all,
    shape_of_rows,
)


def check_training_images(
    estimator: BaseEstimator, X: Any, y: ArrayLike
) -> tuple[Images, NDArray[Any], ImageShape]:
    """Check the images and the labels of a fit, and name the shapes of the images."""
    size, shape = check_size(estimator.image_size), check_shape(estimator.image_shape)
    images = _find_images(X, size)
    if images is None:
        X, y = validate_data(estimator, as_array(X), y)
        estimator.image_shape_ = shape_of_rows(shape, X.shape[1])
        images = _check_rows(estimator, X, size)
    else:
        y = validate_data(estimator, y=y)
        check_consistent_length(range(len(images)), y)
        if shape is not None:
            _check_shape_of(images, shape)
        estimator.image_shape_ = images.given_shape
        estimator.n_features_in_ = math.prod(estimator.image_shape_)
    estimator.input_shape_ = images.shape
    return replace(images, n_jobs=estimator.n_jobs), np.asarray(y), estimator.image_shape_


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


def check_images(estimator: BaseEstimator, X: Any, *, input_name: str = "X") -> Images:
    """Check images like those of `fit`."""
    height, width, channels = estimator.input_shape_
    size = None if estimator.image_size is None else (height, width)
    images = _find_images(X, size, channels, input_name=input_name)
    if images is None:
        rows = validate_data(estimator, as_array(X), reset=False)
        images = _check_rows(estimator, rows, size)
    if images.shape != estimator.input_shape_:
        raise ValueError(
            f"Images in {input_name} must have {describe(estimator.input_shape_)} as in fit, got "
            f"{describe(images.shape)}."
        )
    return replace(images, n_jobs=estimator.n_jobs)


def _find_images(
    X: Any,
    size: tuple[int, int] | None,
    channels: int | None = None,
    *,
    input_name: str = "X",
) -> ArrayImages | FileImages | None:
    """Check images and paths of images; None where X must be rows."""
    paths = find_paths(X)
    if paths is not None:
        return _check_files(paths, size, channels, input_name)
    found = find_images(as_array(X), size)
    return None if found is None else _check_arrays(*found, input_name)


def _check_rows(
    estimator: BaseEstimator, X: NDArray[Any], size: tuple[int, int] | None
) -> ArrayImages:
    """Unfold rows that have been checked."""
    return ArrayImages(*resize_all(X.reshape(-1, *estimator.image_shape_), size))


def _check_arrays(
    pixels: NDArray[Any], sizes: NDArray[np.int64] | None, input_name: str
) -> ArrayImages:
    """Check what pixels (n, H, W, C) are."""
    rows = pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))
    flat = check_array(rows, input_name=input_name)
    return ArrayImages(flat.reshape(pixels.shape), sizes)


def _check_files(
    paths: list[str], size: tuple[int, int] | None, channels: int | None, input_name: str
) -> FileImages:
    """Check that paths are images, by their headers; colour where one of them has colour."""
    headers = [
        naming_row(f"Row {row} of {input_name}", read_header, path)
        for row, path in enumerate(paths)
    ]
    sizes = np.array([header.size for header in headers])
    if size is None and (differs := np.flatnonzero((sizes != sizes[0]).any(1))).size:
        row = differs[0]
        raise ValueError(
            f"Images in {input_name} must have one size unless image_size is set, got "
            f"{headers[0].size} for {paths[0]!r} and {headers[row].size} in row {row} for "
            f"{paths[row]!r}."
        )
    if channels is None:
        channels = 3 if any(header.is_colour for header in headers) else 1
    elif channels not in {1, 3}:
        raise ValueError(
            f"Images in {input_name} must have {channels} channels as in fit, and files give 1 "
            "or 3: pass arrays."
        )
    depth = max(header.depth for header in headers)
    return FileImages(paths, (*(size or headers[0].size), channels), sizes, depth, input_name)
