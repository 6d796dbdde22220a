"""Boxes that know nothing: what a figure of where parts are is to be compared with.

Shapes: n images, P prototypes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from sklearn_protopnet.metrics._checks import numbers


def centre_boxes(boxes: ArrayLike, image_sizes: ArrayLike) -> NDArray[np.int64]:
    """Move boxes to the centre of their images.

    For parts what `centre_baseline` is for maps: objects tend to be in the middle, and a large box
    there holds most parts of most images. The definition is this package's own. They are no score:
    `consistency`, `coverage` and `purity` of real boxes should be better than theirs. Needs no
    annotation.

    Parameters
    ----------
    boxes : array-like of shape (n, n_prototypes, 4)
        ``y0, y1, x0, x1``, half-open, where each prototype is found in each image.
    image_sizes : array-like of shape (n, 2) or (2,)
        Height and width of each image, or of all.

    Returns
    -------
    int64 ndarray of shape (n, n_prototypes, 4)
        Boxes of the same sizes; half a pixel to the upper left where they cannot be in the middle.

    Raises
    ------
    ValueError
        If shapes do not match, or a box is larger than its image.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import centre_boxes
    >>> centre_boxes([[[0, 4, 7, 10]]], (8, 10)).tolist()
    [[[2, 6, 3, 6]]]
    """
    lengths, room = _lengths_and_room(boxes, image_sizes)
    return _boxes_at(room // 2, lengths)


def random_boxes(
    boxes: ArrayLike, image_sizes: ArrayLike, *, random_state: Any = None
) -> NDArray[np.int64]:
    """Move boxes to random places in their images.

    For parts what `random_baseline` is for maps. The definition is this package's own. They are no
    score: `consistency`, `coverage` and `purity` of real boxes should be better than theirs. Needs
    no annotation.

    Parameters
    ----------
    boxes : array-like of shape (n, n_prototypes, 4)
        As for `centre_boxes`.
    image_sizes : array-like of shape (n, 2) or (2,)
        As for `centre_boxes`.
    random_state : int, RandomState instance or None, default=None
        Draws the places.

    Returns
    -------
    int64 ndarray of shape (n, n_prototypes, 4)
        Boxes of the same sizes; all places within the image are equally likely.

    Raises
    ------
    ValueError
        As for `centre_boxes`.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import random_boxes
    >>> random_boxes([[[0, 8, 7, 10]]], (8, 10), random_state=0).tolist()
    [[[0, 8, 4, 7]]]
    """
    random = check_random_state(random_state)
    lengths, room = _lengths_and_room(boxes, image_sizes)
    return _boxes_at(random.randint(0, room + 1), lengths)


def _lengths_and_room(
    boxes: ArrayLike, image_sizes: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Heights and widths of boxes, and how far each can move; (n, P, 2) each."""
    edges = numbers("boxes", boxes, 3)
    sizes = numbers("image_sizes", image_sizes, None)
    if edges.shape[2] != 4 or sizes.shape not in {(2,), (len(edges), 2)}:
        raise ValueError(
            "boxes must have the shape (n, n_prototypes, 4) and image_sizes (n, 2) or (2,), got "
            f"{edges.shape} and {sizes.shape}."
        )
    lengths = (edges[:, :, 1::2] - edges[:, :, ::2]).astype(np.int64)  # (n, P, 2)
    room = np.atleast_2d(sizes).astype(np.int64)[:, None] - lengths
    if (lengths < 0).any() or (room < 0).any():
        raise ValueError("boxes must be no larger than their images, and end after they start.")
    return lengths, room


def _boxes_at(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes (n, P, 4) of their upper left corners and their lengths, both (n, P, 2)."""
    edges = np.stack([starts, starts + lengths], axis=3)  # (n, P, 2, 2)
    return edges.reshape(*starts.shape[:2], 4)
