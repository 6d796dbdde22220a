"""Lists of images, brought to one array: arrays, tensors and images of Pillow.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Number
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sklearn_protopnet._images._decoding import decode, header_of
from sklearn_protopnet._images._numbers import as_array, as_numbers
from sklearn_protopnet._images._resizing import resize
from sklearn_protopnet._images._shapes import ImageShape
from sklearn_protopnet._images._store import ArrayImages, naming_row

USUAL_CHANNELS: Final = frozenset({1, 3, 4})
"""Images have these numbers of channels: grey, colour, and colour with transparency."""


@dataclass(frozen=True)
class Expected:
    """What images are to be like, by the parameters and by an earlier fit."""

    name: str = "X"
    """What errors call the images."""
    size: tuple[int, int] | None = None
    """Height and width to resize to; None: images have one size."""
    shape: ImageShape | None = None
    """What `image_shape` says, in a fit the parameter and after it the attribute."""
    channels: int | None = None
    """Channels in the fit; None during it, when the images say it."""


def is_image(item: Any) -> bool:
    """Tell whether an item is (H, W), (H, W, C) or an image of Pillow, decoding nothing."""
    return isinstance(item, Image.Image) or count_dimensions(item) in {2, 3}


def count_dimensions(item: Any) -> int | None:
    """Count dimensions of numbers, by both ends of nested lists; None for what holds others."""
    if _is_nested(item):
        if len(item) == 0:
            return 1
        first, last = count_dimensions(item[0]), count_dimensions(item[-1])
        return None if first is None or first != last else first + 1  # no (image, label)
    if isinstance(item, Number):
        return 0
    is_array = hasattr(item, "__array__") and not isinstance(item, str | bytes)
    return int(getattr(item, "ndim", 0)) if is_array else None


def _is_nested(item: Any) -> bool:
    is_column = isinstance(item, np.ndarray) and item.dtype == object and item.ndim == 1
    return isinstance(item, list | tuple) or is_column


def read_list(items: list[Any], expected: Expected) -> ArrayImages:
    """Bring images to one array: of one size, and of one number of channels.

    An image of Pillow has the pixels of its file, were that given by its path. Grey is taken as
    colour where another image has colour.

    Raises
    ------
    TypeError
        If an item is no image.
    ValueError
        If images differ in size and are not resized, or in their channels, or if they have their
        channels first.
    """
    name = expected.name
    found = [_pixels_of(item, f"row {row} of {name}") for row, item in enumerate(items)]
    check_channels_last([each.shape for each in found if not _is_picture(each)], expected)
    counts = [_count_channels(each, expected.channels) for each in found]
    channels = _shared_channels(counts, expected)
    images = [
        naming_row(f"Row {row} of {name}", decode, each, channels)
        if _is_picture(each)
        else _with_channels(each, channels)
        for row, each in enumerate(found)
    ]
    sizes = np.array([image.shape[:2] for image in images])
    check_one_size(sizes, expected)
    if expected.size is None or (sizes == expected.size).all():
        pixels, original = np.stack(images), None
    else:  # each by itself: what an image gives must not depend on the images beside it
        pixels, original = np.concatenate([resize(i[None], expected.size) for i in images]), sizes
    depths = [header_of(each).depth if _is_picture(each) else 8 for each in found]
    are_bytes = all(_is_picture(each) or each.dtype == np.uint8 for each in found) and set(
        depths
    ) <= {8, 16}
    return ArrayImages(pixels, original, has_byte_range=are_bytes)


def check_channels_last(shapes: list[tuple[int, ...]], expected: Expected) -> None:
    """Raise where images (C, H, W) have their channels first, unless `image_shape` says it.

    Raises
    ------
    ValueError
        With the remedy.
    """
    whole = [shape for shape in shapes if len(shape) == 3]
    if not whole or any(shape == expected.shape for shape in whole):
        return
    if all(first in USUAL_CHANNELS and last not in USUAL_CHANNELS for first, _, last in whole):
        raise ValueError(
            f"Images in {expected.name} must have their channels last, (height, width, channels), "
            f"got {whole[0]}, which looks like channels first. Move the axis, as "
            "np.moveaxis(X, -3, -1) does, or set image_shape if it is meant."
        )


def check_one_size(
    sizes: NDArray[np.int64], expected: Expected, paths: list[str] | None = None
) -> None:
    """Raise where images differ in size (n, 2) and are not resized.

    Raises
    ------
    ValueError
        With the remedy.
    """
    differs = np.flatnonzero((sizes != sizes[0]).any(1))
    if expected.size is None and differs.size:
        first, other = (
            f"{tuple(sizes[row].tolist())} in row {row}" + (f" for {paths[row]!r}" if paths else "")
            for row in (0, differs[0])
        )
        raise ValueError(
            f"Images in {expected.name} must have one size unless image_size is set, got {first} "
            f"and {other}."
        )


def _is_picture(item: Any) -> bool:
    return isinstance(item, Image.Image)


def _pixels_of(item: Any, where: str) -> Any:
    """Turn an item into an array (H, W) or (H, W, C), or leave it to be decoded."""
    if _is_picture(item):
        return item
    if not is_image(item):
        raise TypeError(f"Images must have 2 or 3 dimensions, got {kind_of(item)} in {where}.")
    try:
        pixels = np.asarray(_plain(as_array(item, where)))
    except ValueError as error:
        raise ValueError(f"Images must have lines of one length, got others in {where}.") from error
    if pixels.ndim not in {2, 3} or pixels.size == 0:
        raise ValueError(f"Images must have pixels, got an array {pixels.shape} in {where}.")
    return as_numbers(pixels, where)


def _plain(item: Any) -> Any:
    """Turn columns of objects, as polars nests them, into lists."""
    return [_plain(each) for each in item] if _is_nested(item) else item


def kind_of(item: Any) -> str:
    """Name what an item is, and never print it."""
    module, name = type(item).__module__, type(item).__qualname__
    name = name if module == "builtins" else f"{module}.{name}"
    n_dimensions = getattr(item, "ndim", 0)
    return f"{name} of {n_dimensions} dimensions" if n_dimensions else name


def _count_channels(image: Any, fitted: int | None) -> int:
    """Count channels; an image of Pillow has those of the fit, where it can have them."""
    if _is_picture(image):
        of_its_own = 3 if header_of(image).is_colour else 1
        return fitted if fitted in {1, 3} else of_its_own
    return int(image.shape[2]) if image.ndim == 3 else 1


def _shared_channels(counts: list[int], expected: Expected) -> int:
    """Find the channels that all images are to have: grey is taken as colour beside colour."""
    different = set(counts)
    if different <= {1, 3}:
        return 3 if 3 in different or expected.channels == 3 else 1
    if len(different) > 1:
        row = next(row for row, count in enumerate(counts) if count != counts[0])
        raise ValueError(
            f"Images in {expected.name} must have one number of channels, but for grey beside "
            f"colour, which counts as colour, got {counts[0]} in row 0 and {counts[row]} in row "
            f"{row}."
        )
    return counts[0]


def _with_channels(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """Give an image (H, W, C), its grey repeated where it is to be colour."""
    whole = image if image.ndim == 3 else image[:, :, None]
    return np.broadcast_to(whole, (*whole.shape[:2], channels))
