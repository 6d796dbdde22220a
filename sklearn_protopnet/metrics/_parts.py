"""Whether a prototype stands for one part of an object, and for the same one everywhere.

Shapes: n images, P prototypes, A annotated parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.metrics._checks import check_share, numbers, truths


def part_presence(boxes: ArrayLike, part_centres: ArrayLike) -> NDArray[np.bool_]:
    """Say which parts lie in which boxes; what the other metrics of parts begin with.

    After Huang et al., "Evaluation and Improvement of Interpretability for Self-Explainable
    Part-Prototype Networks", ICCV 2023, who ask which annotated parts lie in the region of a
    prototype. Needs part positions. It is no score: neither answer is better.

    Parameters
    ----------
    boxes : array-like of shape (n, n_prototypes, 4)
        ``y0, y1, x0, x1``, half-open, where each prototype is found in each image.
    part_centres : array-like of shape (n, n_parts, 2)
        ``y, x`` in pixels, from the upper left corner of the image; NaN for a part that is not
        visible.

    Returns
    -------
    bool ndarray of shape (n, n_prototypes, n_parts)
        Whether the centre of the part lies in the box.

    Raises
    ------
    ValueError
        If shapes do not match.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import part_presence
    >>> part_presence([[[0, 4, 0, 4]]], [[[1.5, 3.9], [1.5, 4.0]]]).tolist()
    [[[True, False]]]
    """
    edges = numbers("boxes", boxes, 3)
    centres = np.asarray(part_centres, dtype=np.float64)
    if edges.shape[2] != 4 or centres.ndim != 3 or centres.shape[::2] != (len(edges), 2):
        raise ValueError(
            "boxes must have the shape (n, n_prototypes, 4) and part_centres (n, n_parts, 2), got "
            f"{edges.shape} and {centres.shape}."
        )
    y0, y1, x0, x1 = np.moveaxis(edges[:, :, None, :], 3, 0)  # (n, P, 1) each
    y, x = np.moveaxis(centres[:, None, :, :], 3, 0)  # (n, 1, A); NaN is in no box
    found: NDArray[np.bool_] = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    return found


def part_rates(
    presence: ArrayLike, visible: ArrayLike, *, min_count: int = 10
) -> NDArray[np.float64]:
    """Compute how often each part lies in each prototype's box, of the images that show the part.

    What `consistency` is made of (Huang et al., ICCV 2023): a larger rate of a prototype's best
    part is better. Needs part positions.

    Parameters
    ----------
    presence : bool array-like of shape (n, n_prototypes, n_parts)
        `part_presence`.
    visible : bool array-like of shape (n, n_parts) or (n, n_prototypes, n_parts)
        Whether a part is visible in an image, or counts for a prototype there.
    min_count : int, default=10
        A part that is visible in fewer images does not count.

    Returns
    -------
    float64 ndarray of shape (n_prototypes, n_parts)
        From 0 to 1; NaN for parts that do not count.

    Raises
    ------
    ValueError
        If shapes do not match, or `min_count` is not positive.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import part_rates
    >>> part_rates([[[True, False]], [[False, False]]], [[True, True], [True, False]], min_count=2)
    array([[0.5, nan]])
    """
    check_positive("min_count", min_count)
    found, shown = _pairs(presence, visible)
    counts = shown.sum(0).astype(np.float64)  # (P, A)
    counts[counts < min_count] = np.nan
    rates: NDArray[np.float64] = (found & shown).sum(0) / counts
    return rates


def consistency(
    presence: ArrayLike, visible: ArrayLike, *, threshold: float = 0.8, min_count: int = 10
) -> float:
    """Compute the share of prototypes that stand for the same part; larger is better.

    Huang et al., "Evaluation and Improvement of Interpretability for Self-Explainable
    Part-Prototype Networks", ICCV 2023: a prototype is consistent if there is a part that
    lies in its box in at least 80 % of the images that show the part. Needs part positions.

    Parameters
    ----------
    presence : bool array-like of shape (n, n_prototypes, n_parts)
        `part_presence`. Images are those of the prototypes' class: give those of each class
        apart, or mask by `visible`.
    visible : bool array-like of shape (n, n_parts) or (n, n_prototypes, n_parts)
        Whether a part is visible in an image, or counts for a prototype there.
    threshold : float, default=0.8
        Share of images.
    min_count : int, default=10
        A part that is visible in fewer images does not count.

    Returns
    -------
    float
        From 0 to 1; NaN if no part is visible often enough.

    Raises
    ------
    ValueError
        If shapes do not match, `threshold` is not between 0 and 1, or `min_count` is not positive.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import consistency
    >>> presence = [[[True, False], [False, False]], [[True, True], [False, True]]]
    >>> consistency(presence, [[True, True], [True, True]], min_count=2)
    0.5
    """
    check_share("threshold", threshold)
    rates = part_rates(presence, visible, min_count=min_count)  # (P, A)
    counts = ~np.isnan(rates).all(1)  # (P,)
    if not counts.any():
        return float("nan")
    return float((np.nanmax(rates[counts], axis=1) >= threshold).mean())


def purity(presence: ArrayLike) -> float:
    """Compute how often a prototype's best patches show its most frequent part; larger is better.

    Nauta et al., "PIP-Net", CVPR 2023, who take the ten patches that are most similar to each
    prototype. Needs part positions.

    Parameters
    ----------
    presence : bool array-like of shape (k, n_prototypes, n_parts)
        `part_presence` of the k patches nearest to each prototype, each in an image of its own.

    Returns
    -------
    float
        Mean over prototypes of the share of the k patches, from 0 to 1.

    Raises
    ------
    ValueError
        If there is no patch.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import purity
    >>> purity([[[True, False]], [[True, True]], [[False, True]], [[True, False]]])
    0.75
    """
    return float(_presence("presence", presence).mean(0).max(1).mean())


def stability(
    presence: ArrayLike, presence_changed: ArrayLike, *, covered_only: bool = False
) -> float:
    """Compute how often a prototype keeps its parts if the image changes a bit; larger is better.

    Huang et al., ICCV 2023, for small noise. A box that holds no part before
    and after counts as stable: a prototype in the background is. `covered_only` leaves such pairs
    out. Needs part positions.

    Parameters
    ----------
    presence : bool array-like of shape (n, n_prototypes, n_parts)
        `part_presence`.
    presence_changed : bool array-like of shape (n, n_prototypes, n_parts)
        The same of the images with noise.
    covered_only : bool, default=False
        Whether only boxes that held a part before count.

    Returns
    -------
    float
        From 0 to 1; NaN if no box counts.

    Raises
    ------
    ValueError
        If shapes do not match.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import stability
    >>> before, after = [[[True], [False]]], [[[False], [False]]]
    >>> stability(before, after), stability(before, after, covered_only=True)
    (0.5, 0.0)
    """
    before = _presence("presence", presence)
    after = truths("presence_changed", presence_changed, before.shape)
    is_same = (before == after).all(2)  # (n, P)
    if covered_only:
        is_same = is_same[before.any(2)]
    return float(is_same.mean()) if is_same.size else float("nan")


def coverage(presence: ArrayLike) -> float:
    """Compute how often a prototype's box holds a part at all; larger is better.

    `consistency` and `stability` mean little without it. The definition is this package's own.
    Needs part positions.

    Parameters
    ----------
    presence : bool array-like of shape (n, n_prototypes, n_parts)
        `part_presence`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If there is no box.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import coverage
    >>> coverage([[[True, True], [False, False]]])
    0.5
    """
    return float(_presence("presence", presence).any(2).mean())


def _presence(name: str, presence: ArrayLike) -> NDArray[np.bool_]:
    return truths(name, presence, 3)


def _pairs(presence: ArrayLike, visible: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Presence and visibility, both (n, P, A)."""
    found = _presence("presence", presence)
    shown = np.asarray(visible)
    if shown.ndim == 2:
        shown = np.repeat(shown[:, None, :], found.shape[1], axis=1)
    return found, truths("visible", shown, found.shape)
