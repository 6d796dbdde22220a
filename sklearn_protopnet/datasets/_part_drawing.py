"""Drawing an object with parts: its pixels, and which of them belong to what.

Shapes: images of S x S pixels, P parts.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Lengths are in sides of the image.
BODY_AXES: Final = (0.18, 0.12)
"""The body is an ellipse with these half axes."""
PART_DISTANCE: Final = 0.19
"""Parts have their centres at this distance from that of the body."""
PART_RADIUS: Final = 0.085
"""A part is no larger than this, and smaller where there is no room for so many."""
OBJECT_RADIUS: Final = PART_DISTANCE + PART_RADIUS
"""A circle of this radius holds the body and its parts."""
CENTRE_RANGE: Final = (0.34, 0.66)
"""The centre of the body lies in this range, so that each corner stays free for a cue."""
DISTRACTOR_RADII: Final = (0.05, 0.08)
"""Distractors have radii between these."""
CUE_SIDE: Final = 0.125
"""The square that is a spurious cue has sides of this length."""
CLEARANCE: Final = 0.02
"""What must not overlap the object keeps this distance, so that no pixel holds an edge of both."""

TINT: Final = (1.0, 0.75, 0.5)
"""The cue ``"tint"`` multiplies the background by these."""

Point = tuple[float, float]
"""(y, x)"""
Colour = tuple[float, float, float]
Values = NDArray[np.float64]
"""(S, S)"""
Grid = NDArray[np.float64]
"""(2, S, S): y and x of the centres of pixels."""


@dataclass(frozen=True)
class Distractor:
    """A shape that has nothing to do with the class."""

    shape: int
    centre: Point
    angle: float
    radius: float
    colour: Colour


@dataclass(frozen=True)
class PartImageParams:
    """All that an image of `make_part_images` depends on; lengths in sides of the image.

    Parameters
    ----------
    image_size : int
        Height and width in pixels.
    centre : (float, float)
        ``y, x`` of the body's centre.
    angle : float
        By which the object is turned, in radians.
    body_colour : (float, float, float)
        Red, green and blue, from 0 to 1, as all colours.
    background : (float, float, float)
        Grey value in the middle, and what it grows by along y and along x.
    n_variants : int
        Variants of each part.
    variants : tuple of int
        The variant of each part.
    visible : tuple of bool
        Whether each part is there.
    distractors : tuple of Distractor
        Shapes that have nothing to do with the class.
    spurious : str or None
        The cue that is there.
    spurious_place : (float, float)
        Upper left corner of the cue ``"patch"``, if it is there or is added.
    noise : float
        Standard deviation.
    noise_seed : int
        Seeds the noise.
    """

    image_size: int
    centre: Point
    angle: float
    body_colour: Colour
    background: tuple[float, float, float]
    n_variants: int
    variants: tuple[int, ...]
    visible: tuple[bool, ...]
    distractors: tuple[Distractor, ...]
    spurious: str | None
    spurious_place: Point
    noise: float
    noise_seed: int


@dataclass(frozen=True)
class Rendered:
    """An image, and which pixels belong to what."""

    image: NDArray[np.float32]
    """(S, S, 3)"""
    part_masks: NDArray[np.bool_]
    """(P, S, S)"""
    object_mask: NDArray[np.bool_]
    """(S, S)"""
    spurious_mask: NDArray[np.bool_]
    """(S, S)"""


def colour_of(hue: float, saturation: float, value: float) -> Colour:
    """Red, green and blue of a hue, a saturation and a value, all from 0 to 1."""
    return colorsys.hsv_to_rgb(hue, saturation, value)


def render(params: PartImageParams) -> Rendered:
    """Draw an image, from the background to the parts, and the noise on all of it."""
    size = params.image_size
    grid = (np.indices((size, size)) + 0.5) / size  # (2, S, S), centres of pixels
    grey, down, right = params.background
    level = grey + down * (grid[0] - 0.5) + right * (grid[1] - 0.5)
    image = np.repeat(level[..., None], 3, axis=2)  # (S, S, 3)
    for each in params.distractors:
        place = _local(grid, each.centre, each.angle)
        image = _painted(image, SHAPES[each.shape](*place, each.radius), each.colour)
    body = _ellipse(*_local(grid, params.centre, params.angle), BODY_AXES)
    visible = [int(k) for k in np.flatnonzero(params.visible)]
    parts = {k: _part(params, k, grid) for k in visible}
    edges = np.minimum.reduce([body, *(shape for shape, _ in parts.values())])  # (S, S)
    spurious_mask = np.zeros((size, size), dtype=bool)
    if params.spurious is not None:
        with_cue, spurious_mask = CUES[params.spurious](image, params, grid)
        spurious_mask &= _coverage(edges) == 0
        image = np.where(spurious_mask[..., None], with_cue, image)
    image = _painted(image, body, params.body_colour)
    part_masks = np.zeros((len(params.variants), size, size), dtype=bool)
    for k, (shape, colour) in parts.items():
        image = _painted(image, shape, colour)
        part_masks[k] = shape <= max(0, shape.min())  # at least its innermost pixel
    random = np.random.RandomState(params.noise_seed)
    image = image + params.noise * random.normal(size=image.shape)
    pixels = np.clip(image, 0, 1).astype(np.float32)
    return Rendered(pixels, part_masks, (edges <= 0) | part_masks.any(0), spurious_mask)


def part_place(params: PartImageParams, part: int) -> tuple[Point, float]:
    """Centre and angle of a part."""
    angle = params.angle + 2 * math.pi * part / len(params.variants)
    y, x = params.centre
    return (y + PART_DISTANCE * math.sin(angle), x + PART_DISTANCE * math.cos(angle)), angle


def _part(params: PartImageParams, part: int, grid: Grid) -> tuple[Values, Colour]:
    """Signed distance from the edge of a part, and its colour; no two kinds share the colour."""
    n_parts = len(params.variants)
    kind = part * params.n_variants + params.variants[part]
    local = _local(grid, *part_place(params, part))
    shape = SHAPES[kind % len(SHAPES)](*local, _part_radius(n_parts))
    return shape, colour_of(kind / (n_parts * params.n_variants), 0.85, 0.9)


def _part_radius(n_parts: int) -> float:
    """As large as it may be without neighbours touching."""
    if n_parts == 1:
        return PART_RADIUS
    return min(PART_RADIUS, 0.9 * PART_DISTANCE * math.sin(math.pi / n_parts))


def _local(grid: Grid, centre: Point, angle: float) -> tuple[Values, Values]:
    """Coordinates across and along an axis that is turned by an angle."""
    down, right = grid[0] - centre[0], grid[1] - centre[1]
    across = math.cos(angle) * down - math.sin(angle) * right
    return across, math.sin(angle) * down + math.cos(angle) * right


def _coverage(distance: Values) -> Values:
    """Share of each pixel that is within a signed distance from an edge."""
    covered: Values = np.clip(0.5 - distance * len(distance), 0, 1)
    return covered


def _painted(image: NDArray[np.float64], distance: Values, colour: Colour) -> NDArray[np.float64]:
    """Paint what a signed distance from an edge covers."""
    coverage = _coverage(distance)[..., None]  # (S, S, 1)
    painted: NDArray[np.float64] = image * (1 - coverage) + coverage * np.array(colour)
    return painted


# Signed distances from the edge of a shape that fits into a circle of a radius; negative within.


def _ellipse(v: Values, u: Values, axes: tuple[float, float]) -> Values:
    return (np.hypot(u / axes[0], v / axes[1]) - 1) * min(axes)


def _disc(v: Values, u: Values, radius: float) -> Values:
    return np.hypot(u, v) - radius


def _square(v: Values, u: Values, radius: float) -> Values:
    return np.maximum(np.abs(u), np.abs(v)) - 0.7 * radius


def _triangle(v: Values, u: Values, radius: float) -> Values:
    edges = [u * math.cos(a) + v * math.sin(a) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    distance: Values = np.maximum.reduce(edges) - 0.5 * radius
    return distance


def _ring(v: Values, u: Values, radius: float) -> Values:
    return np.abs(np.hypot(u, v) - 0.7 * radius) - 0.3 * radius


def _cross(v: Values, u: Values, radius: float) -> Values:
    thin, long = 0.33 * radius, 0.94 * radius
    upright = np.maximum(np.abs(u) - thin, np.abs(v) - long)
    level = np.maximum(np.abs(u) - long, np.abs(v) - thin)
    return np.minimum(upright, level)


def _bar(v: Values, u: Values, radius: float) -> Values:
    return np.maximum(np.abs(u) - 0.4 * radius, np.abs(v) - 0.9 * radius)


def _half_disc(v: Values, u: Values, radius: float) -> Values:
    return np.maximum(np.hypot(u, v) - radius, u)


SHAPES: Final = (_disc, _square, _triangle, _ring, _cross, _bar, _half_disc)
"""Variants of a part, and distractors, have one of these shapes."""

Cue = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""An image with a cue, and the pixels of the cue."""


def _patch(image: NDArray[np.float64], params: PartImageParams, grid: Grid) -> Cue:
    return _checkered(image, params.spurious_place, grid)


def _corner(image: NDArray[np.float64], params: PartImageParams, grid: Grid) -> Cue:  # noqa: ARG001
    return _checkered(image, (0.0, 0.0), grid)


def _checkered(image: NDArray[np.float64], place: Point, grid: Grid) -> Cue:
    """Draw a square of two white and two black squares, from an upper left corner on."""
    down, right = ((g - start) / CUE_SIDE for g, start in zip(grid, place, strict=True))
    mask = (down >= 0) & (down < 1) & (right >= 0) & (right < 1)
    is_white = (down < 0.5) == (right < 0.5)
    return np.where(mask[..., None], is_white[..., None].astype(np.float64), image), mask


def _tint(image: NDArray[np.float64], params: PartImageParams, grid: Grid) -> Cue:  # noqa: ARG001
    return image * np.array(TINT), np.ones(image.shape[:2], dtype=bool)


CUES: Final = {"patch": _patch, "corner": _corner, "tint": _tint}
"""Each spurious cue is drawn by its function."""
