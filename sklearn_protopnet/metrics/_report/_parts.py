"""Which parts of objects lie in the boxes of prototypes.

Shapes: n images, P prototypes, A parts, k images nearest to a prototype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet.metrics._checks import truths
from sklearn_protopnet.metrics._interventions import NO_PART
from sklearn_protopnet.metrics._parts import (
    consistency,
    coverage,
    part_presence,
    part_rates,
    purity,
    stability,
)
from sklearn_protopnet.metrics._report._aggregation import NAN, of_each_prototype


@dataclass(frozen=True)
class PartsInBoxes:
    """Annotated parts, and boxes that may hold them."""

    centres: NDArray[np.float64]
    """(n, A, 2), NaN where a part is not visible."""
    visible: NDArray[np.bool_]
    """(n, A)"""
    boxes: NDArray[np.int64]
    """(n, P, 4)"""
    is_boxed: NDArray[np.bool_]
    """(n, P) whether the box of a prototype counts."""
    nearest: NDArray[np.int64]
    """(k, P) positions of the images nearest to each prototype."""
    nearest_boxes: NDArray[np.int64]
    """(n, P, 4) of which those of the nearest images count."""
    min_count: int
    """A part that is visible in fewer images does not count."""

    def moved(self, move: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> PartsInBoxes:
        """Move all boxes."""
        return replace(self, boxes=move(self.boxes), nearest_boxes=move(self.nearest_boxes))

    def parts(self) -> NDArray[np.int64]:
        """Part that each prototype's boxes hold most often, `NO_PART` if none counts, (P,)."""
        return np.where(self._is_known, self._known_rates.argmax(1), NO_PART)

    def rates(self) -> NDArray[np.float64]:
        """Share of the images that show this part in which it lies in the box, (P,)."""
        return np.where(self._is_known, self._known_rates.max(1), NAN)

    def consistent(self) -> NDArray[np.float64]:
        """`consistency` of each prototype, (P,)."""
        of_one = [
            consistency(self._presence[:, [p]], self._is_shown[:, [p]], min_count=self.min_count)
            for p in range(len(self._is_known))
        ]
        return np.array(of_one)

    def coverage(self) -> NDArray[np.float64]:
        """`coverage` of each prototype, (P,)."""
        return self._each(coverage, self._presence)

    def purity(self) -> NDArray[np.float64]:
        """`purity` of each prototype, (P,)."""
        is_common = self.visible.sum(0) >= self.min_count  # (A,)
        if not is_common.any():
            return np.full(len(self._is_known), NAN)
        presence = part_presence(self.nearest_boxes, self.centres) & is_common  # (n, P, A)
        return np.array(
            [purity(presence[rows, p][:, None]) for p, rows in enumerate(self.nearest.T)]
        )

    def stability(
        self, changed_boxes: NDArray[np.int64], *, covered_only: bool
    ) -> NDArray[np.float64]:
        """`stability` of each prototype if boxes change, (P,)."""
        changed = replace(self, boxes=changed_boxes)
        metric = partial(stability, covered_only=covered_only)
        return self._each(metric, self._presence, changed._presence)

    @cached_property
    def _is_shown(self) -> NDArray[np.bool_]:
        """Whether a part is visible where the box of a prototype counts, (n, P, A)."""
        return self.visible[:, None, :] & self.is_boxed[:, :, None]

    @cached_property
    def _is_counted(self) -> NDArray[np.bool_]:
        """Whether a part counts for a prototype, (P, A)."""
        is_counted: NDArray[np.bool_] = self._is_shown.sum(0) >= self.min_count
        return is_counted

    @cached_property
    def _is_known(self) -> NDArray[np.bool_]:
        """Whether any part counts for a prototype, (P,)."""
        is_known: NDArray[np.bool_] = self._is_counted.sum(1) > 0
        return is_known

    @cached_property
    def _presence(self) -> NDArray[np.bool_]:
        """Whether a part that counts lies in a box, (n, P, A)."""
        return part_presence(self.boxes, self.centres) & self._is_counted

    @cached_property
    def _known_rates(self) -> NDArray[np.float64]:
        """`part_rates`, less than any of them where a part does not count, (P, A)."""
        rates = part_rates(self._presence, self._is_shown, min_count=self.min_count)
        return np.where(np.isnan(rates), -np.inf, rates)

    def _each(
        self, metric: Callable[..., float], *presences: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Compute a metric of presences (n, P, A) for each prototype; NaN if no part counts."""
        found = of_each_prototype(
            lambda *of_one: metric(*(each[:, None] for each in of_one)), self.is_boxed, *presences
        )
        return np.where(self._is_known, found, NAN)


def check_parts(
    centres: ArrayLike | None, visible: ArrayLike | None, sizes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Check that there are parts for each image of sizes (n, 2), or none at all.

    Returns
    -------
    centres : float64 array of shape (n, A, 2)
        NaN where a part is not visible.
    visible : bool array of shape (n, A)
    """
    n_images = len(sizes)
    if centres is None:
        if visible is not None:
            raise ValueError("part_visible needs part_centres, which are None.")
        return np.empty((n_images, 0, 2)), np.empty((n_images, 0), dtype=bool)
    places = np.asarray(centres, dtype=np.float64)
    if places.ndim != 3 or places.shape[::2] != (n_images, 2) or places.shape[1] == 0:
        raise ValueError(
            f"part_centres must have the shape (n, n_parts, 2) for the {n_images} images in X, and "
            f"n_parts not be 0, got {places.shape}."
        )
    given = ~np.isnan(places).any(2) if visible is None else visible
    shown = truths("part_visible", given, places.shape[:2])
    is_outside = ~((places >= 0) & (places < sizes[:, None])).all(2)  # (n, A), NaN included
    if (shown & is_outside).any():
        i, part = np.argwhere(shown & is_outside)[0].tolist()
        raise ValueError(
            "part_centres of parts that are visible must lie in the image that reaches the "
            f"classifier, of {sizes[i, 0]} x {sizes[i, 1]} pixels for image {i}, got "
            f"{places[i, part].tolist()} for part {part}."
        )
    return np.where(shown[:, :, None], places, NAN), shown
