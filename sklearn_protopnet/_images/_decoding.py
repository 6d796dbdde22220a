"""Image files, as arrays of pixels.

Shapes: an image of H x W pixels and C channels.
"""

from __future__ import annotations

import math
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import ImageFile as PillowFile
from PIL.ImageFile import ImageFile

GREY_MODES: Final = frozenset({"1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
"""What Pillow calls images without colour. A palette counts as colours, be they all grey."""

WIDENED_16_BIT: Final = frozenset({"PNG", "PPM"})
"""Formats without 32-bit integers: there, Pillow's mode I holds 16 bits."""

NOT_PIXELS: Final = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats of which Pillow knows the size only, or that it has Ghostscript execute."""

ORIENTATION: Final = 0x0112
"""EXIF's tag."""

_quiet_lock = threading.RLock()  # a large scan may be read again in silence

_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """What the user has set of Pillow, for processes that start with its defaults."""

    largest: int | None
    """Pixels of half an image that is taken for a decompression bomb."""
    allows_truncated: bool

    @classmethod
    def current(cls) -> Limits:
        """Look up what is set in this process."""
        return cls(Image.MAX_IMAGE_PIXELS, PillowFile.LOAD_TRUNCATED_IMAGES)

    def apply(self) -> None:
        """Set it in this process."""
        Image.MAX_IMAGE_PIXELS = self.largest
        PillowFile.LOAD_TRUNCATED_IMAGES = self.allows_truncated


@dataclass(frozen=True)
class Header:
    """What a file says of its image ahead of the pixels."""

    size: tuple[int, int]
    """(H, W) as shown, after the orientation in EXIF."""
    is_colour: bool
    """Whether the file can hold colours, which a palette can and grey with transparency cannot."""
    depth: int = 8
    """Bits of a grey pixel, 8, 16 or 32; of a colour, 8."""


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read what a file says of its image, without decoding pixels.

    Raises
    ------
    OSError
        If the system does not let the file be read: FileNotFoundError, PermissionError and so on.
    ValueError
        If it is no image that Pillow can read.
    """
    return _read(path, _header)


def read_image(path: str | os.PathLike[str], channels: int) -> NDArray[Any]:
    """Read the pixels of a file, of its first frame if it has several.

    The orientation in EXIF is applied; ICC profiles are not. What is transparent stands on white.
    Colours become grey by the luma of ITU-R 601-2, and grey is repeated to become colour.

    Parameters
    ----------
    path : str or path-like
        A file in any format of pixels that Pillow can read.
    channels : {1, 3}

    Returns
    -------
    array of shape (H, W, channels)
        uint8; from grey of 16 bits float32 on the same scale, 0 to 255; from grey of 32 bits
        its own values in float32. Colours of 16 bits are cut to 8 by Pillow.

    Raises
    ------
    OSError
        If the system does not let the file be read: FileNotFoundError, PermissionError and so on.
    ValueError
        If Pillow cannot read all of the image, or there is no such number of channels. A
        truncated file is read in part if the user sets Pillow's ``LOAD_TRUNCATED_IMAGES``.
    """
    if channels not in {1, 3}:
        raise ValueError(f"channels must be 1 or 3, got {channels!r}.")
    return _read(path, lambda image: _pixels(image, channels))


def _read(path: str | os.PathLike[str], view: Callable[[ImageFile], _T]) -> _T:
    """Open a file for a view of it; whatever fails in Pillow is an error that names the file."""
    name = str(os.fsdecode(path))  # a plain str: the repr of NumPy's names its type
    try:
        file = open(name, "rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:
        kind = type(error) if isinstance(error, OSError) else ValueError
        raise kind(f"{name!r} cannot be read: {_cause(error)}.") from error
    with file:
        try:
            try:
                return _view(file, view)
            except Warning:  # where filters make errors of them: Pillow warns of tags, not pixels
                with _quiet():
                    return _view(file, view)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's plugins raise nearly all of the built-in types
            raise ValueError(
                f"{name!r} must be an image file that Pillow can read, found: {_cause(error)}."
            ) from error


def _view(file: BinaryIO, view: Callable[[ImageFile], _T]) -> _T:
    file.seek(0)
    with _identify(file) as image:
        return view(image)


def _cause(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error).rstrip(".") or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore warnings, which most Pythons can only do in all threads at once: use it rarely."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _identify(file: BinaryIO) -> ImageFile:
    """`PIL.Image.open`, but silent about large scans, and with the reason if it fails."""
    prefix = file.read(16)
    if not prefix:
        raise ValueError("an empty file")
    Image.init()
    reason = "no format that Pillow knows"
    # Formats without a signature would make every JPEG 0.15 ms slower, and take much for theirs.
    for name in sorted(Image.ID, key=lambda name: Image.OPEN[name][1] is None):
        factory, accept = Image.OPEN[name]
        accepted = name not in NOT_PIXELS and (accept is None or accept(prefix))
        if isinstance(accepted, str):
            reason = accepted
        elif accepted:
            file.seek(0)
            try:
                image = factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:  # try the next
                if accept is not None:
                    reason = f"{name} with a header that is cut short or unknown ({error})"
                continue
            _check_bomb(image)
            return image
    raise ValueError(reason)


def _check_bomb(image: ImageFile) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and math.prod(image.size) > 2 * limit:
        raise ValueError(
            f"{math.prod(image.size)} pixels, more than the {2 * limit} from which on Pillow "
            "takes a file for a decompression bomb; set PIL.Image.MAX_IMAGE_PIXELS if it is none"
        )


def _header(image: ImageFile) -> Header:
    width, height = image.size
    if _orientation(image) >= 5:
        width, height = height, width
    return Header((height, width), image.mode not in GREY_MODES, _depth(image))


def _depth(image: Image.Image) -> int:
    if not image.mode.startswith(("I", "F")):
        return 8
    is_widened = image.mode == "I" and image.format in WIDENED_16_BIT
    return 16 if is_widened or image.mode.startswith("I;16") else 32


def _orientation(image: ImageFile) -> int:
    """EXIF's orientation from 1 to 8; 1 where there is none, or where Pillow applies it (TIFF)."""
    # `getexif` would decode a PNG in search of it, and warn where the block is corrupt.
    exif = image.info.get("exif")
    return _orientation_in(exif) if isinstance(exif, bytes) else 1


def _orientation_in(exif: bytes) -> int:
    while exif.startswith(b"Exif\0\0"):  # some writers repeat it
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * n_entries, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == ORIENTATION and kind in {3, 4}:
                layout = {3: "H", 4: "I"}[kind]
                (value,) = struct.unpack_from(f"{order}{layout}", exif, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # cut short
        pass
    return 1


def _pixels(image: ImageFile, channels: int) -> NDArray[Any]:
    orientation = _orientation(image)  # what turns up behind the pixels, the header did not see
    _load(image)
    pixels = _deep_grey(image)
    if pixels is None:
        opaque = _opaque(image)
        pixels = np.asarray(opaque.convert("L") if channels == 1 else opaque)
    pixels = _oriented(pixels.reshape(*pixels.shape[:2], -1), orientation)  # (H, W, 1 or 3)
    # A copy, since Pillow's own memory cannot be written to.
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], channels)), order="C")


def _load(image: ImageFile) -> None:
    """Decode, silently also where a plugin warns of a large scan (TIFF's, on loading)."""
    image.info.pop("xmp", None)  # TIFF's would turn the image by it, unlike the header's size
    limit = Image.MAX_IMAGE_PIXELS
    is_large = limit is not None and math.prod(image.size) > limit
    with _quiet() if is_large else nullcontext():
        image.load()


def _deep_grey(image: Image.Image) -> NDArray[np.float32] | None:
    """Grey of more than 8 bits, (H, W); None where there is none."""
    depth = _depth(image)
    if depth == 8:
        return None
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("pixels that are NaN or infinite")
    if depth == 16:
        if "transparency" in image.info:
            values[values == image.info["transparency"]] = 65535
        values /= 257  # 65535 becomes 255
    return values


def _opaque(image: Image.Image) -> Image.Image:
    """Mode L or RGB, with white behind what is transparent."""
    mode, with_alpha = ("L", "LA") if image.mode in GREY_MODES else ("RGB", "RGBA")
    if not image.has_transparency_data:
        return image.convert(mode)
    image = image.convert(with_alpha)
    canvas = Image.new(mode, image.size, "white")
    canvas.paste(image.convert(mode), mask=image.getchannel("A"))
    return canvas


def _oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an image (H, W, C) as EXIF defines it: the sides of row 0 and of column 0."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels
