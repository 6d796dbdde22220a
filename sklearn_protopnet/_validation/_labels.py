"""Labels of images and their weights: checked, counted, set aside.

Shapes: n images, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import column_or_1d

from sklearn_protopnet._compat import check_sample_weight
from sklearn_protopnet._training import TrainingSet


def class_indices(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Find labels (n,) among classes (K,), -1 where there is none; text is no number."""
    given, known = (
        each.astype(np.int64) if each.dtype == bool else each for each in (labels, classes)
    )
    indices: NDArray[np.int64] = pd.Index(known).get_indexer(pd.Index(given)).astype(np.int64)
    return indices


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
    indices = class_indices(labels, classes)
    unknown = list(dict.fromkeys(labels[indices < 0].tolist()))
    if unknown:
        raise ValueError(
            f"{name} must hold classes of the training y only, {classes.tolist()}, got {unknown}."
        )
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
