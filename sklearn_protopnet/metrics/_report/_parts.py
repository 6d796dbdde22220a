"""What a report says of prototypes where the parts of an object are known.

Shapes: n images, P prototypes, A parts, k patches nearest to a prototype.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet.inspection._localizers import located_boxes
from sklearn_protopnet.metrics._baseline_boxes import centre_boxes, random_boxes
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
from sklearn_protopnet.metrics._report._context import NAN, Columns, Subject

N_NEAREST: Final = 10
"""Patches that purity looks at (Nauta et al., CVPR 2023)."""

SCORES: Final = ("part_rate", "consistent", "coverage", "purity")
"""Columns that come with those of boxes that know nothing."""

BASELINES: Final = tuple(f"{score}_{place}" for place in ("centre", "random") for score in SCORES)
"""Their columns."""


@dataclass(frozen=True)
class Parts:
    """Where parts are in the images that a subject has seen."""

    subject: Subject
    centres: NDArray[np.float64]
    """(n, A, 2), NaN where a part is not seen."""
    visible: NDArray[np.bool_]
    """(n, A)"""
    min_count: int
    """A part that is seen in fewer images does not count."""

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Whether a part is seen where a prototype has a box, (n, P, A)."""
        return self.visible[:, None, :] & self.subject.boxed[:, :, None]

    @cached_property
    def counts(self) -> NDArray[np.bool_]:
        """Whether a part counts for a prototype, (P, A)."""
        enough: NDArray[np.bool_] = self.seen.sum(0) >= self.min_count
        return enough

    def presence(self, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which of the parts that count lie in boxes (n, P, 4); (n, P, A)."""
        return part_presence(boxes, self.centres) & self.counts

    def each(self, metric: Any, *presences: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Compute a metric of presences (n, P, A) for each prototype; NaN if no part counts."""
        found = self.subject.each(
            lambda *of_one: metric(*(each[:, None] for each in of_one)), *presences
        )
        return np.where(self.counts.any(1), found, NAN)


def check_parts(
    subject: Subject, centres: ArrayLike | None, visible: ArrayLike | None, min_count: int
) -> Parts | None:
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
    sizes = subject.source.sizes  # (n, 2)
    is_outside = ~((places >= 0) & (places < sizes[:, None])).all(2)  # (n, A), NaN included
    if (seen & is_outside).any():
        i, part = np.argwhere(seen & is_outside)[0].tolist()
        raise ValueError(
            "part_centres of parts that are seen must lie in the image that reaches the "
            f"classifier, of {sizes[i, 0]} x {sizes[i, 1]} pixels for image {i}, got "
            f"{places[i, part].tolist()} for part {part}."
        )
    return Parts(subject, np.where(seen[:, :, None], places, NAN), seen, min_count)


def part_columns(
    parts: Parts, boxes: NDArray[np.int64], noisy: NDArray[np.int64] | None, seed: int
) -> Columns:
    """Say which parts prototypes look at, by their boxes.

    Parameters
    ----------
    parts : Parts
    boxes : int64 array of shape (n, P, 4)
    noisy : int64 array of shape (n, P, 4) or None
        The same in images with noise.
    seed : int
        Draws random places of boxes.
    """
    subject = parts.subject
    nearest = np.argsort(-subject.evidence.similarities, axis=0, kind="stable")[
        :N_NEAREST
    ]  # (k, P)
    is_near = np.zeros(subject.own.shape, dtype=bool)
    np.put_along_axis(is_near, nearest, values=True, axis=0)
    near = located_boxes(
        subject.fitted,
        subject.source,
        subject.localizer,
        subject.evidence.positions,
        lambda i: np.flatnonzero(is_near[i]),
    ).boxes
    columns = _scores(parts, boxes, near, nearest)
    sizes = subject.source.sizes
    moves = (("centre", centre_boxes), ("random", partial(random_boxes, random_state=seed)))
    for place, move in moves:
        found = _scores(parts, move(boxes, sizes), move(near, sizes), nearest)
        columns |= {f"{score}_{place}": found[score] for score in SCORES}
    if noisy is not None:
        before, after = parts.presence(boxes), parts.presence(noisy)
        columns["stability"] = parts.each(stability, before, after)
        columns["stability_covered"] = parts.each(
            partial(stability, covered_only=True), before, after
        )
    return columns


def _scores(
    parts: Parts,
    boxes: NDArray[np.int64],
    near: NDArray[np.int64],
    nearest: NDArray[np.int64],
) -> Columns:
    """Score boxes (n, P, 4), and those of the nearest patches (k, P); (P,) each."""
    presence = parts.presence(boxes)  # (n, P, A)
    rates = part_rates(presence, parts.seen, min_count=parts.min_count)  # (P, A)
    best = np.where(np.isnan(rates), -np.inf, rates)
    is_known = parts.counts.any(1)  # (P,)
    is_common = parts.visible.sum(0) >= parts.min_count  # (A,)
    of_nearest = part_presence(near, parts.centres) & is_common  # (n, P, A)
    return {
        "part": np.where(is_known, best.argmax(1), NO_PART),
        "part_rate": np.where(is_known, best.max(1), NAN),
        "consistent": [
            consistency(presence[:, [p]], parts.seen[:, [p]], min_count=parts.min_count)
            for p in range(len(rates))
        ],
        "coverage": parts.each(coverage, presence),
        "purity": [
            purity(of_nearest[rows, p][:, None]) if is_common.any() else NAN
            for p, rows in enumerate(nearest.T)
        ],
    }
