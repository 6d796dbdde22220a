"""What the columns of a report are computed from.

Whatever more than one column needs is computed once, when the first of them asks for it.

Shapes: n images, P prototypes, A parts, K classes, k images nearest to a prototype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet.inspection._localizers import (
    LOCALIZERS,
    ImageQueries,
    LocalizedPatches,
    for_each_image,
    located_boxes,
)
from sklearn_protopnet.metrics._baseline_boxes import centre_boxes, random_boxes
from sklearn_protopnet.metrics._checks import truths
from sklearn_protopnet.metrics._report._aggregation import NAN, means, of_each_prototype
from sklearn_protopnet.metrics._report._interventions import ChangedImages, InterventionEffects
from sklearn_protopnet.metrics._report._localized_images import LocalizedImage
from sklearn_protopnet.metrics._report._noise import NoisySource
from sklearn_protopnet.metrics._report._parts import PartsInBoxes

Measure = Callable[[LocalizedImage], ArrayLike]
"""It gives a value for each prototype that is localized in an image, (Q,)."""

N_NEAREST: Final = 10
"""Purity is of so many images, those with the patches nearest to a prototype (Nauta et al., CVPR
2023)."""


@dataclass(frozen=True)
class ReportContext:
    """A fitted network, images of known classes, and what else is known of them."""

    fitted: FittedNetwork
    source: ImageSource
    """Of n images."""
    labels: NDArray[np.int64]
    """(n,) class indices."""
    localizer: str
    max_images: int
    min_count: int
    seed: int
    """Draws noise and random places."""
    part_centres: NDArray[np.float64]
    """(n, A, 2), NaN where a part is not visible; no parts if they are not given."""
    part_visible: NDArray[np.bool_]
    """(n, A)"""
    masks: Sequence[NDArray[np.bool_]]
    """(n,) of (H, W), or none."""
    changed: ChangedImages
    """By no intervention if none is given."""
    measures: Mapping[str, Measure]
    """What is measured in images while their patches are localized, by name."""

    @property
    def prototypes(self) -> PrototypeRecord:
        """What is known of the prototypes themselves."""
        return self.fitted.prototypes

    @cached_property
    def evidence(self) -> Evidence:
        """What the network finds in the images."""
        return self.fitted.evidence(self.source)

    @cached_property
    def own(self) -> NDArray[np.bool_]:
        """Whether an image is of a prototype's class, (n, P)."""
        classes = self.fitted.classes[self.labels]
        is_own: NDArray[np.bool_] = classes[:, None] == self.prototypes.classes
        return is_own

    @cached_property
    def is_localized(self) -> NDArray[np.bool_]:
        """Whether a prototype is localized in an image: the first ones of its class, (n, P)."""
        is_first: NDArray[np.bool_] = np.cumsum(self.own, axis=0) <= self.max_images
        return self.own & is_first

    @property
    def is_boxed(self) -> NDArray[np.bool_]:
        """Whether there is a box of the localizer, (n, P)."""
        return self.own if LOCALIZERS[self.localizer].is_exact else self.is_localized

    @property
    def boxes(self) -> NDArray[np.int64]:
        """Boxes of the localizer, or receptive fields of what was not localized, (n, P, 4)."""
        return self._localized[0]

    def mean_measure(self, name: str) -> NDArray[np.float64]:
        """Mean of a measure over the images in which a prototype is localized, (P,)."""
        return means(self._localized[1][name], self.is_localized)

    def of_each_box(
        self, metric: Callable[..., float], *values: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Compute a metric of the values (n, P, ...) of the boxes of each prototype, (P,)."""
        return of_each_prototype(metric, self.is_boxed, *values)

    @cached_property
    def noisy_boxes(self) -> NDArray[np.int64]:
        """Boxes of the same images with noise, (n, P, 4)."""
        noisy = NoisySource.of(self.source, self.seed)
        return self._boxes_of(noisy, self.fitted.evidence(noisy), self.is_localized)

    def box_shares(self) -> NDArray[np.float64]:
        """Share of the image that boxes cover, (n, P)."""
        boxes = self.boxes
        areas = (boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])
        shares: NDArray[np.float64] = areas / self.source.sizes.prod(1)[:, None]
        return shares

    @cached_property
    def parts(self) -> PartsInBoxes:
        """Parts, and the boxes that were found."""
        order = np.argsort(self.evidence.distances, axis=0, kind="stable")  # (n, P)
        nearest = order[:N_NEAREST]  # (k, P)
        is_near = np.zeros(self.own.shape, dtype=bool)
        np.put_along_axis(is_near, nearest, values=True, axis=0)
        return PartsInBoxes(
            centres=self.part_centres,
            visible=self.part_visible,
            boxes=self.boxes,
            is_boxed=self.is_boxed,
            nearest=nearest,
            nearest_boxes=self._boxes_of(self.source, self.evidence, is_near),
            min_count=self.min_count,
        )

    @cached_property
    def parts_at_centre(self) -> PartsInBoxes:
        """Parts, and the same boxes at the centre of their images."""
        return self.parts.moved(partial(centre_boxes, image_sizes=self.source.sizes))

    @cached_property
    def parts_at_random(self) -> PartsInBoxes:
        """Parts, and the same boxes at random places."""
        return self.parts.moved(
            partial(random_boxes, image_sizes=self.source.sizes, random_state=self.seed)
        )

    @cached_property
    def interventions(self) -> InterventionEffects:
        """What interventions cost."""
        return InterventionEffects(self.evidence.similarities, self.changed, self.min_count)

    @cached_property
    def _localized(self) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
        """Boxes (n, P, 4), and measures (n, P) by name, of one pass through the images."""
        positions = self.evidence.positions
        boxes = self.fitted.receptive_fields(self.source, positions).boxes
        measured = {name: np.full(self.own.shape, NAN) for name in self.measures}
        if LOCALIZERS[self.localizer].is_exact and not self.measures:
            return boxes, measured
        asked = [np.flatnonzero(each) for each in self.is_localized]
        for i, (patches, found) in for_each_image(
            self.fitted, self.source, positions, asked, self._measure
        ):
            boxes[i, asked[i]] = patches.located.boxes
            for name, values in found.items():
                measured[name][i, asked[i]] = values
        return boxes, measured

    def _measure(self, queries: ImageQueries) -> tuple[LocalizedPatches, dict[str, ArrayLike]]:
        """Localize the patches of an image, and measure what is asked for."""
        patches = queries.localize(self.localizer)
        row = queries.source.rows[0]
        mask = self.masks[row] if len(self.masks) else np.empty((0, 0), dtype=bool)
        image = LocalizedImage(queries, patches, self.localizer, mask)
        return patches, {name: measure(image) for name, measure in self.measures.items()}

    def _boxes_of(
        self, source: ImageSource, evidence: Evidence, wanted: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Boxes (n, P, 4), by the localizer where they are wanted (n, P)."""
        return located_boxes(
            self.fitted,
            source,
            self.localizer,
            evidence.positions,
            lambda i: np.flatnonzero(wanted[i]),
        ).boxes


def check_masks(masks: Any, sizes: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Check that there is a mask for each image of sizes (n, 2), or none at all."""
    if masks is None:
        return []
    n_masks = len(masks) if hasattr(masks, "__len__") else repr(masks)
    if n_masks != len(sizes):
        raise ValueError(
            f"masks must hold one for each of the {len(sizes)} images in X, got {n_masks}."
        )
    return [
        truths(f"masks[{i}]", each, (int(height), int(width)))
        for i, (each, (height, width)) in enumerate(zip(masks, sizes, strict=True))
    ]
