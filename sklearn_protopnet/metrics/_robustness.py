"""Whether an explanation holds if the image changes a bit.

Shapes: n pairs of an image and a prototype.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet.metrics._checks import numbers


def spatial_misalignment(similarities: ArrayLike, similarities_attacked: ArrayLike) -> float:
    """Compute the share of a similarity that pixels outside of its box can take; 0 is best.

    Sacha et al., "Interpretability Benchmark for Evaluating Spatial Misalignment of Prototypical
    Parts Explanations", AAAI 2024 (activation change). It is 0 for the box of a receptive field.
    Needs no annotation, and an attack: that of `prototype_report`, for example.

    Parameters
    ----------
    similarities : array-like of shape (n_pairs,)
        Of images and prototypes. Those that are not positive have no share, and do not count.
    similarities_attacked : array-like of shape (n_pairs,)
        The same after pixels outside of the box were changed.

    Returns
    -------
    float
        Mean over pairs; NaN if none counts.

    Raises
    ------
    ValueError
        If there is no pair, or shapes do not match.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import spatial_misalignment
    >>> spatial_misalignment([4.0, 2.0], [1.0, 2.0])
    0.375
    """
    before = numbers("similarities", similarities, 1)
    after = numbers("similarities_attacked", similarities_attacked, 1)
    if after.shape != before.shape:
        raise ValueError(
            "similarities_attacked must have the shape of similarities, "
            f"{before.shape}, got {after.shape}."
        )
    counts = before > 0
    if not counts.any():
        return float("nan")
    return float((1 - after[counts] / before[counts]).mean())


def location_change(boxes: ArrayLike, boxes_changed: ArrayLike) -> float:
    """Compute how far boxes move if the image changes a bit; 0 is best.

    One minus the intersection over union of a box before and after, after the location change of
    Sacha et al., AAAI 2024, who take pixels of high similarity under attack. Needs no annotation.

    Parameters
    ----------
    boxes : array-like of shape (n_pairs, 4)
        ``y0, y1, x0, x1``, half-open, of images and prototypes.
    boxes_changed : array-like of shape (n_pairs, 4)
        The same of the changed images.

    Returns
    -------
    float
        Mean over pairs, from 0 to 1: 0 if all stay where they are, 1 if none overlaps itself. A
        box without pixels stays where it is only if it does not change.

    Raises
    ------
    ValueError
        If there is no pair, or shapes do not match.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import location_change
    >>> location_change([[0, 4, 0, 4]], [[0, 4, 2, 4]])
    0.5
    """
    before, after = numbers("boxes", boxes, 2), numbers("boxes_changed", boxes_changed, 2)
    if before.shape[1] != 4 or after.shape != before.shape:
        raise ValueError(
            "boxes and boxes_changed must have one shape (n_pairs, 4), got "
            f"{before.shape} and {after.shape}."
        )
    starts = np.maximum(before[:, ::2], after[:, ::2])  # (n, 2)
    stops = np.minimum(before[:, 1::2], after[:, 1::2])
    shared = np.maximum(stops - starts, 0).prod(1)  # (n,)
    union = _areas(before) + _areas(after) - shared
    same = (before == after).all(1).astype(np.float64)
    return float(1 - np.divide(shared, union, out=same, where=union > 0).mean())


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of boxes (n, 4); (n,)."""
    areas: NDArray[np.float64] = np.maximum(boxes[:, 1::2] - boxes[:, ::2], 0).prod(1)
    return areas
