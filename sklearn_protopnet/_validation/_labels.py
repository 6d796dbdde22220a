"""Labels of images and their weights: checked, counted, set aside.

Shapes: n images, K classes.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import column_or_1d

from sklearn_protopnet._compat import check_sample_weight
from sklearn_protopnet._images import Dataset
from sklearn_protopnet._validation._parameters import check_text

NAMED_LABELS: Final = 10
"""A message names so many unknown labels at most."""


def native_order(labels: NDArray[Any]) -> NDArray[Any]:
    """Bring labels to the byte order of the machine: FITS, IDX and HDF5 files have another.

    Floats that pandas does not know, shorter and longer ones, become those that it knows.
    """
    if labels.dtype.kind == "T":  # NumPy's text of any length
        return labels.astype(object)
    dtype = labels.dtype.newbyteorder("=")
    if dtype.kind == "f":
        dtype = np.dtype(f"f{min(max(dtype.itemsize, 4), 8)}")
    return labels.astype(dtype, copy=False)


def find_classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Find the classes (K,) of labels (n,), and each label's class.

    Raises
    ------
    ValueError
        If a label is text that UTF-8 cannot hold, or labels have no order, as text and numbers.
    """
    check_text("Labels in y", y)
    try:
        classes, indices = np.unique(native_order(y), return_inverse=True)
    except TypeError as error:
        raise ValueError(
            f"Labels in y must be of one kind, got some that have no order: {error}."
        ) from error
    return classes, indices.astype(np.int64, copy=False)


def class_indices(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Find labels (n,) among classes (K,), -1 where there is none; text is no number."""
    given, known = (
        each.astype(np.int64) if _are_truths(each) else native_order(each)
        for each in (labels, classes)
    )
    # As objects, or pandas would refuse text that UTF-8 cannot hold before it is found unknown.
    index, wanted = (
        pd.Index(each, dtype=object if each.dtype.kind in "OU" else None) for each in (known, given)
    )
    indices: NDArray[np.int64] = index.get_indexer(wanted).astype(np.int64)
    return indices


def _are_truths(labels: NDArray[Any]) -> bool:
    """Whether labels are True and False, as objects too."""
    is_object = labels.dtype == object and len(labels) > 0
    return labels.dtype == bool or (
        is_object and all(isinstance(label, bool | np.bool_) for label in labels)
    )


def check_labels(
    name: str, y: ArrayLike | None, images_name: str, n_images: int, classes: NDArray[Any]
) -> NDArray[np.int64]:
    """Check labels of images that a fitted classifier is to know; class indices (n,)."""
    labels = _column(name, y)
    if labels.shape != (n_images,):
        raise ValueError(
            f"{name} must have one label for each of the {n_images} images in {images_name}, "
            f"got shape {labels.shape}."
        )
    try:
        indices = class_indices(labels, classes)
    except TypeError as error:  # what cannot be hashed
        raise ValueError(f"{name} must hold labels, found: {_first_line(error)}") from error
    unknown = pd.unique(labels[indices < 0]).tolist()
    if unknown:
        raise ValueError(
            f"{name} must hold classes of the training y only, {_few(classes.tolist())}, got "
            f"{_few(unknown)}."
        )
    return indices


def _column(name: str, y: ArrayLike | None) -> NDArray[Any]:
    """Bring labels to one axis; scikit-learn's function calls all of them y, and prints some."""
    try:
        return native_order(column_or_1d(y, warn=True))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{name} must hold one label for each image, found: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _few(labels: list[Any]) -> str:
    """Name labels in a message, the first of them if there are many."""
    if len(labels) <= NAMED_LABELS:
        return str(labels)
    first = ", ".join(map(repr, labels[:NAMED_LABELS]))
    return f"[{first}, ...] ({len(labels)} in all)"


def effective_weights(
    sample_weight: ArrayLike | None,
    class_weight: dict[Any, float] | str | None,
    classes: NDArray[Any],
    labels: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Multiply sample weights by the weights of the classes.

    Returns
    -------
    float64 array of shape (n,)
        The products, all multiplied by one power of 2, so that the largest lies between 1/4 and
        1: neither a product nor a sum of them leaves the range of numbers, and no bit is lost.
    """
    weights = scaled_weights(sample_weight, labels)
    effective = _product(weights, _weights_of_classes(class_weight, classes, labels, weights))
    if not (effective > 0).any():
        raise ValueError(
            "Sample and class weights must leave an image with a positive weight, got none with "
            f"class_weight={class_weight!r}."
        )
    return effective


def _weights_of_classes(
    class_weight: dict[Any, float] | str | None,
    classes: NDArray[Any],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Give every image (n,) the weight of its class."""
    per_class = np.ones(len(classes))
    here = weights > 0  # a row of weight 0 is no row, and counts in no balance
    # Only present classes can be balanced; a dict may leave out any, present or not.
    named = np.unique(labels[here]) if isinstance(class_weight, str) else np.arange(len(classes))
    try:
        per_class[named] = compute_class_weight(
            class_weight,
            classes=classes[named],
            y=classes[labels[here]],
            sample_weight=weights[here],
        )
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            "class_weight must be None, 'balanced' or a dict with numbers for classes, found: "
            f"{_first_line(error)}"
        ) from error
    for label, weight in zip(classes.tolist(), per_class.tolist(), strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                "class_weight must hold numbers that are finite and not negative, got "
                f"{weight} for class {label!r}."
            )
    return per_class[labels]


def scaled_weights(
    sample_weight: ArrayLike | None, labels: NDArray[np.int64], name: str = "sample_weight"
) -> NDArray[np.float64]:
    """Check sample weights (n,), and multiply them by a power of 2 so that they can be added."""
    try:
        with np.errstate(over="ignore"):  # long floats become infinite, which is refused
            if sample_weight is not None and np.asarray(sample_weight).dtype.kind in "mM":
                raise TypeError("dates")  # noqa: TRY301 - as scikit-learn would if it knew of them
            weights = check_sample_weight(
                sample_weight, labels, dtype=np.float64, ensure_non_negative=True
            )
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be None or hold a number for each image, none negative and not all 0, "
            f"found: {_first_line(error)}"
        ) from error
    return _product(weights, np.ones(len(weights)))


def _product(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply weights (n,), exponents apart: 1e308 and 1e-320 are weights like any other."""
    mantissas, exponents = np.frexp(one)
    more_mantissas, more_exponents = np.frexp(other)
    product, exponents = mantissas * more_mantissas, exponents + more_exponents
    largest = exponents[product > 0].max(initial=-(2**20))
    scaled: NDArray[np.float64] = np.ldexp(product, exponents - largest)
    return scaled


def check_two_classes(classes: NDArray[Any], labels: NDArray[np.int64]) -> None:
    """Raise unless images of at least two classes are left to train on."""
    present = classes[np.unique(labels)].tolist()
    if len(present) < 2:
        raise ValueError(
            "A classifier needs images of at least 2 classes with positive weights, got one "
            f"class: {present[0]!r}."
        )


def split_validation(
    dataset: Dataset, fraction: float, seed: int, is_kept: NDArray[np.bool_] | None = None
) -> tuple[Dataset, Dataset]:
    """Set validation images aside, stratified; equal images of one class stay together.

    Those that must be kept (n,) are, whatever is drawn.
    """
    sizes = np.bincount(dataset.labels)
    sizes = sizes[sizes > 0]
    n_aside = math.ceil(fraction * len(dataset))
    if sizes.min() < 2 or not len(sizes) <= n_aside <= len(dataset) - len(sizes):
        raise ValueError(
            "early_stopping sets distinct images of every class aside and keeps some: "
            f"validation_fraction={fraction} of {len(dataset)} images of {len(sizes)} classes, "
            f"the smallest of which has {sizes.min()}, does not allow that. Another fraction, more "
            "images, or X_val and y_val would."
        )
    kept, set_aside = train_test_split(
        np.arange(len(dataset)), test_size=fraction, stratify=dataset.labels, random_state=seed
    )
    if is_kept is not None:
        kept = np.concatenate([kept, set_aside[is_kept[set_aside]]])
        set_aside = set_aside[~is_kept[set_aside]]
        if len(set_aside) == 0:
            raise ValueError(
                "early_stopping sets images aside, and all that were drawn have prototypes that an "
                "editor requires. A larger validation_fraction, or X_val and y_val would do."
            )
    return dataset.take(kept), dataset.take(set_aside)
