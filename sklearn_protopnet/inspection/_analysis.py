"""Questions to a classifier, also at the end of a pipeline or a search; the answers are tables.

Shapes: n samples, P prototypes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._localizers import check_localizer, located_boxes
from sklearn_protopnet.inspection._pipelines import classifier_images, member_images
from sklearn_protopnet.inspection._tables import box_columns, build_table, name_column

PATCH_COLUMNS: Final = ("similarity", "distance", "y0", "y1", "x0", "x1", "box_kind")
"""Both tables say this of a patch."""

NEAREST_COLUMNS: Final = ("prototype", "prototype_class", "rank", "sample", *PATCH_COLUMNS)
"""`nearest_patches` has these columns, in order."""

ACTIVATED_COLUMNS: Final = ("sample", "rank", "prototype", "prototype_class", *PATCH_COLUMNS)
"""`activated_prototypes` has these columns, in order."""


@with_shared_descriptions
def explain(
    estimator: Any,
    X: Any,
    *,
    classes: str | ArrayLike = "predicted",
    n_top_classes: int | None = None,
    top_k: int | None = None,
    localizer: str = "receptive_field",
    details: str | Iterable[str] = (),
) -> pd.DataFrame:
    """Say why, as `ProtoPNetClassifier.explain`, also at the end of a pipeline or a search.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, ProtoPNetEnsemble, Pipeline or search over parameters
        Fitted; a search must have refitted its best estimator.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes. Boxes are in pixels of the images that reach the
        classifier.
    {explain_options}

    Returns
    -------
    DataFrame
        As by `ProtoPNetClassifier.explain` or `ProtoPNetEnsemble.explain`. ``sample`` is the row of
        `X`, or its index for a frame, whatever a transformer makes of it.

    Raises
    ------
    {estimator_errors}
    ValueError
        As by `ProtoPNetClassifier.explain`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import explain
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... )
    >>> why = explain(make_pipeline(StandardScaler(), clf).fit(X[:100], y[:100]), X[:3])
    >>> len(why)
    12
    """
    options = Options.checked(classes, top_k, localizer, details, n_top_classes)
    return Explainer(member_images(estimator, X), options).table()


@with_shared_descriptions
def nearest_patches(
    estimator: Any, X: Any, k: int = 5, *, localizer: str = "receptive_field"
) -> pd.DataFrame:
    """Find the patches of a set of images that are nearest to each prototype.

    A global analysis (Chen et al. 2019, section 2.4): does a prototype stand for the same thing
    in all images? Each image has one patch, the one that is nearest to the prototype.

    Parameters
    ----------
    {estimator}
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes; training images or any others.
    k : int, default=5
        Images for each prototype; all if there are fewer.
    localizer : str, default="receptive_field"
        As for `ProtoPNetClassifier.explain`.

    Returns
    -------
    DataFrame
        ``k`` rows for each prototype, rank 1 the nearest; of images that tie, the first. Columns
        are those of `ProtoPNetClassifier.explain`.

    Raises
    ------
    {estimator_errors}
    ValueError
        If `k` is not positive or the localizer is unknown.
    """
    patches = _Patches(estimator, X, k, localizer)
    order = np.argsort(patches.evidence.distances, axis=0, kind="stable")[:k]  # (k, P)
    n_rows, n_prototypes = order.shape
    prototype = np.repeat(np.arange(n_prototypes), n_rows)
    sample = order.T.ravel()
    return patches.table(sample, prototype, n_rows, NEAREST_COLUMNS)


@with_shared_descriptions
def activated_prototypes(
    estimator: Any, X: Any, k: int = 10, *, localizer: str = "receptive_field"
) -> pd.DataFrame:
    """Find the prototypes that each image is most similar to, of whatever class.

    A local analysis (Chen et al. 2019, section 2.4). What prototypes contribute to a class, and
    to which, is what `explain` says: to the top classes of each image with its `n_top_classes`.

    Parameters
    ----------
    {estimator}
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes.
    k : int, default=10
        Prototypes for each image; all if there are fewer.
    localizer : str, default="receptive_field"
        As for `ProtoPNetClassifier.explain`.

    Returns
    -------
    DataFrame
        ``k`` rows for each image, rank 1 the most similar prototype; of those that tie, the one
        with the lowest number. Columns are those of `ProtoPNetClassifier.explain`.

    Raises
    ------
    {estimator_errors}
    ValueError
        If `k` is not positive or the localizer is unknown.
    """
    patches = _Patches(estimator, X, k, localizer)
    order = np.argsort(-patches.evidence.similarities, axis=1, kind="stable")[:, :k]  # (n, k)
    n_samples, n_rows = order.shape
    sample = np.repeat(np.arange(n_samples), n_rows)
    return patches.table(sample, order.ravel(), n_rows, ACTIVATED_COLUMNS)


class _Patches:
    """The patch of each image that is nearest to each prototype."""

    def __init__(self, estimator: Any, X: Any, k: Any, localizer: str) -> None:
        check_localizer(localizer)
        check_positive("k", k)
        self._localizer = localizer
        self._images = classifier_images(estimator, X)
        self.evidence = self._images.fitted.evidence(self._images.source)

    def table(
        self,
        sample: NDArray[np.int64],
        prototype: NDArray[np.int64],
        n_rows: int,
        columns: tuple[str, ...],
    ) -> pd.DataFrame:
        """Build a table of pairs of a sample and a prototype; every so many rows, a rank 1."""
        wanted: list[list[int]] = [[] for _ in self._images.names]
        for i, j in zip(sample.tolist(), prototype.tolist(), strict=True):
            wanted[i].append(j)
        fitted = self._images.fitted
        located = located_boxes(
            fitted,
            self._images.source,
            self._localizer,
            self.evidence.positions,
            lambda i: np.unique(np.array(wanted[i], dtype=np.int64)),
        )
        found = {
            "prototype": prototype,
            "prototype_class": fitted.prototypes.classes[prototype],
            "rank": np.arange(len(sample)) % n_rows + 1,
            "sample": self._images.names[sample],
            "similarity": self.evidence.similarities[sample, prototype],
            "distance": self.evidence.distances[sample, prototype],
            **box_columns(located.boxes[sample, prototype]),
            "box_kind": located.kinds[sample, prototype],
        }
        table = {name: found[name] for name in columns}
        if fitted.prototypes.has_names:
            table |= name_column(fitted.prototypes, prototype)
        return build_table(table, "patches")
