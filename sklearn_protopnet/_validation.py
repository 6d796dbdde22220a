"""What a fit accepts: images, labels, weights and validation images, checked.

Shapes: n images of H x W pixels and C channels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from sklearn_protopnet._compat import check_sample_weight
from sklearn_protopnet._images import (
    ImageSource,
    Standardization,
    flatten_images,
    resolve_image_shape,
)
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
    flat, shape = flatten_images(X)
    flat, y = validate_data(estimator, flat, y)
    check_classification_targets(y)
    estimator.image_shape_ = resolve_image_shape(estimator.image_shape, shape, flat.shape[1])
    estimator.classes_, labels = np.unique(y, return_inverse=True)
    pixels = flat.reshape(-1, *estimator.image_shape_)
    members = canonical_members(estimator, pixels, labels, sample_weight)
    check_two_classes(estimator.classes_, members)
    validation = check_validation_data(estimator, *held_out)
    seed = int(check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max))
    if estimator.early_stopping and validation is None:
        members, set_aside = split_validation(members, estimator.validation_fraction, seed)
        validation = pixels, set_aside
    standard = Standardization.of(pixels, members.rows, members.weights)
    return (
        LabelledImages(ImageSource(pixels, standard), members),
        LabelledImages(ImageSource(validation[0], standard), validation[1]) if validation else None,
        seed,
    )


def canonical_members(
    estimator: BaseEstimator,
    pixels: NDArray[Any],
    labels: NDArray[np.int64],
    sample_weight: ArrayLike | None,
) -> TrainingSet:
    """Weigh images by sample and class, and bring them into canonical order."""
    weights = effective_weights(sample_weight, estimator.class_weight, estimator.classes_, labels)
    return canonical_training_set(pixels.reshape(len(pixels), -1), labels, weights)


def check_images(estimator: BaseEstimator, X: Any) -> NDArray[Any]:
    """Check images like those of `fit`; pixels (n, H, W, C)."""
    flat, shape = flatten_images(X)
    flat = validate_data(estimator, flat, reset=False)
    resolve_image_shape(estimator.image_shape_, shape, flat.shape[1])
    pixels: NDArray[Any] = flat.reshape(-1, *estimator.image_shape_)
    return pixels


def check_validation_data(
    estimator: BaseEstimator,
    X_val: Any,
    y_val: ArrayLike | None,
    sample_weight_val: ArrayLike | None,
) -> tuple[NDArray[Any], TrainingSet] | None:
    """Check validation images; their pixels and labels, or None where there are none."""
    check_given_together(X_val, y_val)
    if X_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val needs X_val and y_val, got neither.")
        return None
    pixels = check_images(estimator, X_val)
    labels = check_labels("y_val", y_val, "X_val", len(pixels), estimator.classes_)
    weights = check_sample_weight(
        sample_weight_val, labels, dtype=np.float64, ensure_non_negative=True
    )
    return pixels, TrainingSet(np.arange(len(pixels)), labels, weights)


def check_given_together(X_val: Any, y_val: ArrayLike | None) -> None:
    """Raise where there are validation images without labels, or labels without images."""
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val must be given together, got one without the other.")


def check_labels(
    name: str, y: ArrayLike | None, images_name: str, n_images: int, classes: NDArray[Any]
) -> NDArray[np.int64]:
    """Check labels of images that a fitted classifier is to know; class indices (n,)."""
    labels = column_or_1d(y, warn=True)
    if labels.shape != (n_images,):
        raise ValueError(
            f"{name} must have one label for each of the {n_images} images in {images_name}, "
            f"got shape {labels.shape}."
        )
    unknown = list(dict.fromkeys(labels[~np.isin(labels, classes)].tolist()))
    if unknown:
        raise ValueError(
            f"{name} must hold classes of the training y only, {classes.tolist()}, got {unknown}."
        )
    indices: NDArray[np.int64] = np.searchsorted(classes, labels)
    return indices


def effective_weights(
    sample_weight: ArrayLike | None,
    class_weight: dict[Any, float] | str | None,
    classes: NDArray[Any],
    labels: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Multiply sample weights by the weights of the classes, (n,)."""
    weights = check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
    per_class = np.ones(len(classes))
    here = weights > 0  # a row of weight 0 is no row, and counts in no balance
    present = np.unique(labels[here])
    per_class[present] = compute_class_weight(
        class_weight,
        classes=classes[present],
        y=classes[labels[here]],
        sample_weight=weights[here],
    )
    if not (np.isfinite(per_class) & (per_class >= 0)).all():
        raise ValueError(
            f"Weights of classes must be finite and not negative, got {class_weight!r}."
        )
    effective: NDArray[np.float64] = weights * per_class[labels]
    if not (effective > 0).any():
        raise ValueError(
            "Sample and class weights must leave an image with a positive weight, got none with "
            f"class_weight={class_weight!r}."
        )
    return effective


def check_two_classes(classes: NDArray[Any], members: TrainingSet) -> None:
    """Raise unless images of at least two classes are left to train on."""
    present = classes[np.unique(members.labels)].tolist()
    if len(present) < 2:
        raise ValueError(
            "A classifier needs images of at least 2 classes with positive weights, got one "
            f"class: {present[0]!r}."
        )


def split_validation(
    members: TrainingSet, fraction: float, seed: int
) -> tuple[TrainingSet, TrainingSet]:
    """Set validation images aside, stratified; equal images of one class stay together."""
    sizes = np.bincount(members.labels)
    sizes = sizes[sizes > 0]
    n_aside = math.ceil(fraction * len(members))
    if sizes.min() < 2 or not len(sizes) <= n_aside <= len(members) - len(sizes):
        raise ValueError(
            "early_stopping sets distinct images of every class aside and keeps some: "
            f"validation_fraction={fraction} of {len(members)} images of {len(sizes)} classes, "
            f"the smallest of which has {sizes.min()}, does not allow that. Another fraction, more "
            "images, or X_val and y_val would."
        )
    kept, set_aside = train_test_split(
        np.arange(len(members)), test_size=fraction, stratify=members.labels, random_state=seed
    )
    return members.take(kept), members.take(set_aside)
