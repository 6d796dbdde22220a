"""What `fit` is given: images, labels, weights and validation images, checked together.

Shapes: n images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from sklearn_protopnet._compat import check_sample_weight
from sklearn_protopnet._images import Images, ImageSource, Standardization
from sklearn_protopnet._network import published_standardization
from sklearn_protopnet._training import LabelledImages, TrainingSet, canonical_training_set
from sklearn_protopnet._validation._images import check_images, check_training_images
from sklearn_protopnet._validation._labels import (
    check_labels,
    check_two_classes,
    effective_weights,
    split_validation,
)


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
        estimator.backbone, estimator.weights, estimator.input_shape_[2]
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
