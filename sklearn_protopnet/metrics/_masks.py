"""Whether maps of relevance point at what they should, and at nothing else.

Shapes: n maps of H x W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet.metrics._checks import numbers, truths


def pointing_game(maps: ArrayLike, masks: ArrayLike) -> float:
    """Compute how often the largest value of a map lies on the object; larger is better.

    Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018,
    without their tolerance of 15 pixels. Of values that tie, each counts its share, so that a map
    without a peak scores what a random one does. An empty mask cannot be hit. Needs masks.

    Parameters
    ----------
    maps : array-like of shape (n, H, W)
        Relevance.
    masks : bool array-like of shape (n, H, W)
        Pixels of the object, or of the part.

    Returns
    -------
    float
        From 0 to 1. To be read beside `centre_baseline` and `random_baseline`.

    Raises
    ------
    ValueError
        If there is no map, or masks do not have its shape.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import pointing_game
    >>> pointing_game([[[0.1, 0.9], [0.0, 0.2]]], [[[False, True], [False, False]]])
    1.0
    """
    values = numbers("maps", maps, 3)
    inside = truths("masks", masks, values.shape)
    is_largest = values == values.max((1, 2), keepdims=True)  # (n, H, W)
    return float(((is_largest & inside).sum((1, 2)) / is_largest.sum((1, 2))).mean())


def relevance_mass(maps: ArrayLike, masks: ArrayLike) -> float:
    """Compute the share of positive relevance that lies on the object; larger is better.

    Arras, Osman and Samek, "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of
    neural network explanations", Information Fusion 2022
    (relevance mass accuracy). Needs masks.

    Parameters
    ----------
    maps : array-like of shape (n, H, W)
        As for `pointing_game`.
    masks : bool array-like of shape (n, H, W)
        As for `pointing_game`.

    Returns
    -------
    float
        Mean over maps, from 0 to 1; a map without positive relevance counts 0. To be read beside
        `random_baseline`.

    Raises
    ------
    ValueError
        As for `pointing_game`.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import relevance_mass
    >>> relevance_mass([[[1.0, 3.0], [-5.0, 0.0]]], [[[False, True], [True, False]]])
    0.75
    """
    values = np.maximum(numbers("maps", maps, 3), 0)
    inside = truths("masks", masks, values.shape)
    total = values.sum((1, 2))  # (n,)
    found = (values * inside).sum((1, 2))
    return float(np.divide(found, total, out=np.zeros_like(total), where=total > 0).mean())


def centre_baseline(masks: ArrayLike) -> float:
    """Compute the `pointing_game` of a map that always points at the centre of the image.

    The baseline of Zhang et al., IJCV 2018. It is no score of a map: a map should be better than
    that. Needs masks.

    Parameters
    ----------
    masks : bool array-like of shape (n, H, W)
        Pixels of the object, or of the part.

    Returns
    -------
    float
        From 0 to 1. Where sides are even, the centre is between pixels, and the four count alike.

    Raises
    ------
    ValueError
        If there is no mask.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import centre_baseline
    >>> centre_baseline([[[False, False, False], [False, True, False], [False, False, False]]])
    1.0
    """
    inside = _masks(masks)
    height, width = inside.shape[1:]
    centre = np.s_[:, (height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
    return float(inside[centre].mean())


def random_baseline(masks: ArrayLike) -> float:
    """Compute the expected `pointing_game` of a random map: the share of pixels in the mask.

    It is the `relevance_mass` of a constant map, too. The definition is this package's own. It is
    no score of a map: a map should be better than that. Needs masks.

    Parameters
    ----------
    masks : bool array-like of shape (n, H, W)
        As for `centre_baseline`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        As for `centre_baseline`.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import random_baseline
    >>> random_baseline([[[True, False], [False, False]]])
    0.25
    """
    return float(_masks(masks).mean())


def _masks(masks: ArrayLike) -> NDArray[np.bool_]:
    return truths("masks", masks, 3)
