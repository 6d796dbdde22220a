"""Images brought to one size, and boxes brought back to the size that they had.

Shapes: N images of H x W pixels and C channels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

KEPT_DTYPES: Final = ("uint8", "float32")
"""Resized images keep these dtypes; other numbers become float64."""


def channels_first(image: NDArray[Any]) -> Tensor:
    """Copy an image (H, W, C) into a tensor (C, H, W), whatever its memory is like."""
    native = image.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), native, order="C"))


def resize(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize images (N, H, W, C) to (N, *size, C), bilinear with antialiasing.

    An image has the same bits whatever the images beside it.
    """
    if pixels.shape[1:3] == size:
        return pixels
    name = pixels.dtype.name
    resized = np.empty(
        (len(pixels), *size, pixels.shape[3]), name if name in KEPT_DTYPES else np.float64
    )
    for image, target in zip(pixels, resized, strict=True):
        # In float32 rounding moves the ends of the filter, and boxes would miss pixels of weight
        # 1e-7: for 7 pixels resized to 3, and for 6 % of all pairs of lengths up to 60.
        numbers = image if name == "uint8" else image.astype(np.float64)
        target[...] = _resized(channels_first(numbers), size).numpy().transpose(1, 2, 0)
    return resized


def resize_all(
    pixels: NDArray[Any], size: tuple[int, int] | None
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Resize images (n, H, W, C) of one size; give their sizes (n, 2) before that, if they were."""
    if size is None or pixels.shape[1:3] == size or pixels.size == 0:
        return pixels, None
    return resize(pixels, size), np.tile(np.array(pixels.shape[1:3]), (len(pixels), 1))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image (C, H, W) to (C, *size)."""
    height, width = size
    resized: Tensor
    if width > 1 or image.shape[1] == height:
        resized = functional.resize(image, [height, width])
    else:  # torch 2.15 goes wrong vertically where one column is left: it is laid on its side
        column = functional.resize(image, [image.shape[1], 1])  # (C, H, 1)
        resized = functional.resize(column.mT.contiguous(), [1, height]).mT
    return resized


def enlarged(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring maps (Q, H, W) of resized images to the size (Q, *size) that the images had.

    Bilinear, without smoothing: a map's values mean what they meant.
    """
    if maps.shape[1:] == size:
        return maps
    values = torch.from_numpy(maps)[:, None]  # (Q, 1, H, W)
    result: NDArray[np.float32] = interpolate(values, size, mode="bilinear")[:, 0].numpy()
    return result


def original_boxes(
    boxes: NDArray[np.int64], sizes: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Find the pixels of the original images that boxes in resized ones depend on.

    Parameters
    ----------
    boxes : int64 array of shape (N, ..., 4)
        ``y0, y1, x0, x1`` in resized images, half-open.
    sizes : int64 array of shape (N, 2)
        Height and width of the original images.
    size : (int, int)
        Height and width of the resized ones.

    Returns
    -------
    int64 array of shape (N, ..., 4)
        An empty box stays empty.
    """
    heights, widths = sizes.reshape(len(sizes), *(1,) * (boxes.ndim - 2), 2).T
    y = _original_interval(boxes[..., 0], boxes[..., 1], heights.T, size[0])
    x = _original_interval(boxes[..., 2], boxes[..., 3], widths.T, size[1])
    return np.stack([*y, *x], axis=-1)


def _original_interval(
    start: NDArray[np.int64], stop: NDArray[np.int64], original: NDArray[np.int64], resized: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unite what the cells of an interval are means of.

    Cell i is a mean of the original around ``(i + 0.5) * scale``, with weights that fall to
    zero at a distance of ``max(scale, 1)``: the triangular filter of an antialiased bilinear
    resize. Where sizes agree nothing was resized.
    """
    scale = original / resized
    support = np.maximum(scale, 1)
    low = np.floor((start + 0.5) * scale - support + 0.5).astype(np.int64)
    high = np.floor((stop - 0.5) * scale + support + 0.5).astype(np.int64)
    low, high = np.maximum(low, 0), np.minimum(high, original)
    is_as_it_was = (original == resized) | (start >= stop)
    return np.where(is_as_it_was, start, low), np.where(is_as_it_was, stop, high)
