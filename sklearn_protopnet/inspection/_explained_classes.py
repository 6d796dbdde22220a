"""Which classes an explanation is about.

Shapes: n samples, K classes, k classes explained per sample.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._validation import check_positive, class_indices


def check_top_classes(n_top_classes: Any, classes: str | ArrayLike) -> None:
    """Check that a number of top classes is one, and stands instead of `classes`.

    Raises
    ------
    ValueError
        If it is not positive, or there are classes as well.
    """
    if n_top_classes is None:
        return
    check_positive("n_top_classes", n_top_classes)
    if not (isinstance(classes, str) and classes == "predicted"):
        raise ValueError(
            f"n_top_classes must stand instead of classes, got {n_top_classes!r} and "
            f"classes={classes!r}."
        )


def explained_classes(
    classes: str | ArrayLike,
    labels: NDArray[Any],
    logits: NDArray[np.float64],
    n_top_classes: int | None = None,
) -> NDArray[np.int64]:
    """Say which classes to explain for every sample.

    Parameters
    ----------
    classes : {"predicted", "all"} or array-like of labels
    labels : array of shape (K,)
        All labels, sorted.
    logits : float64 array of shape (n, K)
    n_top_classes : int or None
        Instead of `classes`: those of so many largest logits; of logits that tie, the first.

    Returns
    -------
    int64 array of shape (n, k)
        Class indices.

    Raises
    ------
    ValueError
        If a label is unknown, or there is none, or there are fewer classes.
    """
    if n_top_classes is not None:
        if n_top_classes > len(labels):
            raise ValueError(
                f"n_top_classes must be at most the number of classes, {len(labels)}, got "
                f"{n_top_classes!r}."
            )
        ranked: NDArray[np.int64] = np.argsort(-logits, axis=1, kind="stable")
        return ranked[:, :n_top_classes]
    if isinstance(classes, str) and classes == "predicted":
        predicted: NDArray[np.int64] = logits.argmax(1)[:, None]
        return predicted
    chosen = np.arange(len(labels))
    if not (isinstance(classes, str) and classes == "all"):
        chosen = known_classes(classes, labels, keywords="'predicted', 'all' or ")
    return np.repeat(chosen[None], len(logits), axis=0)


def known_classes(
    classes: ArrayLike, labels: NDArray[Any], *, keywords: str = ""
) -> NDArray[np.int64]:
    """Find classes among known labels.

    Parameters
    ----------
    classes : label or array-like of labels
    labels : array of shape (K,)
        All labels.
    keywords : str
        What the caller takes besides labels, for the message.

    Returns
    -------
    int64 array of shape (k,)
        Class indices, each once.

    Raises
    ------
    ValueError
        If a label is unknown, or there is none.
    """
    found = _find(classes, labels)
    if len(found) == 0 or (found < 0).any():
        raise ValueError(
            f"classes must be {keywords}labels among {labels.tolist()}, got {classes!r}."
        )
    return np.asarray(pd.unique(found))  # a class named twice is named


def _find(classes: ArrayLike, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Find classes (k,) among labels (K,); -1 of what is no label, and for what is no list."""
    nothing = np.full(1, -1)
    try:
        wanted = np.atleast_1d(np.asarray(classes))
    except ValueError:  # lists of different lengths
        return nothing
    if wanted.ndim > 1 or not all(isinstance(each, Hashable) for each in wanted.tolist()):
        return nothing
    return class_indices(wanted, labels)
