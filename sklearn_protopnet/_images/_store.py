"""Images where they are: in an array, or on disk.

Shapes: n images, N of them in a batch, of H x W pixels and C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._images._decoding import Header, read_image
from sklearn_protopnet._images._pillow import PillowSettings
from sklearn_protopnet._images._prefetch import Reader, read_ahead
from sklearn_protopnet._images._resizing import original_boxes, resize
from sklearn_protopnet._images._shapes import ImageShape

SURVEY_BATCH: Final = 32
"""A batch that is surveyed at once has this number of images at most."""

SURVEY_PIXELS: Final = 2**18
"""Such a batch has this number of pixels at most, but one image at least."""

DIGESTED_NUMBERS: Final = 2**16
"""An image is digested by so many numbers at once."""


@dataclass(frozen=True)
class Survey:
    """What is computed of every image once."""

    digests: NDArray[np.uint64]
    """(n, 2) digests of the pixels: equal for equal numbers of any dtype."""
    means: NDArray[np.float64]
    """(n, C)"""
    deviations: NDArray[np.float64]
    """(n, C) standard deviations of the pixels of one image, around its own mean."""


def fitting(shape: ImageShape, n_pixels: int, largest: int) -> int:
    """Say how many images have so many pixels at most: one at least, and not more than named."""
    height, width, _ = shape
    return min(largest, max(1, n_pixels // (height * width)))


def blocks(n_images: int, size: int) -> list[NDArray[np.int64]]:
    """Positions of images, in blocks of a size; the last one may be smaller."""
    return [np.arange(i, min(i + size, n_images)) for i in range(0, n_images, size)]


class Images(ABC):
    """Images of one shape that have been checked; pixels are read when they are needed."""

    shape: ImageShape
    sizes: NDArray[np.int64] | None
    """(n, 2) height and width of the images before they were resized; None if they were not."""
    n_jobs: int | None
    """Processes that read or change images, as in scikit-learn."""
    dtype: np.dtype[Any]
    """Of the pixels that are read."""
    is_quick: bool
    """Whether to read a batch takes no time, so that no other process should do it."""
    are_bytes: bool
    """Whether pixels are numbers from 0 to 255."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def reader(self, rows: NDArray[np.int64]) -> Reader:
        """Give a callable that returns the pixels (len(rows), H, W, C), and can be pickled."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Pixels (len(rows), H, W, C)."""
        pixels: NDArray[Any] = self.reader(rows)()
        return pixels

    @cached_property
    def survey(self) -> Survey:
        """Read every image once, and compute what is known of each."""
        size = fitting(self.shape, SURVEY_PIXELS, SURVEY_BATCH)
        readers = (_Surveyor(self.reader(rows)) for rows in blocks(len(self), size))
        parts = list(read_ahead(readers, 1 if self.is_quick else self.n_jobs))
        return Survey(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def original_boxes(
        self, rows: NDArray[np.int64], boxes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Bring boxes (len(rows), ..., 4) to pixels of the images before they were resized."""
        if self.sizes is None:
            return boxes
        return original_boxes(boxes, self.sizes[rows], self.shape[:2])

    @property
    def given_shape(self) -> ImageShape:
        """Shape of the images before they were resized; of sizes that differ, after."""
        if self.sizes is None or (self.sizes != self.sizes[0]).any():
            return self.shape
        height, width = self.sizes[0].tolist()
        return height, width, self.shape[2]

    def original_sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Height and width (len(rows), 2) of images before they were resized."""
        if self.sizes is None:
            return np.tile(np.array(self.shape[:2]), (len(rows), 1))
        return self.sizes[rows]


@dataclass(frozen=True)
class ArrayImages(Images):
    """Images in memory."""

    pixels: NDArray[Any]
    """(n, H, W, C) of any dtype."""
    sizes: NDArray[np.int64] | None = None
    n_jobs: int | None = None
    has_byte_range: bool = False
    """Whether floats are numbers from 0 to 255 too, from images of 16 bits."""
    is_quick = True

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.pixels.dtype

    @property
    def are_bytes(self) -> bool:  # type: ignore[override]
        return self.has_byte_range or self.dtype == np.uint8

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> ImageShape:  # type: ignore[override]
        height, width, channels = self.pixels.shape[1:]
        return height, width, channels

    def reader(self, rows: NDArray[np.int64]) -> Reader:
        return _Pixels(self.pixels[rows])


@dataclass(frozen=True)
class FileImages(Images):
    """Images on disk, decoded whenever they are needed."""

    paths: list[str]
    shape: ImageShape
    headers: list[Header]
    """What each file has said of its image, and goes on to say."""
    input_name: str = "X"
    """What errors call the paths."""
    n_jobs: int | None = None
    is_quick = False

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:  # type: ignore[override]
        return np.array([header.size for header in self.headers])

    @cached_property
    def depth(self) -> int:
        """Bits of the deepest image: 8, 16 or 32. Beside those, images of 8 bits are float32."""
        return max(header.depth for header in self.headers)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return np.dtype(np.uint8 if self.depth == 8 else np.float32)

    @property
    def are_bytes(self) -> bool:  # type: ignore[override]
        return self.depth < 32

    def reader(self, rows: NDArray[np.int64]) -> Reader:
        files = [
            _File(f"Row {row} of {self.input_name}", self.paths[row], self.headers[row])
            for row in rows
        ]
        return _Files(files, self.shape, self.dtype, PillowSettings.current())


@dataclass(frozen=True)
class _Pixels:
    pixels: NDArray[Any]

    def __call__(self) -> NDArray[Any]:
        return self.pixels


@dataclass(frozen=True)
class _File:
    row: str
    """What errors call it."""
    path: str
    header: Header

    def read(self, channels: int) -> NDArray[Any]:
        image: NDArray[Any] = naming_row(self.row, read_image, self.path, channels, self.header)
        return image


@dataclass(frozen=True)
class _Files:
    files: list[_File]
    shape: ImageShape
    dtype: np.dtype[Any]
    settings: PillowSettings

    def __call__(self) -> NDArray[Any]:
        self.settings.apply()
        pixels = np.empty((len(self.files), *self.shape), self.dtype)
        for file, target in zip(self.files, pixels, strict=True):
            image = file.read(self.shape[2])
            # As it is by itself: what a file gives must not depend on the files beside it.
            target[...] = resize(image[None], self.shape[:2])[0]
        return pixels


def naming_row(row: str, read: Any, image: Any, *args: Any) -> Any:
    """Read an image; an error names the row that it stands in.

    Raises
    ------
    OSError, ValueError
        What `read` raises, and with the row in the message.
    """
    try:
        return read(image, *args)
    except (OSError, ValueError) as error:
        raise type(error)(f"{row}: {error}") from error


@dataclass(frozen=True)
class _Surveyor:
    reader: Reader

    def __call__(self) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]:
        pixels = self.reader()
        digests = b"".join(_digests(pixels))
        values = pixels.astype(np.float64).reshape(len(pixels), -1, pixels.shape[3])
        # Less one of its pixels, the mean of a constant image is free of rounding.
        origin = values[:, :1].copy()  # (N, 1, C)
        with np.errstate(over="ignore"):
            values -= origin  # (N, H W, C), in place: images may be large
        if not np.isfinite(values).all():
            raise ValueError("Pixels of an image must not differ by more than float64 holds.")
        units = powers_of_two(values)  # (N, 1, 1)
        values /= units
        means = values.mean(1)  # (N, C)
        values -= means[:, None]
        deviations = np.sqrt(np.square(values, out=values).mean(1))
        table = np.frombuffer(digests, np.uint64).reshape(-1, 2)
        return table, origin[:, 0] + means * units[:, 0], deviations * units[:, 0]


def powers_of_two(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find powers of two near the largest of each of the values (N, ...), with as many axes.

    To divide by them is exact, and of what is left squares neither vanish nor overflow.
    """
    axes = tuple(range(1, values.ndim))
    largest = np.maximum(values.max(axes, keepdims=True), -values.min(axes, keepdims=True))
    exponents = np.clip(np.frexp(largest)[1], -1021, 1023)
    return np.where(largest > 0, np.ldexp(1.0, exponents), 1.0)


def _digests(pixels: NDArray[Any]) -> Iterator[bytes]:
    for image in pixels:
        hasher, n_lines = blake2b(digest_size=16), max(1, DIGESTED_NUMBERS // image[0].size)
        for start in range(0, len(image), n_lines):
            # Equal numbers of any dtype have the same bytes, and -0.0 those of 0.0.
            numbers = image[start : start + n_lines].astype(np.float64) + 0.0
            hasher.update(numbers.tobytes())
        yield hasher.digest()
