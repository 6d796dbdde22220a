"""Whether the pixels that an explanation names are those that the score depends on.

Shapes: an image of H x W pixels and C channels, M variants of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.metrics._checks import numbers

NO_DIFFERENCE: Final = 0.1
"""The score of the baseline must differ by this share: less is not worth sharing out."""

Score = Callable[[NDArray[Any]], ArrayLike]
"""A score gives a number for each of images (M, H, W, C)."""


def deletion_auc(
    score: Score, image: ArrayLike, relevance: ArrayLike, baseline: ArrayLike, *, n_steps: int = 20
) -> float:
    """Compute how much of a score is left while the most relevant pixels go; smaller is better.

    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    BMVC 2018, with the score of the image as 1 and that of the baseline as 0. Needs no annotation.

    Parameters
    ----------
    score : callable
        Takes images of shape (m, H, W, C) and gives m numbers.
    image : array-like of shape (H, W, C)
        The image that is explained: what there is before.
    relevance : array-like of shape (H, W)
        How much each pixel counts. Of pixels that tie, the first go first.
    baseline : array-like of shape (H, W, C)
        What takes the place of pixels: a blurred image, for example.
    n_steps : int, default=20
        Steps in which pixels go.

    Returns
    -------
    float
        Area under the curve of the score over the share of pixels that are gone: 1/2 where every
        pixel counts alike. NaN if the scores of image and baseline differ by less than a tenth:
        then there is hardly anything to share out.

    Raises
    ------
    ValueError
        If shapes do not match, scores are no finite numbers, one for each image, or `n_steps` is
        not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_protopnet.metrics import deletion_auc
    >>> image = np.array([[[4.0], [0.0]]])
    >>> score = lambda images: images.sum((1, 2, 3))
    >>> deletion_auc(score, image, [[1.0, 0.0]], np.zeros((1, 2, 1)), n_steps=2)
    0.25
    """
    values, ranks, fill = _checked(image, relevance, baseline)
    return _area(score, values, fill, ranks, n_steps)


def insertion_auc(
    score: Score, image: ArrayLike, relevance: ArrayLike, baseline: ArrayLike, *, n_steps: int = 20
) -> float:
    """Compute how much of a score the most relevant pixels bring back; larger is better.

    Petsiuk, Das and Saenko, BMVC 2018, with the score of the image as 1 and that of the baseline
    as 0. Needs no annotation.

    Parameters
    ----------
    score : callable
        As for `deletion_auc`.
    image : array-like of shape (H, W, C)
        The image that is explained.
    relevance : array-like of shape (H, W)
        How much each pixel counts. Of pixels that tie, the first come first.
    baseline : array-like of shape (H, W, C)
        What there is before.
    n_steps : int, default=20
        Steps in which pixels come.

    Returns
    -------
    float
        Area under the curve of the score over the share of pixels that are there; above 1 if a
        part of the image has a larger score than all of it. NaN if the scores of image and
        baseline differ by less than a tenth: then there is hardly anything to share out.

    Raises
    ------
    ValueError
        As for `deletion_auc`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_protopnet.metrics import insertion_auc
    >>> image = np.array([[[4.0], [0.0]]])
    >>> score = lambda images: images.sum((1, 2, 3))
    >>> insertion_auc(score, image, [[1.0, 0.0]], np.zeros((1, 2, 1)), n_steps=2)
    0.75
    """
    values, ranks, fill = _checked(image, relevance, baseline)
    return 1 - _area(score, fill, values, ranks, n_steps)


def box_sufficiency(score: Score, image: ArrayLike, box: ArrayLike, baseline: ArrayLike) -> float:
    """Compute the share of a score that is left if all pixels outside of a box go; 1 is best.

    After sufficiency of DeYoung et al., "ERASER: A Benchmark to Evaluate Rationalized NLP Models",
    ACL 2020, who take the difference of probabilities, and words of a text; the share, and boxes,
    are this package's own. It is 1 for the box of a receptive field, whatever replaces the pixels.
    Needs no annotation.

    Parameters
    ----------
    score : callable
        Takes images of shape (m, H, W, C) and gives m numbers.
    image : array-like of shape (H, W, C)
        The image that is explained.
    box : array-like of shape (4,)
        ``y0, y1, x0, x1``, half-open.
    baseline : array-like of shape (H, W, C)
        What takes the place of pixels.

    Returns
    -------
    float
        Score after over score before; NaN if that is not positive.

    Raises
    ------
    ValueError
        If shapes do not match, scores are no finite numbers, one for each image, or the box does
        not lie in the image.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_protopnet.metrics import box_sufficiency
    >>> score = lambda images: images.sum((1, 2, 3))
    >>> box_sufficiency(score, [[[3.0], [1.0]]], [0, 1, 0, 1], np.zeros((1, 2, 1)))
    0.75
    """
    return _left(score, image, box, baseline, keeps_inside=True)


def box_necessity(score: Score, image: ArrayLike, box: ArrayLike, baseline: ArrayLike) -> float:
    """Compute the share of a score that goes with the pixels inside of a box; larger is better.

    After comprehensiveness of DeYoung et al., ACL 2020, who take the difference of probabilities,
    and words of a text; the share, and boxes, are this package's own. Needs no annotation.

    Parameters
    ----------
    score : callable
        As for `box_sufficiency`.
    image : array-like of shape (H, W, C)
        As for `box_sufficiency`.
    box : array-like of shape (4,)
        As for `box_sufficiency`.
    baseline : array-like of shape (H, W, C)
        As for `box_sufficiency`.

    Returns
    -------
    float
        1 minus the score after over the score before; NaN if that is not positive.

    Raises
    ------
    ValueError
        As for `box_sufficiency`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_protopnet.metrics import box_necessity
    >>> score = lambda images: images.sum((1, 2, 3))
    >>> box_necessity(score, [[[3.0], [1.0]]], [0, 1, 0, 1], np.zeros((1, 2, 1)))
    0.75
    """
    return 1 - _left(score, image, box, baseline, keeps_inside=False)


def _checked(
    image: ArrayLike, relevance: ArrayLike, baseline: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]:
    """Image, rank of each pixel (H, W) and baseline."""
    values, fill = _pair(image, baseline)
    order = numbers("relevance", relevance, 2)
    if order.shape != values.shape[:2]:
        raise ValueError(
            f"relevance must have the shape of the image, {values.shape[:2]}, got {order.shape}."
        )
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[np.argsort(-order.ravel(), kind="stable")] = np.arange(order.size)
    return values, ranks.reshape(order.shape), fill


def _pair(image: ArrayLike, baseline: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    values, fill = np.asarray(image), np.asarray(baseline)
    if values.ndim != 3 or values.size == 0 or fill.shape != values.shape:
        raise ValueError(
            "image and baseline must have one shape (H, W, C), got "
            f"{values.shape} and {fill.shape}."
        )
    return values, fill


def _area(
    score: Score,
    start: NDArray[Any],
    end: NDArray[Any],
    ranks: NDArray[np.int64],
    n_steps: Any,
) -> float:
    """Area under the score, 1 at the start and 0 at the end, while pixels go from one to other."""
    check_positive("n_steps", n_steps)
    n_gone = np.round(np.linspace(0, ranks.size, int(n_steps) + 1))  # (M,)
    is_gone = ranks < n_gone[:, None, None]  # (M, H, W)
    scores = _scores(score, np.where(is_gone[..., None], end, start))
    first, last = scores[0], scores[-1]
    if abs(first - last) <= NO_DIFFERENCE * max(abs(first), abs(last)):
        return float("nan")
    return float(np.trapezoid((scores - last) / (first - last), n_gone / ranks.size))


def _left(
    score: Score, image: ArrayLike, box: ArrayLike, baseline: ArrayLike, *, keeps_inside: bool
) -> float:
    """Score over that of the image, if pixels of one side of the box go."""
    values, fill = _pair(image, baseline)
    edges = np.asarray(box)
    height, width = values.shape[:2]
    if edges.shape != (4,) or edges.dtype.kind not in "iu":
        raise ValueError(f"box must be four integers y0, y1, x0, x1, got {box!r}.")
    y0, y1, x0, x1 = edges.tolist()
    if not (0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width):
        raise ValueError(
            f"box must lie in the image of {height} x {width} pixels, got {edges.tolist()}."
        )
    is_kept = np.full((height, width, 1), not keeps_inside)
    is_kept[y0:y1, x0:x1] = keeps_inside
    before, after = _scores(score, np.stack([values, np.where(is_kept, values, fill)]))
    return float(after / before) if before > 0 else float("nan")


def _scores(score: Score, images: NDArray[Any]) -> NDArray[np.float64]:
    """Scores (M,) of images."""
    found = np.asarray(score(images), dtype=np.float64)
    rule = f"score must give a finite number for each of {len(images)} images"
    if found.shape != (len(images),):
        raise ValueError(f"{rule}, got an array of shape {found.shape}.")
    is_bad = ~np.isfinite(found)
    if is_bad.any():
        raise ValueError(f"{rule}, found {found[is_bad][0]} for {is_bad.sum()} of them.")
    return found
