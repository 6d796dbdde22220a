"""Training images that vary, from seeds of their own.

Shapes: N images of H x W pixels and C channels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from sklearn_protopnet._images._inputs import ImageShape
from sklearn_protopnet._images._reading import Reader

AUGMENTATIONS: Final = ("paper", "no_flip")
"""What varies images by name: the paper's, and that without flips."""

SMALLEST_SIDE: Final = 4
"""Pixels of the shorter side from which on there is something to turn and to skew."""

Transform = Callable[[Tensor], Tensor]
"""Maps an image (C, H, W) to another one of this shape."""

_DRAWS: Final = threading.Lock()
"""Transforms draw from torch's global generator, which threads share."""


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
    options: dict[str, Any] = {"fill": fill.tolist(), "interpolation": InterpolationMode.BILINEAR}
    warps = [
        v2.RandomRotation(15, **options),
        v2.RandomPerspective(0.2, p=1.0, **options),
        v2.RandomAffine(0, shear=(-10, 10, -10, 10), **options),
    ]
    flips = [v2.RandomHorizontalFlip()] if augment == "paper" else []
    transform: Transform = v2.Compose([v2.RandomChoice(warps), *flips])
    return transform


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
        with _DRAWS, torch.random.fork_rng(devices=[]):
            for target, image, seed in zip(changed, pixels, self.seeds.tolist(), strict=True):
                target[...] = _changed(image, self.transform, seed)
        return changed


def _changed(image: NDArray[Any], transform: Transform, seed: int) -> NDArray[Any]:
    torch.default_generator.manual_seed(seed)
    channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
    found = transform(torch.from_numpy(channels_first))
    if not isinstance(found, Tensor) or found.shape != channels_first.shape:
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            "augment must map a tensor (channels, height, width) to one of the same shape, got "
            f"{what} for {channels_first.shape}."
        )
    array: NDArray[Any] = found.detach().numpy().transpose(1, 2, 0)
    return array
