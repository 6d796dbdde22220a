"""What can be said of each prototype, in one table.

Shapes: n images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from sklearn_protopnet._validation import check_labels, check_names, check_positive
from sklearn_protopnet.inspection._localizers import LOCALIZERS, check_localizer
from sklearn_protopnet.inspection._pipelines import classifier_images
from sklearn_protopnet.inspection._tables import build_table, name_column
from sklearn_protopnet.metrics._report._column import ARGUMENTS, Column
from sklearn_protopnet.metrics._report._columns import group_names, wanted_columns, with_columns
from sklearn_protopnet.metrics._report._context import ReportContext, check_masks
from sklearn_protopnet.metrics._report._interventions import (
    check_interventions,
    compare_changed_images,
)
from sklearn_protopnet.metrics._report._parts import check_parts
from sklearn_protopnet.metrics._size import (
    global_size,
    local_size,
    n_distinct_prototypes,
    sparsity,
)


@with_columns
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
    max_images: int = 20,
    min_count: int = 10,
    random_state: Any = None,
) -> pd.DataFrame:
    """Say of every prototype how far it can be trusted: the metrics of this module in one table.

    Each is taken over images of the prototype's own class, unless said otherwise. A part that is
    visible, or an intervention that changes anything, in fewer than `min_count` of them does not
    count. Needs labels; some columns need more. Where a column has the name of a function of this
    module, that says where it comes from and which direction is better; what the others are is this
    package's own.

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
    groups : "all", str or iterable of str, default="all"
        Groups of columns that need further passes of the network: see below, where the cost is
        that of each image and prototype that is localized, beside that of the localizer. The boxes
        of ``"receptive_field"`` leave nothing to find for ``"box"``, ``"curves"`` and
        ``"attack"``. With all groups, ten classes of ten prototypes and twenty images of each
        class make 2,000 pairs: minutes for small networks.
    localizer : str, default="receptive_field"
        How boxes and maps are found, as for `ProtoPNetClassifier.explain`.
    part_centres : array-like of shape (n, n_parts, 2), default=None
        ``y, x`` in pixels of the images as they reach the classifier; NaN for a part that is not
        visible.
    part_visible : bool array-like of shape (n, n_parts), default=None
        Whether a part is visible; with None, where its centre is not NaN.
    masks : bool array-like of shape (n, H, W) or sequence of (H, W), default=None
        Pixels of the object in each image as it reaches the classifier.
    interventions : dict of str to images, default=None
        The same images with one thing changed each, such as a part or a suspected cue removed:
        ``{"cue": X_without_cue}``. Names are not empty, and none is another one with ``"_others"``
        behind it. An image that stays the same in all pixels had no such thing;
        a file that was compressed anew does not.
    max_images : int, default=20
        Images of its class, the first ones, in which a prototype is localized. Receptive fields,
        and interventions, are taken in all.
    min_count : int, default=10
        Images that must show a part, or have the thing that an intervention changes. A localizer
        other than ``"receptive_field"`` looks for parts in `max_images` of each class.
    random_state : int, RandomState instance or None, default=None
        Draws the noise and random places.

    Returns
    -------
    DataFrame
        One row for each prototype. Columns of groups that were not asked for, and those that need
        what is not given, are left out; NaN is what cannot be said. ``attrs["units"]`` holds units
        of columns. ``attrs["summary"]`` holds what is said of the classifier as a whole:
        ``accuracy``, ``sparsity``, ``global_size``, ``local_size``, ``n_distinct_prototypes`` and,
        with parts, ``consistency``, ``consistency_centre`` and ``consistency_random``. Large boxes
        hold most parts wherever they are: a figure that is no better than that of boxes at the
        centre, or at random places, says nothing. In images of other classes, a cause is a part of
        the object there, or a cue, that makes them look like this class.

        {columns}

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no ProtoPNetClassifier at its end, or interventions are no dict.
    ValueError
        If shapes do not match; if a class, the localizer or a group is unknown; if a part that is
        visible lies outside of its image, or is to be looked for in fewer than `min_count` images;
        if an intervention has no name, or one by which two columns would have the same.

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
    wanted_groups = check_names("groups", groups, group_names())
    check_positive("max_images", max_images)
    check_positive("min_count", min_count)
    if part_centres is not None and not LOCALIZERS[localizer].is_exact and max_images < min_count:
        raise ValueError(
            f"max_images must be at least min_count for {localizer!r} to find parts, got "
            f"{max_images} and {min_count}."
        )
    named = check_interventions(interventions)
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    _, fitted, source, *_ = classifier_images(estimator, X)
    centres, visible = check_parts(part_centres, part_visible, source.sizes)
    arguments = (part_centres is not None, masks is not None, bool(named))
    given = compress(ARGUMENTS, arguments)
    columns = wanted_columns((*wanted_groups, *given))
    context = ReportContext(
        fitted=fitted,
        source=source,
        labels=check_labels("y", y, "X", len(source), fitted.classes),
        localizer=localizer,
        max_images=max_images,
        min_count=min_count,
        seed=seed,
        part_centres=centres,
        part_visible=visible,
        masks=check_masks(masks, source.sizes),
        changed=compare_changed_images(estimator, named, fitted, source),
        measures={each.name: each.measure for each in columns if each.measure is not None},
    )
    return _table(columns, context)


def _table(columns: list[Column], context: ReportContext) -> pd.DataFrame:
    """Build the table of some columns, with units and a summary."""
    values: dict[str, ArrayLike] = {}
    units: dict[str, str] = {}
    for column in columns:
        found = column.values(context)
        values |= found
        if column.name == "prototype_class" and context.prototypes.has_names:
            values |= name_column(context.prototypes, np.arange(len(context.prototypes.names)))
        if column.unit is not None:
            units |= dict.fromkeys(found, column.unit)
    table = build_table(values, "prototype_report", units)
    table.attrs["summary"] = _summary(context) | {
        each.summary: float(table[each.name].mean()) for each in columns if each.summary is not None
    }
    return table


def _summary(context: ReportContext) -> dict[str, float]:
    """Say what is said of the classifier as a whole."""
    evidence, prototypes = context.evidence, context.prototypes
    predicted = evidence.logits.argmax(1)  # (n,)
    return {
        "accuracy": float((predicted == context.labels).mean()),
        "sparsity": sparsity(prototypes.coef),
        "global_size": global_size(prototypes.coef),
        "local_size": local_size(prototypes.coef[predicted] * evidence.similarities),
        "n_distinct_prototypes": n_distinct_prototypes(prototypes.vectors),
    }
