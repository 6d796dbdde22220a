"""What `fit` is given: images, labels, weights and validation images, checked together.

Shapes: n images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from sklearn_protopnet._images import (
    ArrayImages,
    Dataset,
    Images,
    ImageSource,
    Standardization,
    canonical_dataset,
    unstandardized,
)
from sklearn_protopnet._network import published_standardization, resolve_device
from sklearn_protopnet._ranks import Ranks
from sklearn_protopnet._validation._images import check_images
from sklearn_protopnet._validation._labels import (
    check_labels,
    check_two_classes,
    effective_weights,
    find_classes,
    scaled_weights,
    split_validation,
)


@dataclass(frozen=True)
class TrainingData:
    """What `fit` is given, checked."""

    classes: NDArray[Any]
    """(K,) labels."""
    training: Dataset
    validation: Dataset | None
    seed: int
    """Of everything that the fit draws."""


def prepare_training(
    estimator: BaseEstimator,
    images: Images,
    y: NDArray[Any],
    sample_weight: ArrayLike | None,
    held_out: tuple[Any, ArrayLike | None, ArrayLike | None],
    *,
    standardization: Standardization | None,
    kept_images: NDArray[Any] | None = None,
) -> TrainingData:
    """Check what else `fit` is given, set images aside if it asks for that, draw the seed.

    Parameters
    ----------
    estimator : ProtoPNetClassifier
        Its parameters are read, and the shapes of the images.
    images, y
        As `check_training_images` gives them.
    sample_weight
        As in `fit`.
    held_out : (X_val, y_val, sample_weight_val)
    standardization : Standardization or None
        Of an earlier fit; with None, that of these images.
    kept_images : array of shape (r, H, W, C), default=None
        Images that are not set aside.

    Returns
    -------
    TrainingData
    """
    classes, labels = find_classes(y)
    check_classification_targets(y)
    training = weighted_dataset(
        unstandardized(images), labels, sample_weight, estimator.class_weight, classes
    )
    check_two_classes(classes, training.labels)
    validation = check_validation_data(estimator, *held_out, classes)
    drawn = int(check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max))
    seed = Ranks.now(resolve_device(estimator.device)).from_first(lambda: drawn)
    if estimator.early_stopping and validation is None:
        kept = _rows_of(kept_images, training)
        training, validation = split_validation(training, estimator.validation_fraction, seed, kept)
    standardization = standardization or _standardization(estimator, training)
    return TrainingData(
        classes,
        training.standardized(standardization),
        validation and validation.standardized(standardization),
        seed,
    )


def _rows_of(images: NDArray[Any] | None, dataset: Dataset) -> NDArray[np.bool_]:
    """Say which images of a dataset (n,) are among others (r, H, W, C)."""
    if images is None or not len(images):
        return np.zeros(len(dataset), dtype=bool)
    wanted = {*map(bytes, ArrayImages(images).survey.digests)}
    digests = dataset.source.images.survey.digests[dataset.rows]
    return np.array([bytes(digest) in wanted for digest in digests], dtype=bool)


def _standardization(estimator: BaseEstimator, training: Dataset) -> Standardization:
    """Standardise as published weights expect, or by what the training images are like."""
    images = training.source.images
    published = published_standardization(estimator.backbone, estimator.weights, images.shape[2])
    if published is not None and images.are_bytes:
        return Standardization(*map(np.array, published))
    return Standardization.of(images.survey, training.rows, training.weights)


def weighted_dataset(
    source: ImageSource,
    labels: NDArray[np.int64],
    sample_weight: ArrayLike | None,
    class_weight: dict[Any, float] | str | None,
    classes: NDArray[Any],
) -> Dataset:
    """Weigh images by sample and class, and bring them into canonical order."""
    weights = effective_weights(sample_weight, class_weight, classes, labels)
    return canonical_dataset(source, labels, weights)


def check_validation_data(
    estimator: BaseEstimator,
    X_val: Any,
    y_val: ArrayLike | None,
    sample_weight_val: ArrayLike | None,
    classes: NDArray[Any],
) -> Dataset | None:
    """Check validation images and their labels; None where there are none."""
    check_given_together(X_val, y_val)
    if X_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val needs X_val and y_val, got neither.")
        return None
    images = check_images(
        estimator, X_val, input_name="X_val", is_resized=estimator.image_size is not None
    )
    labels = check_labels("y_val", y_val, "X_val", len(images), classes)
    weights = scaled_weights(sample_weight_val, labels, "sample_weight_val")
    return Dataset(unstandardized(images), np.arange(len(images)), labels, weights)


def check_given_together(X_val: Any, y_val: ArrayLike | None) -> None:
    """Raise where there are validation images without labels, or labels without images."""
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val must be given together, got one without the other.")
