"""Maps of how much each pixel counts, and of similarities, for images of the user's.

Shapes: n images, P prototypes, Q of them that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._images import enlarged
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._localizers import (
    LOCALIZERS,
    LocalizedPatches,
    check_localizer,
    for_each_image,
)
from sklearn_protopnet.inspection._pipelines import classifier_images


@dataclass(frozen=True)
class Localization:
    """What `localize` finds for n images and Q prototypes.

    Parameters
    ----------
    prototypes : int64 ndarray of shape (Q,)
        Numbers of the prototypes.
    maps : list of float32 ndarrays of shape (Q, H, W)
        How much each pixel of each image counts, in pixels of the image as it reaches the
        classifier.
    boxes : int64 ndarray of shape (n, Q, 4)
        ``y0, y1, x0, x1`` in the same pixels, half-open.
    box_kinds : object ndarray of shape (n, Q)
        As in the table of `ProtoPNetClassifier.explain`.
    convergence_deltas : float64 ndarray of shape (n, Q)
        By how much the sum of a map, in pixels of the network, misses what it should be: for
        ``"integrated_gradients"`` the difference of the similarities of image and baseline, for
        ``"prp"`` the similarity, or 1 where that is not positive. NaN for the others.
    """

    prototypes: NDArray[np.int64]
    maps: list[NDArray[np.float32]]
    boxes: NDArray[np.int64]
    box_kinds: NDArray[Any]
    convergence_deltas: NDArray[np.float64]


@with_shared_descriptions
def localize(
    estimator: Any,
    X: Any,
    *,
    prototypes: ArrayLike | None = None,
    localizer: str = "integrated_gradients",
) -> Localization:
    """Find the pixels that make an image similar to prototypes.

    For each prototype it is about the patch of the image that is most similar to it, and, but for
    ``"upsample"``, about the pixels that this patch depends on only.

    Parameters
    ----------
    {estimator}
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes. There is a map as large as the image for
        each image and prototype: pass a few.
    prototypes : array-like of int, default=None
        Numbers of prototypes; all with None.
    localizer : str, default="integrated_gradients"
        The way to find them. A pass is one forward pass of the network with one image; backwards
        takes two. What is said comes beside the pass of each image that finds its patches, as
        for ``predict``.

        ``"receptive_field"``
            All pixels that the patch depends on, read off the network: 1 within the box, 0
            outside. Replacing all pixels outside changes nothing. No further pass.
        ``"integrated_gradients"``
            Gradients along 16 points of the way from the blurred image to the image, times the
            difference (Sundararajan, Taly and Yan 2017, eq. 1). 18 passes for an image, 32 for
            each prototype.
        ``"occlusion"``
            By how much the similarity falls if a window is blurred, for windows of a fifth and
            of a third of the receptive field's sides (Zeiler and Fergus 2014). About 130 passes
            for each prototype if the receptive field has 18 x 18 pixels or more; 2 to 250 if less.
        ``"prp"``
            Prototype relevance propagation (Gautam et al. 2023): the similarity, handed back
            layer by layer. One pass for an image, about 5 for each prototype. There are rules for
            convolutions, batch normalisation, activations, pooling, sums and concatenations; in
            other layers, such as group normalisation or the gates of squeeze-and-excitation,
            relevance is lost or doubled, and ``convergence_deltas`` are not small.
        ``"upsample"``
            The map of similarities, enlarged by cubic interpolation, with the rectangle around
            its 95th percentile (Chen et al. 2019, section 2.3). For comparison: it shows where
            the patch is on the map, not which pixels it depends on. One pass for an image.

    Returns
    -------
    Localization
        Maps and boxes. Boxes of the second to the fourth leave out 5 % of the positive relevance
        at most on each side.

    Raises
    ------
    {estimator_errors}
    ValueError
        If the images are not like those of the fit, or a prototype or the localizer is unknown.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import localize
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> found = localize(clf, X[:3], prototypes=[0, 3])
    >>> found.boxes.shape, found.maps[0].shape
    ((3, 2, 4), (2, 8, 8))
    """
    check_localizer(localizer)
    images = classifier_images(estimator, X)
    fitted, source = images.fitted, images.source
    chosen = _check_prototypes(prototypes, len(fitted.prototypes.samples))
    evidence = fitted.evidence(source)
    found = [
        patches
        for _, patches in for_each_image(
            fitted,
            source,
            evidence.positions,
            [chosen] * len(source),
            lambda queries: queries.localize(localizer),
        )
    ]
    sizes = [(int(height), int(width)) for height, width in source.sizes]
    return Localization(
        prototypes=chosen,
        maps=[
            maps_as_given(localizer, each, size) for each, size in zip(found, sizes, strict=True)
        ],
        boxes=np.stack([each.located.boxes for each in found]),
        box_kinds=np.stack([each.located.kinds for each in found]),
        convergence_deltas=np.stack([each.located.deltas for each in found]),
    )


@with_shared_descriptions
def similarity_maps(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Compute the similarity of every patch of images to every prototype.

    Parameters
    ----------
    {estimator}
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes.

    Returns
    -------
    float64 ndarray of shape (n, n_prototypes, h, w)
        One number for each place of the prototype on the feature map. The mean of the
        `n_pooled_patches` largest is what `ProtoPNetClassifier.transform` gives, up to rounding.

    Raises
    ------
    {estimator_errors}
    ValueError
        If the images are not like those of the fit.
    """
    images = classifier_images(estimator, X)
    return images.fitted.similarity_maps(images.source)


def _check_prototypes(prototypes: ArrayLike | None, n_prototypes: int) -> NDArray[np.int64]:
    """Numbers of prototypes, (Q,)."""
    if prototypes is None:
        return np.arange(n_prototypes)
    chosen = np.atleast_1d(np.asarray(prototypes))
    are_numbers = chosen.ndim == 1 and len(chosen) and chosen.dtype.kind in "iu"
    if not are_numbers or chosen.min() < 0 or chosen.max() >= n_prototypes:
        raise ValueError(
            f"prototypes must be numbers from 0 to {n_prototypes - 1}, got {prototypes!r}."
        )
    return chosen.astype(np.int64)


def maps_as_given(
    localizer: str, patches: LocalizedPatches, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Bring maps to pixels of the image as it was given, (Q, H, W)."""
    if not LOCALIZERS[localizer].is_exact:
        return enlarged(patches.maps, size)
    boxes = patches.located.boxes
    maps = np.zeros((len(boxes), *size), np.float32)
    for each, (y0, y1, x0, x1) in zip(maps, boxes, strict=True):
        each[y0:y1, x0:x1] = 1
    return maps
