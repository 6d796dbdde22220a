"""Which part makes an image similar to a prototype, found out by changing the image.

Shapes: n images, P prototypes, A parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet.metrics._checks import check_share, numbers, truths

NO_PART = -1
"""The number of no part stands where none is the cause."""


def causal_parts(
    similarities: ArrayLike,
    similarities_without: ArrayLike,
    visible: ArrayLike,
    *,
    min_drop: float = 0.1,
) -> NDArray[np.int64]:
    """Say which part makes an image similar to a prototype, by removing one after the other.

    An intervention, in the sense of Pearl, "Causality: Models, Reasoning, and Inference", 2nd ed.,
    Cambridge University Press 2009: the image is rendered again without the part, and what becomes
    of the similarity is the part's doing. The rule by which a part is the cause is this package's
    own. Needs images that can be rendered without a part, such as those of `make_part_images`. It
    is no score: no part is better than another one.

    Parameters
    ----------
    similarities : array-like of shape (n, n_prototypes)
        Of the images as they are.
    similarities_without : array-like of shape (n, n_parts, n_prototypes)
        Of the images without each of their parts.
    visible : bool array-like of shape (n, n_parts)
        Whether the part was there.
    min_drop : float, default=0.1
        Share of the similarity by which it must fall at least.

    Returns
    -------
    int64 ndarray of shape (n, n_prototypes)
        The part whose removal lowers the similarity most, of those that tie the first; -1 if
        none lowers it by so much.

    Raises
    ------
    ValueError
        If shapes do not match, or `min_drop` is not between 0 and 1.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import causal_parts
    >>> causal_parts([[4.0, 2.0]], [[[3.9, 2.0], [1.0, 1.9]]], [[True, True]]).tolist()
    [[1, -1]]
    """
    check_share("min_drop", min_drop)
    before = numbers("similarities", similarities, 2)
    after = numbers("similarities_without", similarities_without, 3)
    if after.shape[::2] != before.shape:
        raise ValueError(
            "similarities_without must have the shape (n, n_parts, n_prototypes) for similarities "
            f"of shape {before.shape}, got {after.shape}."
        )
    was_there = truths("visible", visible, after.shape[:2])
    drops = np.where(was_there[:, :, None], before[:, None] - after, -np.inf)  # (n, A, P)
    largest = drops.max(1)  # (n, P)
    is_cause = (largest > 0) & (largest >= min_drop * np.abs(before))
    return np.where(is_cause, drops.argmax(1), NO_PART)
