"""The way from images to batches that a network takes.

Shapes: n images, N of them in a batch, of H x W pixels and C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images._augmentation import Changes
from sklearn_protopnet._images._prefetch import Reader, read_ahead
from sklearn_protopnet._images._store import Images, Survey, blocks, fitting

CHUNK_PIXELS: Final = 2**18
"""Pixels of one chunk of images, which bounds what inspection holds in memory at once."""

LARGEST_CHUNK: Final = 256
"""Images of one chunk at most."""


@dataclass(frozen=True)
class Standardization:
    """Per-channel mean and scale, learned from the training images."""

    mean: NDArray[np.float64]
    """(C,)"""
    scale: NDArray[np.float64]
    """(C,)"""

    @classmethod
    def of(
        cls, survey: Survey, rows: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> Standardization:
        """Weighted mean and standard deviation of all pixels of the images in ``rows``."""
        # Seen from one of its images, a constant channel is 0, and its mean free of rounding.
        origin = survey.means[rows[0]]  # (C,)
        means = survey.means[rows] - origin  # (n, C)
        mean = np.average(means, axis=0, weights=weights)
        within = np.average(survey.variances[rows], axis=0, weights=weights)
        between = np.average(np.square(means - mean), axis=0, weights=weights)
        scale = np.sqrt(within + between)
        return cls(origin + mean, np.where(scale > 0, scale, 1.0))

    def apply(self, pixels: NDArray[Any]) -> Tensor:
        """Standardise pixels (N, H, W, C); float32 Tensor (N, C, H, W), channels last in memory.

        Raises
        ------
        ValueError
            If a number leaves float32's range.
        """
        if pixels.dtype == np.uint8:  # the same bits, several times as fast
            values = np.empty(pixels.shape, np.float32)
            for channel, numbers in enumerate(self._of_bytes()):
                values[..., channel] = numbers[pixels[..., channel]]
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                values = ((pixels - self.mean) / self.scale).astype(np.float32)
            if not np.isfinite(values).all():
                raise ValueError(
                    "Pixels, less the mean and over the scale of the training images, must be "
                    "finite in float32; some are too large."
                )
        return torch.from_numpy(values).permute(0, 3, 1, 2)

    def _of_bytes(self) -> NDArray[np.float32]:
        """Standardise each of the 256 values of a byte, (C, 256)."""
        values = (np.arange(256) - self.mean[:, None]) / self.scale[:, None]
        return values.astype(np.float32)


@dataclass(frozen=True)
class ImageSource:
    """Images and the way to batches of them."""

    images: Images
    standardization: Standardization

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Standardised images, float32 of shape (len(rows), C, H, W)."""
        return self.standardization.apply(self.images.read(rows))

    def batches(
        self,
        batches: Iterable[NDArray[np.int64]],
        changes: Changes | None = None,
    ) -> Iterator[Tensor]:
        """Yield batches of these rows, read a few ahead.

        Parameters
        ----------
        batches : iterable of int64 arrays of shape (N,)
        changes : Changes or None
            What is done to every image, before it is standardised.
        """
        readers = (self._reader(rows, changes) for rows in batches)
        is_quick = self.images.is_quick and changes is None
        for pixels in read_ahead(readers, 1 if is_quick else self.images.n_jobs):
            yield self.standardization.apply(pixels)

    def _reader(self, rows: NDArray[np.int64], changes: Changes | None) -> Reader:
        reader = self.images.reader(rows)
        return reader if changes is None else changes.applied_to(reader, rows)

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
        indices = self.chunk_indices(len(rows))
        images = self.batches([rows[index] for index in indices])
        for index, batch in zip(indices, images, strict=True):
            yield index, fill_up(batch, self.chunk_size)

    def chunk_indices(self, n_rows: int) -> list[NDArray[np.int64]]:
        """Positions of the images of each chunk."""
        return blocks(n_rows, self.chunk_size)

    @property
    def chunk_size(self) -> int:
        """Images of a chunk."""
        return fitting(self.images.shape, CHUNK_PIXELS, LARGEST_CHUNK)


def fill_up(values: Tensor, size: int) -> Tensor:
    """Repeat the rows of a tensor (N, ...) until there are ``size``, in the same memory order."""
    filled = values if len(values) == size else values[torch.arange(size) % len(values)]
    return filled.contiguous(memory_format=torch.channels_last)
