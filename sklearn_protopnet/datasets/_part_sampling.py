"""What is drawn at random for images with known parts.

Shapes: P parts with V variants each, K classes.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet.datasets._part_drawing import (
    CENTRE_RANGE,
    CLEARANCE,
    CUE_SIDE,
    DISTRACTOR_RADII,
    OBJECT_RADIUS,
    SHAPES,
    Distractor,
    PartImageParams,
    Point,
    colour_of,
)

LARGEST_POOL: Final = 4096
"""Codes are chosen from all that exist, or from this many or four for each class, if more exist."""


def draw_codes(n_classes: int, n_parts: int, n_variants: int, seed: int) -> NDArray[np.int64]:
    """Draw codes (K, P) one after the other, each as different from those before as there is."""
    random = np.random.RandomState(seed)
    n_codes = n_variants**n_parts
    if n_codes <= max(LARGEST_POOL, 4 * n_classes):
        numbers = random.permutation(n_codes)
        digits = n_variants ** np.arange(n_parts)
        pool = numbers[:, None] // digits % n_variants  # (codes, P)
    else:
        n_drawn = max(LARGEST_POOL, 4 * n_classes)  # hardly any of them twice
        pool = np.unique(random.randint(n_variants, size=(n_drawn, n_parts)), axis=0)
        pool = random.permutation(pool)
    chosen = [0]
    smallest = (pool != pool[0]).sum(1)  # of differences to a chosen code
    while len(chosen) < n_classes:
        chosen.append(int(smallest.argmax()))
        smallest = np.minimum(smallest, (pool != pool[chosen[-1]]).sum(1))
    return pool[chosen].astype(np.int64)


def draw_params(
    random: np.random.RandomState,
    code: tuple[int, ...],
    *,
    n_variants: int,
    image_size: int,
    n_distractors: int,
    part_drop: float,
    spurious: str | None,
    noise: float,
) -> PartImageParams:
    centre = tuple(random.uniform(*CENTRE_RANGE, size=2).tolist())
    visible = random.uniform(size=len(code)) >= part_drop
    visible[random.randint(len(code))] |= not visible.any()
    grey = random.uniform(0.35, 0.65)
    return PartImageParams(
        image_size=image_size,
        centre=centre,
        angle=random.uniform(0, 2 * math.pi),
        body_colour=colour_of(random.uniform(), 0.2, random.uniform(0.25, 0.45)),
        background=(grey, *random.uniform(-0.2, 0.2, size=2).tolist()),
        n_variants=n_variants,
        variants=code,
        visible=tuple(visible.tolist()),
        distractors=tuple(_draw_distractor(random, centre) for _ in range(n_distractors)),
        spurious=spurious,
        spurious_place=_draw_place(random, centre, CUE_SIDE / 2),
        noise=noise,
        noise_seed=int(random.randint(np.iinfo(np.int32).max)),
    )


def _draw_distractor(random: np.random.RandomState, object_centre: Point) -> Distractor:
    radius = random.uniform(*DISTRACTOR_RADII)
    y, x = _draw_place(random, object_centre, radius)
    return Distractor(
        shape=int(random.randint(len(SHAPES))),
        centre=(y + radius, x + radius),
        angle=random.uniform(0, 2 * math.pi),
        radius=radius,
        colour=colour_of(random.uniform(), 0.25, 0.8),
    )


def _draw_place(random: np.random.RandomState, object_centre: Point, half_side: float) -> Point:
    """Draw the upper left corner of a square beside the object; the corners are always free."""
    while True:
        corner = random.uniform(0, 1 - 2 * half_side, size=2)
        away = np.abs(corner + half_side - object_centre) - half_side
        if np.hypot(*np.maximum(away, 0)) > OBJECT_RADIUS + CLEARANCE:
            return float(corner[0]), float(corner[1])
