"""What can be said of each prototype, in one table.

Shapes: n images of H x W pixels, P prototypes, Q of them that are asked for in an image, A parts,
I interventions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from sklearn_protopnet._validation import check_names, check_positive
from sklearn_protopnet.inspection._boxes import RECEPTIVE_FIELD
from sklearn_protopnet.inspection._evidence import build_table
from sklearn_protopnet.inspection._localization import check_localizer, located_boxes
from sklearn_protopnet.inspection._opened import open_estimator
from sklearn_protopnet.metrics._checks import truths
from sklearn_protopnet.metrics._close_look import OF_MASKS, close_look
from sklearn_protopnet.metrics._interventions import NO_PART, causal_parts
from sklearn_protopnet.metrics._parts import (
    consistency,
    coverage,
    location_change,
    part_presence,
    part_rates,
    purity,
    stability,
)
from sklearn_protopnet.metrics._subject import NAN, Columns, Subject, means

REPORT_COLUMNS: Final = (
    "prototype",
    "prototype_class",
    "sample",
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
    "stability",
    "stability_covered",
    *OF_MASKS,
)
"""Columns of `prototype_report`, in order; those of interventions follow."""

GROUPS: Final = ("box", "curves", "attack", "noise")
"""Groups of columns that need further passes of the network."""

N_NEAREST: Final = 10
"""Patches that purity looks at (Nauta et al., CVPR 2023)."""


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
        ``"noise"`` those of the localizer again. With all of them, ten classes of ten prototypes
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
        Draws the noise.

    Returns
    -------
    DataFrame
        One row for each prototype. Columns of groups that were not asked for, and those that need
        what is not given, are left out; NaN is what cannot be said.

        ``prototype``, ``prototype_class``, ``sample``
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
            `ProtoPNetClassifier.explain` are the similarities that are left.
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
            class.
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
        ``consistency``.

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
    named = _check_interventions(interventions)
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    subject = Subject.of(estimator, X, y, localizer, max_images)
    parts = _check_parts(subject, part_centres, part_visible)
    objects = None if masks is None else _check_masks(masks, subject.view.sizes)
    changed = _seen_interventions(estimator, named, subject)
    columns, boxes = subject.columns(), subject.boxes()
    if {*wanted} - {"noise"} or objects is not None or localizer != RECEPTIVE_FIELD:
        closely, boxes = close_look(subject, wanted, objects, boxes)
        columns |= closely
    columns["box_share"] = means(_shares(boxes, subject.view.sizes), subject.boxed)
    noisy = _noisy_boxes(subject, seed) if "noise" in wanted else None
    if noisy is not None:
        columns["location_change"] = subject.each(location_change, boxes, noisy)
    if parts is not None:
        columns |= _part_columns(subject, parts, boxes, noisy, min_count)
    causes = _cause_columns(subject, changed, min_count) if changed else {}
    ordered = {name: columns[name] for name in REPORT_COLUMNS if name in columns}
    table = build_table(ordered | causes, "prototype_report")
    table.attrs["units"] = dict.fromkeys(
        ("similarity", "similarity_others"), table.attrs["units"]["similarity"]
    )
    table.attrs["summary"] = subject.summary()
    if parts is not None:
        table.attrs["summary"]["consistency"] = float(table["consistent"].mean())
    return table


def _shares(boxes: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share (n, P) of images of their sizes (n, 2) that boxes (n, P, 4) cover."""
    areas = (boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])
    shares: NDArray[np.float64] = areas / sizes.prod(1)[:, None]
    return shares


def _noisy_boxes(subject: Subject, seed: int) -> NDArray[np.int64]:
    """Boxes (n, P, 4) by the localizer in images with noise."""
    view = subject.view.with_noise(seed)
    (positions,) = view.arrays("positions")
    return located_boxes(
        view, subject.localizer, positions, lambda i: np.flatnonzero(subject.closely[i])
    ).boxes


@dataclass(frozen=True)
class _Parts:
    """Where parts are."""

    centres: NDArray[np.float64]
    """(n, A, 2)"""
    visible: NDArray[np.bool_]
    """(n, A)"""


def _check_parts(
    subject: Subject, centres: ArrayLike | None, visible: ArrayLike | None
) -> _Parts | None:
    """Check that there are parts for each image, or none at all."""
    if centres is None:
        if visible is not None:
            raise ValueError("part_visible needs part_centres, which are None.")
        return None
    places, n_images = np.asarray(centres, dtype=np.float64), len(subject.labels)
    if places.ndim != 3 or places.shape[::2] != (n_images, 2):
        raise ValueError(
            f"part_centres must have the shape (n, n_parts, 2) for the {n_images} images in X, got "
            f"{places.shape}."
        )
    given = ~np.isnan(places).any(2) if visible is None else visible
    seen = truths("part_visible", given, places.shape[:2])
    sizes = subject.view.sizes  # (n, 2)
    is_outside = ~((places >= 0) & (places < sizes[:, None])).all(2)  # (n, A), NaN included
    if (seen & is_outside).any():
        i, part = np.argwhere(seen & is_outside)[0].tolist()
        raise ValueError(
            "part_centres of parts that are seen must lie in the image that reaches the "
            f"classifier, of {sizes[i, 0]} x {sizes[i, 1]} pixels for image {i}, got "
            f"{places[i, part].tolist()} for part {part}."
        )
    return _Parts(places, seen)


def _part_columns(
    subject: Subject,
    parts: _Parts,
    boxes: NDArray[np.int64],
    noisy: NDArray[np.int64] | None,
    min_count: int,
) -> Columns:
    presence = part_presence(boxes, parts.centres)  # (n, P, A)
    counts = parts.visible[:, None, :] & subject.boxed[:, :, None]  # (n, P, A)
    rates = part_rates(presence, counts, min_count=min_count)  # (P, A)
    best = np.where(np.isnan(rates), -np.inf, rates)
    is_known = np.isfinite(best).any(1)  # (P,)
    columns: Columns = {
        "part": np.where(is_known, best.argmax(1), NO_PART),
        "part_rate": np.where(is_known, best.max(1), NAN),
        "consistent": [
            consistency(presence[:, [p]], counts[:, [p]], min_count=min_count)
            for p in range(len(rates))
        ],
        "coverage": subject.each(lambda found: coverage(found[:, None]), presence),
        "purity": _purities(subject, parts),
    }
    if noisy is not None:
        changed = part_presence(noisy, parts.centres)
        for name, covered_only in (("stability", False), ("stability_covered", True)):
            columns[name] = subject.each(
                lambda before, after, only=covered_only: stability(
                    before[:, None], after[:, None], covered_only=only
                ),
                presence,
                changed,
            )
    return columns


def _purities(subject: Subject, parts: _Parts) -> list[float]:
    """Purity (P,) of the nearest patches in images of any class."""
    order = np.argsort(-subject.similarities, axis=0, kind="stable")[:N_NEAREST]  # (k, P)
    is_near = np.zeros(subject.own.shape, dtype=bool)
    np.put_along_axis(is_near, order, values=True, axis=0)
    boxes = located_boxes(
        subject.view, subject.localizer, subject.positions, lambda i: np.flatnonzero(is_near[i])
    ).boxes
    presence = part_presence(boxes, parts.centres)  # (n, P, A)
    return [purity(presence[rows, p][:, None]) for p, rows in enumerate(order.T)]


@dataclass(frozen=True)
class _Intervention:
    """What the classifier sees in images after one thing was changed."""

    similarities: NDArray[np.float64]
    """(n, P)"""
    was_there: NDArray[np.bool_]
    """(n,) whether the image is another one."""


def _check_interventions(interventions: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Check that interventions have names from which columns get names of their own."""
    named = {} if interventions is None else interventions
    if not isinstance(named, Mapping):
        raise TypeError(
            f"interventions must be a dict of names to images, got {type(named).__name__}."
        )
    for name in named:
        if not isinstance(name, str) or not name:
            raise ValueError(f"Names of interventions must be text, and not empty, got {name!r}.")
        if f"{name}_others" in named:
            raise ValueError(
                "Names of interventions must differ by more than '_others', which columns for "
                f"other classes end in, got {name!r} and {f'{name}_others'!r}."
            )
    return named


def _seen_interventions(
    estimator: Any, interventions: Mapping[str, Any], subject: Subject
) -> dict[str, _Intervention]:
    found = {}
    for name, images in interventions.items():
        opened = open_estimator(estimator, images)
        view = opened.classifier._view(opened.X)
        if len(view.rows) != len(subject.labels):
            raise ValueError(
                f"Interventions must have the {len(subject.labels)} images in X, got "
                f"{len(view.rows)} for {name!r}."
            )
        (similarities,) = view.arrays("similarities")
        found[name] = _Intervention(similarities, subject.view.differs_from(view))
    return found


def _cause_columns(subject: Subject, changed: dict[str, _Intervention], min_count: int) -> Columns:
    before = subject.similarities  # (n, P)
    after = np.stack([each.similarities for each in changed.values()], axis=1)  # (n, I, P)
    was_there = np.stack([each.was_there for each in changed.values()], axis=1)  # (n, I)
    causes = causal_parts(before, after, was_there)  # (n, P)
    is_cause = causes[:, None] == np.arange(len(changed))[:, None]  # (n, I, P)
    effects = np.full(after.shape, NAN)  # (n, I, P)
    np.divide(before[:, None] - after, before[:, None], out=effects, where=before[:, None] > 0)
    names = np.array([*changed], dtype=object)
    columns: Columns = {}
    for suffix, scope in (("", subject.own), ("_others", ~subject.own)):
        counts = scope[:, None] & was_there[:, :, None]  # (n, I, P)
        counts &= counts.sum(0) >= min_count
        each = range(len(changed))
        rates = np.array([means(is_cause[:, i].astype(float), counts[:, i]) for i in each])
        largest = np.where(np.isnan(rates), -np.inf, rates).max(0)  # (P,)
        columns |= {f"effect_{names[i]}{suffix}": means(effects[:, i], counts[:, i]) for i in each}
        most_frequent = names[np.nan_to_num(rates).argmax(0)]
        columns[f"cause{suffix}"] = np.where(largest > 0.5, most_frequent, "")
        columns[f"cause_rate{suffix}"] = np.where(np.isinf(largest), NAN, largest)
    return columns


def _check_masks(masks: Any, sizes: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Check that there is a mask of its size for each image."""
    if len(masks) != len(sizes):
        raise ValueError(
            f"masks must hold one for each of the {len(sizes)} images in X, got {len(masks)}."
        )
    return [
        truths(f"masks[{i}]", each, (int(height), int(width)))
        for i, (each, (height, width)) in enumerate(zip(masks, sizes, strict=True))
    ]
