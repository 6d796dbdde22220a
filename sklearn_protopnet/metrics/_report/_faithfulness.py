"""Metrics of single images and prototypes, which need passes of the network.

Shapes: n images of H x W pixels, P prototypes, Q of them that are asked for in an image.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._fitted import RECEPTIVE_FIELD
from sklearn_protopnet.inspection._localization import maps_as_given
from sklearn_protopnet.inspection._localizers import (
    ImageQueries,
    LocalizedPatches,
    for_each_image,
)
from sklearn_protopnet.metrics._faithfulness import (
    box_necessity,
    box_sufficiency,
    deletion_auc,
    insertion_auc,
    spatial_misalignment,
)
from sklearn_protopnet.metrics._masks import (
    centre_baseline,
    pointing_game,
    random_baseline,
    relevance_mass,
)
from sklearn_protopnet.metrics._report._context import NAN, Columns, Subject, means, of_each

OF_MASKS: Final = ("pointing_game", "relevance_mass", "centre_baseline", "random_baseline")
"""Columns that need masks."""


def close_look(
    subject: Subject,
    groups: tuple[str, ...],
    masks: list[NDArray[np.bool_]] | None,
    boxes: NDArray[np.int64],
) -> tuple[Columns, NDArray[np.int64]]:
    """Look closely at some images; columns, and boxes (n, P, 4) by the localizer."""
    shape, localizer = subject.own.shape, subject.localizer
    scores = {name: np.full(shape, NAN) for name in ("before", "after", *_columns_of(groups))}
    on_objects = {name: np.full(shape, NAN) for name in OF_MASKS}
    boxes, sizes = boxes.copy(), subject.source.sizes
    asked = [np.flatnonzero(each) for each in subject.closely]
    scored = for_each_image(
        subject.fitted,
        subject.source,
        subject.evidence.positions,
        asked,
        lambda queries: _scores_of(queries, localizer, groups),
    )
    for i, (patches, found) in scored:
        for name, values in found.items():
            scores[name][i, asked[i]] = values
        boxes[i, asked[i]] = patches.located.boxes
        if masks is not None:
            height, width = sizes[i].tolist()
            maps = maps_as_given(localizer, patches, (height, width))
            mask = masks[i][None]
            on_objects["centre_baseline"][i, asked[i]] = centre_baseline(mask)
            on_objects["random_baseline"][i, asked[i]] = random_baseline(mask)
            for p, each in zip(asked[i], maps, strict=True):
                on_objects["pointing_game"][i, p] = pointing_game(each[None], mask)
                on_objects["relevance_mass"][i, p] = relevance_mass(each[None], mask)
    before, after = scores.pop("before"), scores.pop("after")
    columns: Columns = {name: means(each, subject.closely) for name, each in scores.items()}
    if "attack" in groups:
        columns["spatial_misalignment"] = of_each(
            spatial_misalignment, subject.closely, before, after
        )
    if masks is not None:
        columns |= {name: means(each, subject.closely) for name, each in on_objects.items()}
    return columns, boxes


def _columns_of(groups: tuple[str, ...]) -> list[str]:
    """Columns that are means of scores of images."""
    names = {
        "box": ("box_sufficiency", "box_necessity"),
        "curves": ("deletion_auc", "insertion_auc"),
    }
    return [name for group, columns in names.items() if group in groups for name in columns]


def _scores_of(
    queries: ImageQueries, localizer: str, groups: tuple[str, ...]
) -> tuple[LocalizedPatches, dict[str, NDArray[np.float64]]]:
    """Locate the patches of one image, and score boxes and maps; (Q,) each."""
    patches = queries.localize(localizer)
    scores = {name: np.full(len(patches.maps), NAN) for name in _columns_of(groups)}
    image, baseline = queries.pixels, queries.baseline
    for q, (box, relevance) in enumerate(zip(patches.input_boxes, patches.maps, strict=True)):

        def score(variants: NDArray[Any], q: int = q) -> NDArray[np.float64]:
            return queries.similarities(variants)[:, q]

        if "box" in groups:
            scores["box_sufficiency"][q] = box_sufficiency(score, image, box, baseline)
            scores["box_necessity"][q] = box_necessity(score, image, box, baseline)
        if "curves" in groups and localizer != RECEPTIVE_FIELD:
            scores["deletion_auc"][q] = deletion_auc(score, image, relevance, baseline)
            scores["insertion_auc"][q] = insertion_auc(score, image, relevance, baseline)
    if "attack" in groups:
        scores["before"], scores["after"] = queries.attacked(patches.input_boxes).T
    return patches, scores
