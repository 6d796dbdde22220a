"""Shapes of images: what the parameters and the rows of a 2-D X say of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Final

SMALLEST_SQUARE: Final = 64
"""Rows are images from this number of features on; shorter ones are single pixels."""

SMALLEST_AMBIGUOUS_SIDE: Final = 32
"""Squares from this even side on may also be squares of four channels: 1,024 is 16 x 16 x 4."""

ImageShape = tuple[int, int, int]
"""An image has this shape, (H, W, C)."""


def check_size(image_size: Any) -> tuple[int, int] | None:
    """Check the parameter `image_size`.

    Raises
    ------
    ValueError
        If it is neither None nor two positive integers.
    """
    if image_size is None:
        return None
    sizes = tuple(image_size)
    if len(sizes) != 2 or not _are_lengths(sizes):
        raise ValueError(
            f"image_size must be (height, width) in positive integers, got {image_size!r}."
        )
    return int(sizes[0]), int(sizes[1])


def check_shape(image_shape: Any) -> ImageShape | None:
    """Check the parameter `image_shape`; one channel where it names none.

    Raises
    ------
    ValueError
        If it is neither None nor two or three positive integers.
    """
    if image_shape is None:
        return None
    sizes = tuple(image_shape)
    if len(sizes) not in {2, 3} or not _are_lengths(sizes):
        raise ValueError(
            "image_shape must be (height, width) or (height, width, channels) in positive "
            f"integers, got {image_shape!r}."
        )
    return int(sizes[0]), int(sizes[1]), int(sizes[2]) if len(sizes) == 3 else 1


def _are_lengths(sizes: tuple[Any, ...]) -> bool:
    return all(isinstance(n, Integral) and int(n) > 0 for n in sizes)


def shape_of_rows(image_shape: ImageShape | None, n_features: int) -> ImageShape:
    """Say how a row of a 2-D X unfolds: by the parameter, or by its length.

    Without a parameter, a perfect square of at least 64 features is a square grey image, and
    fewer features are one pixel with as many channels.

    Raises
    ------
    ValueError
        If rows do not have as many features as the parameter says, or without one have 64 or
        more that are no perfect square.
    """
    if image_shape is not None:
        if math.prod(image_shape) != n_features:
            raise ValueError(
                f"Rows of X must have {math.prod(image_shape)} features to unfold to images of "
                f"{describe(image_shape)}, got {n_features}."
            )
        return image_shape
    if n_features < SMALLEST_SQUARE:
        return 1, 1, n_features
    side = math.isqrt(n_features)
    if side**2 != n_features:
        raise ValueError(
            f"Rows of {SMALLEST_SQUARE} features or more must be square grey images unless "
            f"image_shape says how they unfold, got {n_features} features. Set "
            "image_shape=(height, width, channels)."
        )
    return side, side, 1


def is_ambiguous(shape: ImageShape) -> bool:
    """Tell whether a row that was taken for a square grey image may be one of four channels."""
    side = shape[0]
    return side >= SMALLEST_AMBIGUOUS_SIDE and side % 2 == 0


def describe(shape: Sequence[int]) -> str:
    """Write a shape as messages name it: ``8 x 8 pixels and 1 channel``."""
    height, width, channels = shape
    return f"{height} x {width} pixels and {channels} channel{'s' if channels != 1 else ''}"
