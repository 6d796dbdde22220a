"""What can be said of each prototype, in one table.

Shapes: n images of H x W pixels, P prototypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from sklearn_protopnet._fitted import RECEPTIVE_FIELD
from sklearn_protopnet._validation import check_names, check_positive
from sklearn_protopnet.inspection._localizers import check_localizer, located_boxes
from sklearn_protopnet.inspection._tables import build_table
from sklearn_protopnet.metrics._checks import truths
from sklearn_protopnet.metrics._parts import location_change
from sklearn_protopnet.metrics._report._causes import (
    cause_columns,
    check_interventions,
    seen_interventions,
)
from sklearn_protopnet.metrics._report._context import Subject, means
from sklearn_protopnet.metrics._report._faithfulness import OF_MASKS, close_look
from sklearn_protopnet.metrics._report._noise import NoisySource
from sklearn_protopnet.metrics._report._parts import BASELINES, check_parts, part_columns

REPORT_COLUMNS: Final = (
    "prototype",
    "prototype_class",
    "source_sample",
    "n_images",
    "n_classes",
    "n_duplicates",
    "similarity",
    "similarity_others",
    "box_share",
    "box_sufficiency",
    "box_necessity",
    "deletion_auc",
    "insertion_auc",
    "spatial_misalignment",
    "location_change",
    "part",
    "part_rate",
    "consistent",
    "coverage",
    "purity",
    *BASELINES,
    "stability",
    "stability_covered",
    *OF_MASKS,
)
"""Columns of `prototype_report`, in order; those of interventions follow."""

GROUPS: Final = ("box", "curves", "attack", "noise")
"""Groups of columns that need further passes of the network."""


def prototype_report(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    groups: str | Iterable[str] = "all",
    localizer: str = "receptive_field",
    part_centres: ArrayLike | None = None,
    part_visible: ArrayLike | None = None,
    masks: Any = None,
    interventions: Mapping[str, Any] | None = None,
    max_images: int = 10,
    min_count: int = 10,
    random_state: Any = None,
) -> pd.DataFrame:
    """Say of every prototype how far it can be trusted: the metrics of this module in one table.

    Each is taken over images of the prototype's own class, unless said otherwise. A part, or an
    intervention, that is seen in fewer than `min_count` of them does not count. Needs labels; some
    columns need more. Where a column has the name of a function of this module, that says where it
    comes from and which direction is better; what the others are is this package's own.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes; images that it was not trained on. Boxes, parts
        and masks are in pixels of the images that reach the classifier: with a pipeline that
        turns, cuts or resizes images, not in those of `X`.
    y : array-like of shape (n,)
        Class labels.
    groups : "all" or iterable of {"box", "curves", "attack", "noise"}, default="all"
        Columns that need further passes of the network; for each image and prototype that is
        looked at, beside those of the localizer: ``"box"`` 4, ``"curves"`` 42, ``"attack"`` 62;
        ``"noise"`` those of the localizer again. The boxes of ``"receptive_field"`` leave nothing
        to find: then ``"box"`` gives a sufficiency of 1, ``"attack"`` a misalignment of 0, and
        ``"curves"`` NaN. With all of them, ten classes of ten prototypes
        and ten images of each class make 1,000 pairs: minutes for small networks.
    localizer : str, default="receptive_field"
        How boxes and maps are found, as for `ProtoPNetClassifier.explain`.
    part_centres : array-like of shape (n, n_parts, 2), default=None
        ``y, x`` in pixels of the images as they reach the classifier; NaN for a part that is not
        seen.
    part_visible : bool array-like of shape (n, n_parts), default=None
        Whether a part is seen; with None, where its centre is not NaN.
    masks : bool array-like of shape (n, H, W) or sequence of (H, W), default=None
        Pixels of the object in each image as it reaches the classifier.
    interventions : dict of str to images, default=None
        The same images with one thing changed each, such as a part or a suspected cue removed:
        ``{"cue": X_without_cue}``. Names are not empty, and none is another one with ``"_others"``
        behind it. An image that stays the same in all pixels had no such thing;
        a file that was compressed anew does not.
    max_images : int, default=10
        Images of its class, the first ones, in which a prototype is looked at closely. Boxes that
        are receptive fields, and interventions, are looked at in all.
    min_count : int, default=10
        Images that must show a part, or have the thing that an intervention changes.
    random_state : int, RandomState instance or None, default=None
        Draws the noise and random places.

    Returns
    -------
    DataFrame
        One row for each prototype. Columns of groups that were not asked for, and those that need
        what is not given, are left out; NaN is what cannot be said.

        ``prototype``, ``prototype_class``, ``source_sample``
            As in `ProtoPNetClassifier.prototype_table`.
        ``n_images``
            Images of its class.
        ``n_classes``, ``n_duplicates``
            Classes to which it has a weight that is not 0; other prototypes like it.
        ``similarity``, ``similarity_others``
            Mean over images of its class, and over images of other classes.
        ``box_share``
            Mean share of the image that its box covers. A box that is all of the image holds every
            part, and tells nothing.
        ``box_sufficiency``, ``box_necessity``
            Group ``"box"``: see `box_sufficiency`, `box_necessity`; pixels are blurred. Shares of
            the similarity, while the columns of these names in the table of
            `ProtoPNetClassifier.explain` are the similarities that are left. NaN where a
            similarity is not positive, as linear ones are: there is no share of it.
        ``deletion_auc``, ``insertion_auc``
            Group ``"curves"``: see `deletion_auc`, `insertion_auc`. NaN with
            ``"receptive_field"``, which tells no pixel from another.
        ``spatial_misalignment``
            Group ``"attack"``: see `spatial_misalignment`; pixels change by a tenth of the
            standard deviation of training pixels at most.
        ``location_change``
            Group ``"noise"``: see `location_change`; normal noise of a fifth of that deviation,
            a quarter of it at most.
        ``part``, ``part_rate``, ``consistent``, ``coverage``, ``purity``
            With `part_centres`: the part that its box holds most often, -1 if none counts, and
            in which share of the images that show it; whether that makes it consistent, 1 or 0;
            see `consistency`, `coverage`, and `purity` for the ten most similar images of any
            class, NaN if no part counts.
        ``part_rate_centre``, ``consistent_centre``, ``coverage_centre``, ``purity_centre``
            With `part_centres`: the same of boxes of the same sizes at the centre of the image;
            and ``part_rate_random``, ``consistent_random``, ``coverage_random``,
            ``purity_random`` at random places: see `centre_boxes`, `random_boxes`. Large boxes
            hold most parts wherever they are: a figure that is no better says nothing.
        ``stability``, ``stability_covered``
            Group ``"noise"``, with `part_centres`: see `stability`.
        ``pointing_game``, ``relevance_mass``, ``centre_baseline``, ``random_baseline``
            With `masks`; of the maps that are looked at, and of the same images.
        ``effect_<name>``, ``effect_<name>_others``
            For each intervention: the share of the similarity that is lost, mean over images of
            its class that had the thing, and over such images of other classes.
        ``cause``, ``cause_rate``, ``cause_others``, ``cause_rate_others``
            With interventions: the one that costs most of the similarity, a tenth at least, in more
            than half of the images of its class that had the thing, and the share of these images;
            an empty name if there is none; see `causal_parts`. The same for other classes: what
            is a part of the object there, or a cue, makes them look like this class.

        ``attrs["summary"]`` holds what is said of the classifier as a whole: ``accuracy``,
        ``sparsity``, ``global_size``, ``local_size``, ``n_distinct_prototypes`` and, with parts,
        ``consistency``, ``consistency_centre`` and ``consistency_random``.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end, or interventions are no dict.
    ValueError
        If shapes do not match; if a class, the localizer or a group is unknown; if a part that is
        seen lies outside of its image; if an intervention has no name, or one by which two columns
        would have the same.

    Examples
    --------
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.datasets import make_part_images
    >>> from sklearn_protopnet.metrics import prototype_report
    >>> data = make_part_images(40, n_classes=2, image_size=16, random_state=0)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=2, joint_epochs=2, random_state=0
    ... ).fit(data.images, data.target)
    >>> report = prototype_report(
    ...     clf, data.images, data.target, groups="box", max_images=2
    ... )
    >>> report["box_sufficiency"].round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    check_localizer(localizer)
    wanted = check_names("groups", groups, GROUPS)
    check_positive("max_images", max_images)
    check_positive("min_count", min_count)
    named = check_interventions(interventions)
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    subject = Subject.of(estimator, X, y, localizer, max_images)
    parts = check_parts(subject, part_centres, part_visible, min_count)
    objects = None if masks is None else _check_masks(masks, subject.source.sizes)
    changed = seen_interventions(estimator, named, subject)
    columns, boxes = subject.columns(), subject.boxes()
    if {*wanted} - {"noise"} or objects is not None or localizer != RECEPTIVE_FIELD:
        closely, boxes = close_look(subject, wanted, objects, boxes)
        columns |= closely
    columns["box_share"] = means(_shares(boxes, subject.source.sizes), subject.boxed)
    noisy = _noisy_boxes(subject, seed) if "noise" in wanted else None
    if noisy is not None:
        columns["location_change"] = subject.each(location_change, boxes, noisy)
    if parts is not None:
        columns |= part_columns(parts, boxes, noisy, seed)
    causes = cause_columns(subject, changed, min_count) if changed else {}
    ordered = {name: columns[name] for name in REPORT_COLUMNS if name in columns}
    table = build_table(ordered | causes, "prototype_report")
    table.attrs["units"] = dict.fromkeys(
        ("similarity", "similarity_others"), table.attrs["units"]["similarity"]
    )
    table.attrs["summary"] = subject.summary()
    if parts is not None:
        for suffix in ("", "_centre", "_random"):
            consistent = table[f"consistent{suffix}"]
            table.attrs["summary"][f"consistency{suffix}"] = float(consistent.mean())
    return table


def _shares(boxes: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share (n, P) of images of their sizes (n, 2) that boxes (n, P, 4) cover."""
    areas = (boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])
    shares: NDArray[np.float64] = areas / sizes.prod(1)[:, None]
    return shares


def _noisy_boxes(subject: Subject, seed: int) -> NDArray[np.int64]:
    """Boxes (n, P, 4) by the localizer in images with noise."""
    noisy, fitted = NoisySource.of(subject.source, seed), subject.fitted
    return located_boxes(
        fitted,
        noisy,
        subject.localizer,
        fitted.evidence(noisy).positions,
        lambda i: np.flatnonzero(subject.closely[i]),
    ).boxes


def _check_masks(masks: Any, sizes: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Check that there is a mask of its size for each image."""
    n_masks = len(masks) if hasattr(masks, "__len__") else repr(masks)
    if n_masks != len(sizes):
        raise ValueError(
            f"masks must hold one for each of the {len(sizes)} images in X, got {n_masks}."
        )
    return [
        truths(f"masks[{i}]", each, (int(height), int(width)))
        for i, (each, (height, width)) in enumerate(zip(masks, sizes, strict=True))
    ]
