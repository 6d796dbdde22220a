"""What users pass as X, told apart: paths, images, or rows.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images._resizing import resize

SMALLEST_SQUARE: Final = 64
"""Features from which a row of perfect-square length unfolds to a square grey image."""

ImageShape = tuple[int, int, int]
"""(H, W, C)"""


def find_paths(X: Any) -> list[str] | None:
    """Say which paths X holds; None where it holds something else.

    Parameters
    ----------
    X : list, array, Series or one-column frame of str or path-like; anything

    Raises
    ------
    TypeError
        If X is one path, or if some items are paths and others are not.
    """
    if _is_path(X):
        raise TypeError(
            f"X must be a list of paths, got one, {os.fsdecode(X)!r}. A list makes it one image; "
            "datasets.load_image_folder lists the images of a folder."
        )
    items = _items(X)
    if len(items) == 0 or not _is_path(items[0]):
        return None
    for row, item in enumerate(items):
        if not _is_path(item):
            raise TypeError(
                "X must hold paths of images only where it holds one, got "
                f"{type(item).__name__} in row {row}."
            )
    # Absolute: a process that reads them may have another working directory. Plain: the repr of
    # NumPy's str names its type.
    return [str(os.path.abspath(os.fsdecode(item))) for item in items]


def _items(X: Any) -> Sequence[Any]:
    """Look at what may be a column of paths, item by item."""
    if isinstance(X, list | tuple):
        return X
    if hasattr(X, "to_numpy") and _is_column(X):  # a series or a frame
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT" and _is_column(X):
        return list(X.reshape(-1))
    return ()


def _is_column(X: Any) -> bool:
    shape = list(getattr(X, "shape", ()))
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _is_path(item: Any) -> bool:
    return isinstance(item, str | os.PathLike)


def as_array(X: Any) -> Any:
    """Turn a tensor into an array, and leave anything else alone.

    Raises
    ------
    TypeError
        If X is a tensor on an accelerator.
    """
    if not isinstance(X, Tensor):
        return X
    if X.device.type != "cpu":
        raise TypeError(f"Tensors in X must be on the CPU, got one on {X.device}.")
    X = X.detach()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def find_images(
    X: Any, image_size: tuple[int, int] | None
) -> tuple[NDArray[Any], NDArray[np.int64] | None] | None:
    """Bring images to one array, at one size; None where X is no array or list of images.

    Parameters
    ----------
    X : array (n, H, W) or (n, H, W, C), list of images (H, W) or (H, W, C); anything
    image_size : (int, int) or None
        Height and width to resize to; None: images have one size.

    Returns
    -------
    pixels : array of shape (n, H, W, C)
    sizes : int64 array of shape (n, 2), or None
        Height and width before they were resized.

    Raises
    ------
    ValueError
        If X has more than four dimensions, or its images differ in shape and are not resized,
        or differ in their number of channels.
    """
    if isinstance(X, list | tuple) and len(X) > 0 and _is_image(X[0]):
        images = [np.asarray(as_array(image)) for image in X]
        if image_size is None or len({image.shape for image in images}) == 1:
            X = _stack(images)
        else:
            return _resize_each(images, image_size)
    if not isinstance(X, np.ndarray) or X.ndim < 3:
        return None
    if X.ndim > 4:
        raise ValueError(
            "X must be 2-D rows, 3-D (n_samples, height, width) or 4-D (n_samples, height, "
            f"width, channels), got an array with {X.ndim} dimensions."
        )
    return resize_all(X if X.ndim == 4 else X[..., None], image_size)


def resize_all(
    pixels: NDArray[Any], image_size: tuple[int, int] | None
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Resize images (n, H, W, C) of one size; give their sizes (n, 2) before that, if they were."""
    if image_size is None or pixels.shape[1:3] == image_size or pixels.size == 0:
        return pixels, None
    return resize(pixels, image_size), np.tile(np.array(pixels.shape[1:3]), (len(pixels), 1))


def _resize_each(
    images: list[NDArray[Any]], image_size: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Resize images of several sizes."""
    for row, image in enumerate(images):
        if image.ndim not in {2, 3} or image.shape[2:] != images[0].shape[2:]:
            raise ValueError(
                "Images in X must be (height, width) or (height, width, channels) with one number "
                f"of channels, got {images[0].shape} and, in row {row}, {image.shape}."
            )
        if 0 in image.shape:
            raise ValueError(f"Images in X must have pixels, got {image.shape} in row {row}.")
    whole = [image[..., None] if image.ndim == 2 else image for image in images]
    pixels = np.concatenate([resize(image[None], image_size) for image in whole])
    return pixels, np.array([image.shape[:2] for image in images])


def _is_image(item: Any) -> bool:
    if isinstance(item, Tensor):
        return item.ndim >= 2
    return not _is_path(item) and np.ndim(item) >= 2


def _stack(images: list[NDArray[Any]]) -> NDArray[Any]:
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(
            "Images in X must have one shape, got "
            f"{', '.join(str(shape) for shape in sorted(shapes)[:3])} and so on. "
            "Set image_size to have them resized."
        )
    return np.stack(images)


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

    Without a parameter, a perfect square of at least 64 features is a square grey image and
    anything else one pixel with as many channels.

    Raises
    ------
    ValueError
        If rows do not have as many features as the parameter says.
    """
    if image_shape is None:
        side = math.isqrt(n_features)
        is_square = n_features >= SMALLEST_SQUARE and side**2 == n_features
        return (side, side, 1) if is_square else (1, 1, n_features)
    if math.prod(image_shape) != n_features:
        raise ValueError(
            f"Rows of X must have {math.prod(image_shape)} features to unfold to images of "
            f"{describe(image_shape)}, got {n_features}."
        )
    return image_shape


def describe(shape: Sequence[int]) -> str:
    """Write a shape as messages name it: ``8 x 8 pixels and 1 channel``."""
    height, width, channels = shape
    return f"{height} x {width} pixels and {channels} channel{'s' if channels != 1 else ''}"
