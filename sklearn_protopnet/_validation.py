"""What users pass: images, validation images, numbers and names, checked.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import (
    check_array,
    check_consistent_length,
    check_random_state,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from sklearn_protopnet._compat import check_sample_weight
from sklearn_protopnet._images import (
    ArrayImages,
    FileImages,
    Images,
    ImageShape,
    ImageSource,
    Standardization,
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
from sklearn_protopnet._labels import (
    check_labels,
    check_two_classes,
    effective_weights,
    split_validation,
)
from sklearn_protopnet._network import published_standardization
from sklearn_protopnet._training import LabelledImages, TrainingSet, canonical_training_set


@contextmanager
def all_or_nothing(estimator: BaseEstimator) -> Iterator[None]:
    """Put an estimator's attributes back if the block fails."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def prepare_training(
    estimator: BaseEstimator,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    held_out: tuple[Any, ArrayLike | None, ArrayLike | None],
) -> tuple[LabelledImages, LabelledImages | None, int]:
    """Check what `fit` is given, name `image_shape_` and `classes_`, and draw the seed.

    Parameters
    ----------
    estimator : ProtoPNetClassifier
    X, y, sample_weight
        As in `fit`.
    held_out : (X_val, y_val, sample_weight_val)

    Returns
    -------
    training : LabelledImages
    validation : LabelledImages or None
    seed : int
    """
    images, y = check_training_images(estimator, X, y)
    check_classification_targets(y)
    estimator.classes_, labels = np.unique(y, return_inverse=True)
    members = canonical_members(estimator, images, labels, sample_weight)
    check_two_classes(estimator.classes_, members)
    validation = check_validation_data(estimator, *held_out)
    seed = int(check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max))
    if estimator.early_stopping and validation is None:
        members, set_aside = split_validation(members, estimator.validation_fraction, seed)
        validation = images, set_aside
    standard = _standardization(estimator, images, members)
    return (
        LabelledImages(ImageSource(images, standard), members),
        LabelledImages(ImageSource(validation[0], standard), validation[1]) if validation else None,
        seed,
    )


def _standardization(
    estimator: BaseEstimator, images: Images, members: TrainingSet
) -> Standardization:
    """Standardise as published weights expect, or by what the training images are like."""
    published = published_standardization(
        estimator.backbone, estimator.weights, estimator.image_shape_[2]
    )
    if published is not None and images.are_bytes:
        return Standardization(*map(np.array, published))
    return Standardization.of(images.survey, members.rows, members.weights)


def canonical_members(
    estimator: BaseEstimator,
    images: Images,
    labels: NDArray[np.int64],
    sample_weight: ArrayLike | None,
) -> TrainingSet:
    """Weigh images by sample and class, and bring them into canonical order."""
    weights = effective_weights(sample_weight, estimator.class_weight, estimator.classes_, labels)
    return canonical_training_set(images.survey.digests, labels, weights)


def check_training_images(
    estimator: BaseEstimator, X: Any, y: ArrayLike
) -> tuple[Images, NDArray[Any]]:
    """Check the images and the labels of a fit, and name `image_shape_` and `n_features_in_`."""
    size, shape = check_size(estimator.image_size), check_shape(estimator.image_shape)
    images = _find_images(X, size)
    if images is None:
        X, y = validate_data(estimator, as_array(X), y)
        estimator.row_shape_ = shape_of_rows(shape, X.shape[1])
        images = _check_rows(estimator, X, size)
    else:
        y = validate_data(estimator, y=y)
        check_consistent_length(range(len(images)), y)
        if shape is not None:
            _check_shape_of(images, shape)
        estimator.row_shape_ = images.shape
        estimator.n_features_in_ = math.prod(images.shape)
    estimator.image_shape_ = images.shape
    return replace(images, n_jobs=estimator.n_jobs), np.asarray(y)


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
    height, width, channels = estimator.image_shape_
    size = None if estimator.image_size is None else (height, width)
    images = _find_images(X, size, channels, input_name=input_name)
    if images is None:
        rows = validate_data(estimator, as_array(X), reset=False)
        images = _check_rows(estimator, rows, size)
    if images.shape != estimator.image_shape_:
        raise ValueError(
            f"Images in {input_name} must have {describe(estimator.image_shape_)} as in fit, got "
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
    return ArrayImages(*resize_all(X.reshape(-1, *estimator.row_shape_), size))


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


def check_validation_data(
    estimator: BaseEstimator,
    X_val: Any,
    y_val: ArrayLike | None,
    sample_weight_val: ArrayLike | None,
) -> tuple[Images, TrainingSet] | None:
    """Check validation images; them and their labels, or None where there are none."""
    check_given_together(X_val, y_val)
    if X_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val needs X_val and y_val, got neither.")
        return None
    images = check_images(estimator, X_val, input_name="X_val")
    labels = check_labels("y_val", y_val, "X_val", len(images), estimator.classes_)
    weights = check_sample_weight(
        sample_weight_val, labels, dtype=np.float64, ensure_non_negative=True
    )
    return images, TrainingSet(np.arange(len(images)), labels, weights)


def check_given_together(X_val: Any, y_val: ArrayLike | None) -> None:
    """Raise where there are validation images without labels, or labels without images."""
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val must be given together, got one without the other.")


def check_positive(name: str, value: Any) -> None:
    """Check that a number is a positive integer."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")


def check_names(name: str, value: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Check names among known ones, and bring them into their order; ``"all"`` is all of them.

    Raises
    ------
    ValueError
        If there is no such name.
    """
    order, given = list(known), value
    if isinstance(value, str):
        value = order if value == "all" else (value,)
    wanted = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(each, str) and each in order for each in wanted):
        raise ValueError(f"{name} must be 'all' or names among {order}, got {given!r}.")
    return tuple(each for each in order if each in wanted)
