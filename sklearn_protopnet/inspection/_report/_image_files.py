"""Images in a report: small files within the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sklearn_protopnet._images import ImageSource, read_ahead
from sklearn_protopnet.inspection._pictures import picture_of

QUALITY: Final = 70
"""JPEG files have this quality."""

LARGEST_PNG: Final = 32
"""An image of such sides or smaller is kept as it is; larger ones are photographs to JPEG."""

LARGEST_PIXELATED: Final = 64
"""An image of such sides or smaller is shown with its pixels as squares."""


def picture_uris(source: ImageSource, rows: NDArray[np.int64], largest: int) -> Iterator[str]:
    """Give the addresses that hold the images of rows, which are read some at a time."""
    images = source.images
    chunks = [rows[index] for index in source.chunk_indices(len(rows))]
    n_jobs = 1 if images.is_quick else images.n_jobs
    pixels = read_ahead((images.reader(chunk) for chunk in chunks), n_jobs)
    for chunk, found in zip(chunks, pixels, strict=True):
        for image, size in zip(found, images.original_sizes(chunk), strict=True):
            yield data_uri(image, size, largest)


def data_uri(image: NDArray[Any], size: Sequence[int], largest: int) -> str:
    """Make a file of an image, as an address that holds all of it.

    Parameters
    ----------
    image : array of shape (H, W, C)
    size : (int, int)
        Height and width of the image as it was given, whose proportions it gets back.
    largest : int
        Pixels of the longer side, at most.
    """
    whole = _opaque(picture_of(image))
    scale = min(largest, max(whole.size)) / max(size)
    height, width = (max(1, round(int(side) * scale)) for side in size)
    if whole.size != (width, height):
        whole = whole.resize((width, height), Image.Resampling.BICUBIC)
    kind = "png" if max(width, height) <= LARGEST_PNG else "jpeg"
    file = io.BytesIO()
    whole.save(file, kind, quality=QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _opaque(picture: NDArray[np.float64]) -> Image.Image:
    """Turn what is drawn, in [0, 1], into bytes; on white where it is transparent."""
    if picture.shape[2:] == (4,):
        alpha = picture[..., 3:]
        picture = picture[..., :3] * alpha + 1 - alpha  # (H, W, 3)
    return Image.fromarray(np.rint(255 * picture).astype(np.uint8))
