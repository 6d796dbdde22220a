"""Columns of the report: a record for each.

To add one, write the metric as a function of arrays in `metrics`, and register its record here;
nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet.inspection._docstrings import Documented, fill_docstring
from sklearn_protopnet.inspection._tables import SIMILARITY_UNIT
from sklearn_protopnet.metrics._faithfulness import (
    box_necessity,
    box_sufficiency,
    deletion_auc,
    insertion_auc,
)
from sklearn_protopnet.metrics._interventions import causal_parts
from sklearn_protopnet.metrics._masks import (
    centre_baseline,
    pointing_game,
    random_baseline,
    relevance_mass,
)
from sklearn_protopnet.metrics._parts import (
    consistency,
    coverage,
    part_rates,
    purity,
    stability,
)
from sklearn_protopnet.metrics._report._aggregation import means
from sklearn_protopnet.metrics._report._column import ARGUMENTS, Better, Column
from sklearn_protopnet.metrics._report._context import ReportContext
from sklearn_protopnet.metrics._report._parts import PartsInBoxes
from sklearn_protopnet.metrics._robustness import location_change, spatial_misalignment


def _part_columns(
    suffix: str, where: str, parts: Callable[[ReportContext], PartsInBoxes]
) -> list[Column]:
    """Columns that say of boxes at some place what parts they hold."""
    needs = ("part_centres",)
    better: Better = None if suffix else "larger"  # boxes that know nothing are no score
    return [
        Column(
            f"part_rate{suffix}",
            f"How often {where} hold the part that they hold most often, of images that show it.",
            lambda context: parts(context).rates(),
            needs=needs,
            metric=part_rates,
            better=better,
        ),
        Column(
            f"consistent{suffix}",
            f"Whether {where} make it consistent, 1 or 0.",
            lambda context: parts(context).consistent(),
            needs=needs,
            metric=consistency,
            better=better,
            summary=f"consistency{suffix}",
        ),
        Column(
            f"coverage{suffix}",
            f"How often {where} hold a part at all.",
            lambda context: parts(context).coverage(),
            needs=needs,
            metric=coverage,
            better=better,
        ),
        Column(
            f"purity{suffix}",
            f"How often {where} hold their most frequent part, of the ten images of any class that "
            "have the nearest patches. NaN if no part counts.",
            lambda context: parts(context).purity(),
            needs=needs,
            metric=purity,
            better=better,
        ),
    ]


def _cause_columns(
    suffix: str, of_class: str, scope: Callable[[ReportContext], NDArray[np.bool_]]
) -> list[Column]:
    """Columns that say what interventions cost in images of some classes."""
    needs = ("interventions",)
    return [
        Column(
            f"effect_<name>{suffix}",
            f"Mean share of the similarity that each intervention costs in images of {of_class} "
            "that had the thing.",
            lambda context: context.interventions.effects(scope(context)),
            needs=needs,
            is_of_each_intervention=True,
        ),
        Column(
            f"cause{suffix}",
            "The intervention that costs most of the similarity, a tenth at least, in more than "
            f"half of the images of {of_class} that had the thing; an empty name if there is "
            "none.",
            lambda context: context.interventions.causes(scope(context)),
            needs=needs,
            metric=causal_parts,
        ),
        Column(
            f"cause_rate{suffix}",
            f"The largest share of such images of {of_class} in which one intervention does.",
            lambda context: context.interventions.cause_rates(scope(context)),
            needs=needs,
        ),
    ]


COLUMNS: Final[dict[str, Column]] = {
    each.name: each
    for each in (
        Column(
            "prototype",
            "As in `ProtoPNetClassifier.prototype_table`.",
            lambda context: np.arange(len(context.prototypes.classes)),
        ),
        Column(
            "prototype_class",
            "As in that table.",
            lambda context: context.prototypes.classes,
        ),
        Column(
            "source_sample",
            "As in that table.",
            lambda context: context.prototypes.samples,
        ),
        Column(
            "n_images",
            "Images of its class.",
            lambda context: context.own.sum(0),
        ),
        Column(
            "n_classes",
            "Classes to which it has a weight that is not 0.",
            lambda context: (context.prototypes.coef != 0).sum(0),
        ),
        Column(
            "n_duplicates",
            "Other prototypes like it.",
            lambda context: context.prototypes.n_duplicates,
            better="smaller",
        ),
        Column(
            "similarity",
            "Mean over images of its class.",
            lambda context: means(context.evidence.similarities, context.own),
            unit=SIMILARITY_UNIT,
        ),
        Column(
            "similarity_others",
            "Mean over images of other classes.",
            lambda context: means(context.evidence.similarities, ~context.own),
            unit=SIMILARITY_UNIT,
        ),
        Column(
            "box_share",
            "Mean share of the image that its box covers. A box that is all of the image holds "
            "every part, and tells nothing.",
            lambda context: means(context.box_shares(), context.is_boxed),
        ),
        Column(
            "box_sufficiency",
            "Share of the similarity that is left if all pixels outside of the box are blurred. "
            "NaN where a similarity is not positive, as linear ones are: there is no share of it. "
            "1 for receptive fields.",
            metric=box_sufficiency,
            measure=lambda image: image.of_boxes(box_sufficiency),
            needs=("box",),
            better="larger",
            cost="2 passes",
        ),
        Column(
            "box_necessity",
            "Share of the similarity that goes if the box is blurred. NaN as there.",
            metric=box_necessity,
            measure=lambda image: image.of_boxes(box_necessity),
            needs=("box",),
            better="larger",
            cost="2 passes",
        ),
        Column(
            "deletion_auc",
            "How much of the similarity is left while the most relevant pixels are blurred. NaN "
            "for receptive fields, which tell no pixel from another.",
            metric=deletion_auc,
            measure=lambda image: image.of_curves(deletion_auc),
            needs=("curves",),
            better="smaller",
            cost="21 passes",
        ),
        Column(
            "insertion_auc",
            "How much of the similarity the most relevant pixels of a blurred image bring back. "
            "NaN for receptive fields.",
            metric=insertion_auc,
            measure=lambda image: image.of_curves(insertion_auc),
            needs=("curves",),
            better="larger",
            cost="21 passes",
        ),
        Column(
            "spatial_misalignment",
            "Share of the similarity that an attack outside of the box takes; pixels change by a "
            "tenth of the standard deviation of training pixels at most. 0 for receptive fields.",
            metric=spatial_misalignment,
            measure=lambda image: image.misalignment(),
            needs=("attack",),
            better="smaller",
            cost="62 passes",
        ),
        Column(
            "location_change",
            "How far boxes move if there is normal noise in images, of a fifth of that deviation, "
            "a quarter of it at most.",
            lambda context: context.of_each_box(
                location_change, context.boxes, context.noisy_boxes
            ),
            needs=("noise",),
            metric=location_change,
            better="smaller",
            cost="those of the localizer again",
        ),
        Column(
            "part",
            "Number of the part that its box holds most often; -1 if no part counts.",
            lambda context: context.parts.parts(),
            needs=("part_centres",),
        ),
        *_part_columns("", "its boxes", lambda context: context.parts),
        *_part_columns(
            "_centre",
            "boxes of the same sizes at the centre of the image (`centre_boxes`)",
            lambda context: context.parts_at_centre,
        ),
        *_part_columns(
            "_random",
            "boxes of the same sizes at random places (`random_boxes`)",
            lambda context: context.parts_at_random,
        ),
        Column(
            "stability",
            "How often boxes keep their parts with the same noise.",
            lambda context: context.parts.stability(context.noisy_boxes, covered_only=False),
            metric=stability,
            needs=("noise", "part_centres"),
            better="larger",
        ),
        Column(
            "stability_covered",
            "The same of boxes that held a part before.",
            lambda context: context.parts.stability(context.noisy_boxes, covered_only=True),
            metric=stability,
            needs=("noise", "part_centres"),
            better="larger",
        ),
        Column(
            "pointing_game",
            "How often maps point at the object, of images in which it is localized.",
            metric=pointing_game,
            measure=lambda image: image.of_maps(pointing_game),
            needs=("masks",),
            better="larger",
        ),
        Column(
            "relevance_mass",
            "Share of the relevance that lies on the object, of the same maps.",
            metric=relevance_mass,
            measure=lambda image: image.of_maps(relevance_mass),
            needs=("masks",),
            better="larger",
        ),
        Column(
            "centre_baseline",
            "What the pointing game is for maps that point at the centre of the same images.",
            metric=centre_baseline,
            measure=lambda image: image.of_mask(centre_baseline),
            needs=("masks",),
        ),
        Column(
            "random_baseline",
            "What it is, and the relevance mass, for maps of chance.",
            metric=random_baseline,
            measure=lambda image: image.of_mask(random_baseline),
            needs=("masks",),
        ),
        *_cause_columns("", "its class", lambda context: context.own),
        *_cause_columns("_others", "other classes", lambda context: ~context.own),
    )
}
"""The registry holds every column by its name, in the order of the table."""


def group_names() -> list[str]:
    """List the groups that columns belong to."""
    needs = (need for column in COLUMNS.values() for need in column.needs)
    return list(dict.fromkeys(need for need in needs if need not in ARGUMENTS))


def wanted_columns(given: Iterable[str]) -> list[Column]:
    """List the columns that need nothing but what is given."""
    there = set(given)
    return [column for column in COLUMNS.values() if there.issuperset(column.needs)]


def with_columns(function: Documented) -> Documented:
    """Define all columns in the docstring of a function, where it has the line ``{columns}``."""
    columns = "\n".join(column.documentation() for column in COLUMNS.values())
    return fill_docstring(function, {"{columns}": columns})
