"""Evidence beyond the contribution of each prototype, on request.

To add a group of columns, write a function that computes them, and register its record: `explain`,
its tables' units and the exports find it there. What the columns say stands in the docstring of
`ProtoPNetClassifier.explain`.

Shapes: n samples, P prototypes, K classes; a pair is a sample and a prototype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._network import SIMILARITIES, Evidence
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet._training import digest_bytes
from sklearn_protopnet._validation import check_names
from sklearn_protopnet.inspection._rows import Explained
from sklearn_protopnet.inspection._tables import LOGIT_UNIT, SIMILARITY_UNIT, UNITS

Values = tuple[NDArray[Any], ...]
"""Columns of a table, (rows,) each."""


@dataclass(frozen=True)
class Context:
    """What the columns of one table are made of."""

    fitted: FittedNetwork
    explained: Explained
    digests: Callable[[], tuple[NDArray[Any], str]]
    """Gives the digests of the source images, (P,), and of the model."""


@dataclass(frozen=True)
class Detail:
    """A group of columns that may be asked for."""

    name: str
    columns: Mapping[str, str | None]
    """The units of its columns, in order; None of a column without."""
    description: str
    """Says for the documentation what its columns say, in their order."""
    compute: Callable[[Context], Values]
    """Gives the columns, in the same order."""
    needs_effects: bool = False
    """Whether it is about what boxes do, which is measured for it alone."""
    of_patches: bool = False
    """Whether every pooled patch has a row for it."""


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


def _effects(context: Context) -> Values:
    rows = context.explained.rows
    effects = context.explained.located.effects[rows.sample, rows.prototype, rows.patch]
    return context.explained.patch_similarities, effects[:, 0], effects[:, 1]


def _percentiles(context: Context) -> Values:
    similarities = context.explained.evidence.similarities
    own, others = (
        percentiles(similarities, quantiles) for quantiles in context.fitted.prototypes.quantiles
    )
    pair = context.explained.rows.sample, context.explained.rows.prototype
    return own[pair], others[pair]


def _margins(context: Context) -> Values:
    evidence, fitted, rows = context.explained.evidence, context.fitted, context.explained.rows
    similarity = SIMILARITIES[fitted.architecture.similarity]
    flips = flip_similarities(evidence, fitted.prototypes.coef, similarity.range)
    return margins(evidence.logits)[rows.sample, rows.class_], flips[rows.sample, rows.prototype]


def _digests(context: Context) -> Values:
    sources, model = context.digests()
    rows = context.explained.rows
    return sources[rows.prototype], np.full(len(rows.sample), model, dtype=object)


def _convergence(context: Context) -> Values:
    rows = context.explained.rows
    return (context.explained.located.deltas[rows.sample, rows.prototype, rows.patch],)


def _patches(context: Context) -> Values:
    explained = context.explained
    return explained.rows.patch + 1, explained.patch_similarities, explained.shares


DETAILS: Final[dict[str, Detail]] = {
    each.name: each
    for each in (
        Detail(
            name="patches",
            columns={"patch": None, "patch_similarity": SIMILARITY_UNIT, "share": SIMILARITY_UNIT},
            description="a row for each of the patches that are pooled: its number, its "
            "similarity, and what it adds to the similarity of the image",
            compute=_patches,
            of_patches=True,
        ),
        Detail(
            name="box",
            columns={
                "patch_similarity": SIMILARITY_UNIT,
                "similarity_in_box": SIMILARITY_UNIT,
                "similarity_without_box": SIMILARITY_UNIT,
            },
            description="the similarity of the patch in the box, and what it becomes if all pixels "
            "outside of the box are blurred, and if all inside are",
            compute=_effects,
            needs_effects=True,
        ),
        Detail(
            name="percentile",
            columns={"percentile_own": "%", "percentile_others": "%"},
            description="how many of a hundred training images of the prototype's class, and of "
            "the other classes, are at most as similar",
            compute=_percentiles,
        ),
        Detail(
            name="margin",
            columns={"margin": LOGIT_UNIT, "flip_similarity": SIMILARITY_UNIT},
            description="the lead over the next class, and the nearest similarity at which the "
            "prediction would be another one",
            compute=_margins,
        ),
        Detail(
            name="digest",
            columns={"source_digest": None, "model_digest": None},
            description="digests of the source image and of the model",
            compute=_digests,
        ),
        Detail(
            name="convergence",
            columns={"convergence_delta": SIMILARITY_UNIT},
            description="by how much the map of integrated gradients, or of relevance propagation, "
            "misses the sum that it should have",
            compute=_convergence,
        ),
    )
}
"""The registry holds every group by its name, in the order in which their columns stand."""


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
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
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
    """Digest all that a prediction depends on, its labels and the rows of its source images too.

    Of a backbone that is a module these are its arrays and what it prints of its layers.
    """
    arrays = {
        **{name: value.cpu().numpy() for name, value in fitted.network.state_dict().items()},
        "head": fitted.prototypes.coef,
        "mean": fitted.standardization.mean,
        "scale": fitted.standardization.scale,
        "source_rows": fitted.prototypes.samples,
        "field_rows": fitted.field.rows,
        "field_columns": fitted.field.columns,
    }
    backbone = fitted.architecture.backbone  # a module is described by its layers
    # Labels as values: memory of text may hold addresses.
    plain = f"{fitted.architecture.plain_values()} {backbone} {fitted.classes.tolist()}"
    return digest_bytes(
        plain.encode(), *(f"{name}={_digest(array)};".encode() for name, array in arrays.items())
    )


def prototypes_digest(record: PrototypeRecord, count: int | None = None) -> str:
    """Digest prototypes, or the first so many: what they are and which classes they belong to.

    Unlike `model_digest`, edits leave it as it is.
    """
    vectors, classes = record.vectors[:count], record.classes[:count].tolist()
    return digest_bytes(str(classes).encode(), _digest(vectors).encode())


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


def detail_columns(names: Iterable[str], context: Context) -> dict[str, NDArray[Any]]:
    """Compute the columns of some groups, (rows,) each."""
    return {
        column: values
        for detail in (DETAILS[name] for name in names)
        for column, values in zip(detail.columns, detail.compute(context), strict=True)
    }


def explanation_units() -> dict[str, str]:
    """Units of all columns that an explanation may have."""
    units = {name: unit for each in DETAILS.values() for name, unit in each.columns.items() if unit}
    return {**UNITS, **units}
