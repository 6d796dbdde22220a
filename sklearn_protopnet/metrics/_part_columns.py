"""What a report says of prototypes where the parts of an object are known.

Shapes: n images, P prototypes, A parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet.inspection._localization import located_boxes
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
from sklearn_protopnet.metrics._subject import NAN, Columns, Subject

N_NEAREST: Final = 10
"""Patches that purity looks at (Nauta et al., CVPR 2023)."""


@dataclass(frozen=True)
class Parts:
    """Where parts are."""

    centres: NDArray[np.float64]
    """(n, A, 2)"""
    visible: NDArray[np.bool_]
    """(n, A)"""


def check_parts(
    subject: Subject, centres: ArrayLike | None, visible: ArrayLike | None
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
    sizes = subject.view.sizes  # (n, 2)
    is_outside = ~((places >= 0) & (places < sizes[:, None])).all(2)  # (n, A), NaN included
    if (seen & is_outside).any():
        i, part = np.argwhere(seen & is_outside)[0].tolist()
        raise ValueError(
            "part_centres of parts that are seen must lie in the image that reaches the "
            f"classifier, of {sizes[i, 0]} x {sizes[i, 1]} pixels for image {i}, got "
            f"{places[i, part].tolist()} for part {part}."
        )
    return Parts(places, seen)


def part_columns(
    subject: Subject,
    parts: Parts,
    boxes: NDArray[np.int64],
    noisy: NDArray[np.int64] | None,
    min_count: int,
) -> Columns:
    """Say which parts prototypes look at, by their boxes (n, P, 4) without and with noise."""
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


def _purities(subject: Subject, parts: Parts) -> list[float]:
    """Purity (P,) of the nearest patches in images of any class."""
    order = np.argsort(-subject.similarities, axis=0, kind="stable")[:N_NEAREST]  # (k, P)
    is_near = np.zeros(subject.own.shape, dtype=bool)
    np.put_along_axis(is_near, order, values=True, axis=0)
    boxes = located_boxes(
        subject.view, subject.localizer, subject.positions, lambda i: np.flatnonzero(is_near[i])
    ).boxes
    presence = part_presence(boxes, parts.centres)  # (n, P, A)
    return [purity(presence[rows, p][:, None]) for p, rows in enumerate(order.T)]
