"""The way from images to batches that a network takes.

Shapes: n images, N of them in a batch, of H x W pixels and C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images._augmentation import Changes
from sklearn_protopnet._images._prefetch import Reader, read_ahead
from sklearn_protopnet._images._store import Images, Survey, fitting, powers_of_two

CHUNK_PIXELS: Final = 2**18
"""Pixels of one chunk of images bound the memory that a pass of the network takes. With 2**16, a
chunk of 224 x 224 pixels is one image, which takes twice as long as one of five."""

SMALLEST_CHUNK_PIXELS: Final = 2**8
SMALLEST_CHUNK: Final = 16
"""One chunk has as many images as have so many pixels, or so many images, at least."""

LARGEST_CHUNK: Final = 64
"""One chunk has so many images at most."""


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
        # Less one of its images, a constant channel is 0, and its mean free of rounding.
        origin = survey.means[rows[0]]  # (C,)
        with np.errstate(over="ignore"):
            means = survey.means[rows] - origin  # (n, C)
        if not np.isfinite(means).all():
            raise ValueError("Pixels must not differ by more than float64 holds.")
        deviations = survey.deviations[rows]
        unit = powers_of_two(np.stack([means, deviations]).transpose(2, 0, 1))[:, 0, 0]  # (C,)
        mean = np.average(means / unit, axis=0, weights=weights)
        within = np.average(np.square(deviations / unit), axis=0, weights=weights)
        between = np.average(np.square(means / unit - mean), axis=0, weights=weights)
        scale = np.sqrt(within + between) * unit
        return cls(origin + mean * unit, np.where(scale > 0, scale, 1.0))

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
    chosen: range | None = None
    """Rows that are meant; all with None."""

    are_as_given: ClassVar[bool] = True
    """Whether batches are of the very images whose digests the survey has."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the images that are meant, (n,)."""
        rows: NDArray[np.int64] = np.arange(len(self.images))
        return rows if self.chosen is None else np.array(self.chosen, dtype=np.int64)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of the images as they were given, (n, 2)."""
        return self.images.original_sizes(self.rows)

    def part(self, part: slice) -> ImageSource:
        """Take some of the images only."""
        chosen = range(len(self.images)) if self.chosen is None else self.chosen
        return replace(self, chosen=chosen[part])

    def original_boxes(self, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bring boxes (n, ..., 4) to pixels of the images as they were given."""
        return self.images.original_boxes(self.rows, boxes)

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
        """Go through images in batches of about one size.

        Parameters
        ----------
        rows : int64 array of shape (n,)

        Yields
        ------
        index : int64 array of shape (N,)
            Positions in ``rows``.
        images : float32 Tensor of shape (max(N, smallest_chunk), C, H, W)
            What comes after the first N images is void.
        """
        indices = self.chunk_indices(len(rows))
        images = self.batches([rows[index] for index in indices])
        for index, batch in zip(indices, images, strict=True):
            yield index, fill_up(batch, self.smallest_chunk)

    def chunk_indices(self, n_rows: int) -> list[NDArray[np.int64]]:
        """Positions of the images of each chunk; chunks differ by one image at most."""
        n_chunks = -(-n_rows // self.chunk_size)
        return np.array_split(np.arange(n_rows), n_chunks) if n_chunks else []

    @property
    def chunk_size(self) -> int:
        """Images of a chunk, at most; never fewer than it would be filled up to."""
        return max(self.smallest_chunk, fitting(self.images.shape, CHUNK_PIXELS, LARGEST_CHUNK))

    @property
    def smallest_chunk(self) -> int:
        """Images of a chunk, at least: fewer are filled up by repetitions.

        Convolutions take another way with a single image, or with very few small ones, and round
        differently, by 5e-7 in feature maps of a size of 1. From so many on, an image had the same
        bits in batches of any size up to 256 (measured for 1 x 1 to 64 x 64 pixels).
        """
        return max(2, fitting(self.images.shape, SMALLEST_CHUNK_PIXELS, SMALLEST_CHUNK))


def fill_up(values: Tensor, size: int) -> Tensor:
    """Repeat the rows of a tensor (N, C, H, W) until there are ``size`` at least.

    Its memory then has channels last, in strides too. (By `contiguous(memory_format=...)` those of
    a single channel stay as they are, and convolutions choose their way by strides.)
    """
    rows = values.permute(0, 2, 3, 1)  # (N, H, W, C)
    if len(rows) < size:
        # By its own device: the user's default may be "meta", whose numbers are none.
        rows = rows[torch.arange(size, device=rows.device) % len(rows)]
    return rows.contiguous().permute(0, 3, 1, 2)
