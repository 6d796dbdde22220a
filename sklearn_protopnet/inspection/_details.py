"""Evidence beyond the contribution of each prototype, on request.

Shapes: n samples, P prototypes, K classes; a pair is a sample and a prototype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import Evidence, FittedNetwork
from sklearn_protopnet._network import SIMILARITIES
from sklearn_protopnet._training import digest_bytes
from sklearn_protopnet._validation import check_names
from sklearn_protopnet.inspection._tables import Explained

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Context:
    """What the columns of one table are made of."""

    fitted: FittedNetwork
    explained: Explained
    digests: Callable[[], tuple[NDArray[Any], str]]
    """Gives the digests of the source images, (P,), and of the model."""


def percentiles(similarities: NDArray[np.float64], quantiles: NDArray[np.float64]) -> Any:
    """Percentiles of similarities (n, P) among those that quantiles (P, 101) are of; (n, P).

    Whole ones: the largest percentage of images that are at most as similar. NaN where there is
    no image.
    """
    found = np.empty(similarities.shape)
    for p, each in enumerate(quantiles):
        count = np.searchsorted(each, similarities[:, p], side="right")
        found[:, p] = np.nan if np.isnan(each[0]) else np.maximum(count - 1, 0)
    return found


def flip_similarities(
    evidence: Evidence, coef: NDArray[np.float64], similarity_range: tuple[float, float]
) -> NDArray[np.float64]:
    """Find the similarity at which another class would be predicted, all others as they are.

    The logits are linear in each similarity s: class k catches up with the predicted class c at
    ``s - (logit_c - logit_k) / (w_c - w_k)``. Of those that a similarity can be, the nearest.

    Parameters
    ----------
    evidence : Evidence
    coef : float64 array of shape (K, P)
    similarity_range : (float, float)

    Returns
    -------
    float64 array of shape (n, P)
        NaN where no similarity to this prototype changes the prediction.
    """
    predicted = evidence.logits.argmax(1)  # (n,)
    best = np.full(evidence.similarities.shape, np.nan)
    distance = np.full(best.shape, np.inf)
    low, high = similarity_range
    for k in range(len(coef)):
        lead = evidence.logits[np.arange(len(predicted)), predicted] - evidence.logits[:, k]  # (n,)
        slope = coef[predicted] - coef[k]  # (n, P), 0 for the predicted class
        step = np.divide(-lead[:, None], slope, out=np.full(slope.shape, np.inf), where=slope != 0)
        there = evidence.similarities + step
        is_nearer = (there >= low) & (there <= high) & (np.abs(step) < distance)
        best[is_nearer], distance[is_nearer] = there[is_nearer], np.abs(step)[is_nearer]
    return best


def margins(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logit of each class less the largest of the others; (n, K)."""
    ranked = np.sort(logits, axis=1)
    largest, second = ranked[:, -1:], ranked[:, -2:-1]
    found: NDArray[np.float64] = logits - np.where(logits == largest, second, largest)
    return found


def _box_columns(context: Context) -> Columns:
    rows = context.explained.rows
    effects = context.explained.located.effects[rows.sample, rows.prototype]
    return {"similarity_in_box": effects[:, 0], "similarity_without_box": effects[:, 1]}


def _percentile_columns(context: Context) -> Columns:
    similarities = context.explained.evidence.similarities
    quantiles = context.fitted.prototypes.quantiles
    own, others = (percentiles(similarities, each) for each in quantiles)
    pair = context.explained.rows.sample, context.explained.rows.prototype
    return {"percentile_own": own[pair], "percentile_others": others[pair]}


def _margin_columns(context: Context) -> Columns:
    evidence, fitted, rows = context.explained.evidence, context.fitted, context.explained.rows
    similarity = SIMILARITIES[fitted.architecture.similarity]
    flips = flip_similarities(evidence, fitted.prototypes.coef, similarity.range)
    return {
        "margin": margins(evidence.logits)[rows.sample, rows.class_],
        "flip_similarity": flips[rows.sample, rows.prototype],
    }


def _digest_columns(context: Context) -> Columns:
    sources, model = context.digests()
    return {
        "source_digest": sources[context.explained.rows.prototype],
        "model_digest": np.full(len(context.explained.rows.sample), model, dtype=object),
    }


def _convergence_columns(context: Context) -> Columns:
    rows = context.explained.rows
    return {"convergence_delta": context.explained.located.deltas[rows.sample, rows.prototype]}


DETAILS: Final[dict[str, Callable[[Context], Columns]]] = {
    "box": _box_columns,
    "percentile": _percentile_columns,
    "margin": _margin_columns,
    "digest": _digest_columns,
    "convergence": _convergence_columns,
}
"""Groups of columns that may be asked for, in the order in which they stand."""


def image_digest(image: ArrayLike) -> str:
    """Digest an image as the column ``source_digest`` of an explanation does.

    By that column the training image of a prototype is found again. What is digested there is
    ``prototype_images_[p]``, the image as the fit read it, before it was standardised: with the
    channel axis last, and in the dtype of the training `X`. An image that was resized to
    `image_size` is the resized one, float64 unless it was uint8 or float32; a file is what it
    was decoded to, with as many channels as the classifier's images have.

    Parameters
    ----------
    image : array-like of shape (H, W) or (H, W, C)
        One image. Without channels it counts as ``(H, W, 1)``, as in a fit.

    Returns
    -------
    str
        32 hexadecimal digits: BLAKE2b of 16 bytes, without a key, of what kind of array it is,
        ``f"{image.dtype.str}{image.shape}"`` in UTF-8, followed by its numbers in C order, as they
        are in memory. Images of equal numbers and another dtype have another digest.

    Raises
    ------
    ValueError
        If it is no array of numbers with two or three axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import image_digest
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     image_shape=(8, 8), n_prototypes_per_class=2, pretraining_epochs=5, random_state=0
    ... ).fit(X, y)
    >>> row = clf.explain(X[:1], details="digest").iloc[0]
    >>> image_digest(X[row["source_sample"]].reshape(8, 8)) == row["source_digest"]
    True
    """
    pixels = np.asarray(image)
    if pixels.ndim not in {2, 3} or pixels.dtype.kind not in "biuf":
        raise ValueError(
            "image must be an array of numbers of shape (H, W) or (H, W, C), got one of shape "
            f"{pixels.shape} and dtype {pixels.dtype}."
        )
    return _digest(np.atleast_3d(pixels))


def model_digest(fitted: FittedNetwork) -> str:
    """Digest all that a prediction depends on, its labels and the rows of its source images too."""
    arrays = {
        **{name: value.cpu().numpy() for name, value in fitted.network.state_dict().items()},
        "head": fitted.prototypes.coef,
        "mean": fitted.standardization.mean,
        "scale": fitted.standardization.scale,
        "source_rows": fitted.prototypes.samples,
    }
    # Labels as values: memory of text may hold addresses.
    plain = f"{fitted.architecture.plain_values()} {fitted.classes.tolist()}"
    return digest_bytes(
        plain.encode(), *(f"{name}={_digest(array)};".encode() for name, array in arrays.items())
    )


def _digest(array: NDArray[Any]) -> str:
    kind = f"{array.dtype.str}{array.shape}"
    return digest_bytes(kind.encode(), np.ascontiguousarray(array).tobytes())


def check_details(details: str | Iterable[str]) -> tuple[str, ...]:
    """Check names of groups, and bring them into order; ``"all"`` is all of them.

    Raises
    ------
    ValueError
        If there is no such group.
    """
    return check_names("details", details, DETAILS)


def detail_columns(names: Iterable[str], context: Context) -> Columns:
    """Columns of some groups, one number for each row."""
    columns: Columns = {}
    for name in names:
        columns |= DETAILS[name](context)
    return columns
