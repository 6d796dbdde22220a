"""What users pass as X, as one source of batches.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMALLEST_SQUARE: Final = 64
"""Features from which a row of perfect-square length unfolds to a square grey image."""

CHUNK_PIXELS: Final = 2**16
"""Pixels of one chunk of images, which bounds what inspection holds in memory at once."""

LARGEST_CHUNK: Final = 256
"""Images of one chunk at most."""


ImageShape = tuple[int, int, int]
"""(H, W, C)"""


def flatten_images(X: Any) -> tuple[Any, ImageShape | None]:
    """Bring images to one flat row each, which scikit-learn's own validation understands.

    Parameters
    ----------
    X : array-like, frame, CPU tensor or list of images
        2-D rows, 3-D (n, H, W), 4-D (n, H, W, C), or images (H, W) or (H, W, C).

    Returns
    -------
    X : array of shape (n, H W C), or X itself where it is not an array of images
    image_shape : (H, W, C), or None where X is not an array of images

    Raises
    ------
    ValueError
        If X has more than four dimensions, or its images differ in shape.
    TypeError
        If X is a tensor on an accelerator.
    """
    if isinstance(X, Tensor):
        X = _as_array(X)
    elif isinstance(X, list | tuple) and len(X) > 0 and isinstance(X[0], str | os.PathLike):
        raise TypeError("X must hold images, not paths of images: read the files first.")
    elif isinstance(X, list | tuple) and len(X) > 0 and _is_image(X[0]):
        X = _stack([_as_array(image) for image in X])
    if not isinstance(X, np.ndarray) or X.ndim < 3:
        return X, None
    if X.ndim > 4:
        raise ValueError(
            "X must be 2-D rows, 3-D (n_samples, height, width) or 4-D (n_samples, height, "
            f"width, channels), got an array with {X.ndim} dimensions."
        )
    shape = (X.shape[1], X.shape[2], X.shape[3] if X.ndim == 4 else 1)
    return X.reshape(len(X), math.prod(shape)), shape


def _is_image(item: Any) -> bool:
    if isinstance(item, Tensor):
        return item.ndim >= 2
    return not isinstance(item, str) and np.ndim(item) >= 2


def _as_array(item: Any) -> NDArray[Any]:
    if not isinstance(item, Tensor):
        return np.asarray(item)
    if item.device.type != "cpu":
        raise TypeError(f"Tensors in X must be on the CPU, got one on {item.device}.")
    item = item.detach()
    array: NDArray[Any] = (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    return array


def _stack(images: list[NDArray[Any]]) -> NDArray[Any]:
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(
            "Images in X must have one shape, got "
            f"{', '.join(str(shape) for shape in sorted(shapes)[:3])} and so on. "
            "Resize or crop them first."
        )
    return np.stack(images)


def resolve_image_shape(
    image_shape: Any, of_arrays: ImageShape | None, n_features: int
) -> ImageShape:
    """Say how a row unfolds: by the parameter, by the array, or by its length.

    Parameters
    ----------
    image_shape : (H, W), (H, W, C) or None
        The estimator's parameter.
    of_arrays : (H, W, C) or None
        Shape of the images where X was not 2-D.
    n_features : int
        H W C.

    Returns
    -------
    (H, W, C)
        Without a parameter, a perfect square of at least 64 features is a square grey image
        and anything else one pixel with as many channels.

    Raises
    ------
    ValueError
        If the parameter is no shape, or X does not match it.
    """
    if image_shape is None:
        return of_arrays or _shape_of_row(n_features)
    sizes: tuple[Any, ...] = tuple(image_shape)
    if len(sizes) not in {2, 3} or not all(isinstance(n, Integral) and int(n) > 0 for n in sizes):
        raise ValueError(
            "image_shape must be (height, width) or (height, width, channels) in positive "
            f"integers, got {image_shape!r}."
        )
    shape = (int(sizes[0]), int(sizes[1]), int(sizes[2]) if len(sizes) == 3 else 1)
    if of_arrays is not None and of_arrays != shape:
        raise ValueError(
            f"Images in X must have the shape of image_shape={image_shape!r}, got {of_arrays}."
        )
    if math.prod(shape) != n_features:
        raise ValueError(
            f"Rows of X must have {math.prod(shape)} features to unfold to "
            f"image_shape={image_shape!r}, got {n_features}."
        )
    return shape


def _shape_of_row(n_features: int) -> ImageShape:
    side = math.isqrt(n_features)
    if n_features >= SMALLEST_SQUARE and side**2 == n_features:
        return side, side, 1
    return 1, 1, n_features


@dataclass(frozen=True)
class Standardization:
    """Per-channel mean and scale, learned from the training images."""

    mean: NDArray[np.float64]
    """(C,)"""
    scale: NDArray[np.float64]
    """(C,)"""

    @classmethod
    def of(
        cls, pixels: NDArray[Any], rows: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> Standardization:
        """Weighted mean and standard deviation of ``pixels[rows]``, in one pass of float64."""
        channels = pixels.shape[3]
        # Seen from one of its pixels, a constant channel is 0, and its mean free of rounding.
        origin = pixels[rows[0], 0, 0].astype(np.float64)  # (C,)
        total, mean, squares = 0.0, np.zeros(channels), np.zeros(channels)
        for start in range(0, len(rows), LARGEST_CHUNK):
            part = rows[start : start + LARGEST_CHUNK]
            values = pixels[part].astype(np.float64).reshape(len(part), -1, channels) - origin
            weight = weights[start : start + LARGEST_CHUNK, None]
            # Chan, Golub and LeVeque 1979: means and squares of two parts, combined.
            part_total = weight.sum()
            part_mean = (weight * values.mean(1)).sum(0) / part_total
            part_squares = (weight * np.square(values - part_mean).mean(1)).sum(0)
            total_after = total + part_total
            shift = part_mean - mean
            squares += part_squares + np.square(shift) * total * part_total / total_after
            mean = mean + shift * part_total / total_after
            total = total_after
        scale = np.sqrt(squares / total)
        return cls(origin + mean, np.where(scale > 0, scale, 1.0))


@dataclass(frozen=True)
class ImageSource:
    """Images and the way to batches of them."""

    pixels: NDArray[Any]
    """(n, H, W, C) of any dtype."""
    standardization: Standardization

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Standardised images, float32 of shape (len(rows), C, H, W)."""
        standard = self.standardization
        with np.errstate(over="ignore", invalid="ignore"):
            values = (self.pixels[rows] - standard.mean) / standard.scale
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(
                "Pixels, less the mean and over the scale of the training images, must be finite "
                "in float32; some are too large."
            )
        return torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()

    def chunks(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Go through images in batches of one fixed shape.

        A convolution's last bits depend on the size of its batch (measured: 6e-8), not on the
        images beside it. With one size for all, an image has the same features alone, among
        a thousand others, and in the projection.

        Parameters
        ----------
        rows : int64 array of shape (n,)

        Yields
        ------
        index : int64 array of shape (N,)
            Positions in ``rows``; N is at most the chunk size.
        images : float32 Tensor of shape (chunk size, C, H, W)
            The last chunk is filled up with repetitions: results past N are void.
        """
        height, width = self.pixels.shape[1:3]
        size = min(LARGEST_CHUNK, max(1, CHUNK_PIXELS // (height * width)))
        for start in range(0, len(rows), size):
            index = np.arange(start, min(start + size, len(rows)))
            yield index, self.batch(rows[np.resize(index, size)])
