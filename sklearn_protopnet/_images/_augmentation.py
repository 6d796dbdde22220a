"""Training images that vary, from seeds of their own.

Shapes: N images of H x W pixels and C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from sklearn_protopnet._images._numbers import as_array
from sklearn_protopnet._images._prefetch import Reader
from sklearn_protopnet._images._resizing import channels_first
from sklearn_protopnet._images._shapes import ImageShape
from sklearn_protopnet._threads import GLOBAL_DRAWS

AUGMENTATIONS: Final = ("paper", "no_flip")
"""Images may be varied by these names: the paper's way, and that without flips."""

SMALLEST_SIDE: Final = 4
"""The shorter side has this number of pixels or more where there is something to turn and skew."""

Transform = Callable[[Tensor], Tensor]
"""It maps an image (C, H, W) to another one of this shape and dtype."""


def transform_by(
    augment: str | Transform | None, shape: ImageShape, fill: NDArray[np.float64]
) -> Transform | None:
    """Find what varies the images.

    ``"paper"`` is one of rotation by up to 15 degrees, a perspective skew of 0.2 and a shear by
    up to 10 degrees; then a horizontal flip of every other image, which ``"no_flip"`` leaves out
    (Chen et al. 2019, section 3.1 of the supplement).

    Parameters
    ----------
    augment : {"paper", "no_flip"}, callable or None
    shape : (H, W, C)
    fill : float64 array of shape (C,)
        Pixel values for what lies outside of an image.
    """
    if augment is None or callable(augment):
        return augment
    if min(shape[:2]) < SMALLEST_SIDE:
        return None
    options: dict[str, Any] = {"fill": None, "interpolation": InterpolationMode.BILINEAR}
    warps = [
        v2.RandomRotation(15, **options),
        v2.RandomPerspective(0.2, p=1.0, **options),
        v2.RandomAffine(0, shear=(-10, 10, -10, 10), **options),
    ]
    flips = [v2.RandomHorizontalFlip()] if augment == "paper" else []
    transform: Transform = v2.Compose([_Filled(v2.RandomChoice(warps), fill), *flips])
    return transform


@dataclass(frozen=True)
class _Filled:
    """A warp, with a fill for what lies outside of the image.

    Torchvision's own fill weighs pixels on the border twice: constant images that equal their
    fill of 1 came out at 0.75 there. Above the fill, outside is 0.
    """

    warp: Transform
    fill: NDArray[np.float64]  # (C,)

    def __call__(self, image: Tensor) -> Tensor:
        is_short = image.dtype.itemsize <= 2 or image.dtype == torch.float32
        values = image.to(torch.float32 if is_short else torch.float64)
        origin = torch.from_numpy(self.fill).to(values.dtype)[:, None, None]  # (C, 1, 1)
        changed = self.warp(values - origin) + origin
        return (changed if image.is_floating_point() else changed.round()).to(image.dtype)


@dataclass(frozen=True)
class Changes:
    """What is done to images in one epoch."""

    transform: Transform
    seeds: NDArray[np.int64]
    """(n,) one for each image: neither its batch nor the process that it is in matters."""

    def applied_to(self, reader: Reader, rows: NDArray[np.int64]) -> Reader:
        """Give a reader of the changed images in these rows."""
        return _AugmentedReader(reader, self.transform, self.seeds[rows])


@dataclass(frozen=True)
class _AugmentedReader:
    """Reads a batch and changes every image of it."""

    reader: Reader
    transform: Transform
    seeds: NDArray[np.int64]  # (N,)

    def __call__(self) -> NDArray[Any]:
        pixels: NDArray[Any] = self.reader()
        changed = np.empty_like(pixels)
        with GLOBAL_DRAWS, torch.random.fork_rng(devices=[]):
            for target, image, seed in zip(changed, pixels, self.seeds.tolist(), strict=True):
                target[...] = _changed(image, self.transform, seed)
        return changed


def _changed(image: NDArray[Any], transform: Transform, seed: int) -> NDArray[Any]:
    torch.default_generator.manual_seed(seed)
    tensor = channels_first(image)
    shape, dtype = tensor.shape, tensor.dtype
    found = transform(tensor)
    if not isinstance(found, Tensor) or (found.shape, found.dtype) != (shape, dtype):
        is_tensor = isinstance(found, Tensor)
        what = f"{tuple(found.shape)} in {found.dtype}" if is_tensor else type(found).__name__
        raise ValueError(
            "augment must map a tensor (channels, height, width) to one of the same shape and "
            f"dtype, got {what} for {tuple(shape)} in {dtype}."
        )
    array: NDArray[Any] = as_array(found, "the result of augment").transpose(1, 2, 0)
    if not np.isfinite(array).all():
        raise ValueError("augment must give finite pixels, got NaN or infinity.")
    return array
