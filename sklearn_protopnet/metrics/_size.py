"""How much there is to read in an explanation.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sklearn_protopnet.metrics._checks import check_share, numbers


def sparsity(coef: ArrayLike) -> float:
    """Compute the share of weights that are exactly 0; larger is better.

    Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition",
    NeurIPS 2019, penalise weights so that they are near 0; the share of those that are 0 is this
    package's own figure. Needs no annotation.

    Parameters
    ----------
    coef : array-like of shape (n_classes, n_prototypes)
        Weights of the last layer.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If there is no weight.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import sparsity
    >>> sparsity([[1.0, 0.0], [0.0, 2.0]])
    0.5
    """
    return float((numbers("coef", coef, 2) == 0).mean())


def global_size(coef: ArrayLike) -> int:
    """Count the prototypes that any class uses; smaller is better.

    Nauta et al., "PIP-Net: Patch-Based Intuitive Prototypes for Interpretable Image
    Classification", CVPR 2023. Needs no annotation.

    Parameters
    ----------
    coef : array-like of shape (n_classes, n_prototypes)
        As for `sparsity`.

    Returns
    -------
    int
        Prototypes with at least one weight that is not 0.

    Raises
    ------
    ValueError
        As for `sparsity`.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import global_size
    >>> global_size([[1.0, 0.0, 0.0], [-0.5, 0.0, 2.0]])
    2
    """
    return int((numbers("coef", coef, 2) != 0).any(0).sum())


def local_size(contributions: ArrayLike, *, threshold: float = 0.1) -> float:
    """Count the prototypes that have a say in a decision; smaller is better.

    After Nauta et al., "PIP-Net", CVPR 2023, who count similarities above 0.1. Theirs
    are at most 1; here contributions are measured by the largest one. Needs no annotation.

    Parameters
    ----------
    contributions : array-like of shape (n, n_prototypes)
        Of all prototypes to the logit of the predicted class.
    threshold : float, default=0.1
        Share of the largest absolute contribution from which on one counts; 0 itself never does.

    Returns
    -------
    float
        Mean over images.

    Raises
    ------
    ValueError
        If there is no contribution, or `threshold` is not between 0 and 1.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import local_size
    >>> local_size([[5.0, -1.0, 0.1], [0.0, 2.0, 0.0]])
    1.5
    """
    check_share("threshold", threshold)
    sizes = np.abs(numbers("contributions", contributions, 2))  # (n, P)
    has_say = (sizes >= threshold * sizes.max(1, keepdims=True)) & (sizes > 0)
    return float(has_say.sum(1).mean())


def n_distinct_prototypes(prototypes: ArrayLike) -> int:
    """Count the prototypes that differ from one another; larger is better.

    Two prototypes that are the same patch, or two patches that look the same to the network, are
    one reason told twice. The definition is this package's own. Needs no annotation.

    Parameters
    ----------
    prototypes : array-like of shape (n_prototypes, ...)
        Latent patches.

    Returns
    -------
    int
        At most ``n_prototypes``.

    Raises
    ------
    ValueError
        If there is no prototype.

    Examples
    --------
    >>> from sklearn_protopnet.metrics import n_distinct_prototypes
    >>> n_distinct_prototypes([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    2
    """
    values = numbers("prototypes", prototypes, None)
    return len(np.unique(values.reshape(len(values), -1), axis=0))
