"""Images with a little noise, to find out whether explanations stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._network import Chunk

DEVIATION: Final = 0.2
"""The noise has this deviation, in standard deviations of the training pixels: that of the code
that Huang et al. (ICCV 2023) published."""

LARGEST: Final = 0.25
"""The noise is cut off here, in the same unit, as in the same code."""


@dataclass(frozen=True)
class NoisySource(ImageSource):
    """Images with normal noise, each with its own, whatever the images beside it."""

    seed: int = 0

    are_as_given: ClassVar[bool] = False

    @classmethod
    def of(cls, source: ImageSource, seed: int) -> NoisySource:
        """Add noise to the images of a source."""
        return cls(source.images, source.standardization, source.chosen, seed)

    def chunks(self, rows: NDArray[np.int64]) -> Iterator[Chunk]:
        """Go through images as `ImageSource.chunks` does."""
        for index, images in super().chunks(rows):
            noisy = images.clone()
            for image, row in zip(noisy, rows[index].tolist(), strict=False):
                drawn = np.random.default_rng([self.seed, row]).normal(0, DEVIATION, image.shape)
                image += torch.from_numpy(np.clip(drawn, -LARGEST, LARGEST).astype(np.float32))
            yield index, noisy
