"""What is measured in one image, of the patches in it that prototypes are compared with.

Shapes: an image of H x W pixels, Q prototypes that are localized in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet.inspection._localization import maps_as_given
from sklearn_protopnet.inspection._localizers import LOCALIZERS, ImageQueries, LocalizedPatches
from sklearn_protopnet.metrics._faithfulness import Score
from sklearn_protopnet.metrics._report._aggregation import NAN
from sklearn_protopnet.metrics._robustness import spatial_misalignment


@dataclass(frozen=True)
class LocalizedImage:
    """One image and the patches of it that a localizer has found."""

    queries: ImageQueries
    patches: LocalizedPatches
    localizer: str
    mask: NDArray[np.bool_]
    """(H, W) pixels of the object, in the image as it was given; void if masks are not given."""

    def __len__(self) -> int:
        return len(self.patches.maps)

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """How much each pixel of the image as it was given counts, (Q, H, W)."""
        height, width = self.queries.source.sizes[0].tolist()
        return maps_as_given(self.localizer, self.patches, (height, width))

    def of_boxes(self, metric: Callable[..., float]) -> NDArray[np.float64]:
        """Compute a metric of score, image, box and baseline; (Q,)."""
        return self._of_scores(metric, self.patches.input_boxes)

    def of_curves(self, metric: Callable[..., float]) -> NDArray[np.float64]:
        """Compute a metric of score, image, relevance and baseline; (Q,).

        NaN for receptive fields, which tell no pixel from another.
        """
        if LOCALIZERS[self.localizer].is_exact:
            return np.full(len(self), NAN)
        return self._of_scores(metric, self.patches.maps)

    def of_maps(self, metric: Callable[..., float]) -> NDArray[np.float64]:
        """Compute a metric of maps and masks; (Q,)."""
        return np.array([metric(each[None], self.mask[None]) for each in self.maps])

    def of_mask(self, metric: Callable[..., float]) -> NDArray[np.float64]:
        """Compute a metric of masks, which is the same for all prototypes; (Q,)."""
        return np.full(len(self), metric(self.mask[None]))

    def misalignment(self) -> NDArray[np.float64]:
        """`spatial_misalignment` of each prototype, (Q,)."""
        effects = self.queries.attacked(self.patches.input_boxes)  # (Q, 2)
        return np.array([spatial_misalignment([before], [after]) for before, after in effects])

    def _of_scores(self, metric: Callable[..., float], places: NDArray[Any]) -> NDArray[np.float64]:
        image, baseline = self._pixels, self._baseline
        scores = (self._score_of(q) for q in range(len(self)))
        return np.array(
            [
                metric(score, image, place, baseline)
                for score, place in zip(scores, places, strict=True)
            ]
        )

    @cached_property
    def _pixels(self) -> NDArray[np.float32]:
        return self.queries.pixels

    @cached_property
    def _baseline(self) -> NDArray[np.float32]:
        return self.queries.baseline

    def _score_of(self, q: int) -> Score:
        return lambda variants: self.queries.similarities(variants)[:, q]
