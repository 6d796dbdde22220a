"""Image files and images of Pillow, as arrays of pixels.

Shapes: an image of H x W pixels and C channels.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sklearn_protopnet._images._pillow import NOT_PIXELS, identify, quiet

GREY_MODES: Final = frozenset({"1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Images without colour have these modes. A palette counts as colours, be they all grey."""

WIDENED_16_BIT: Final = frozenset({"PNG", "PPM"})
"""These formats have no 32-bit integers: there, Pillow's mode I holds 16 bits."""

ORIENTATION: Final = 0x0112
"""EXIF has the orientation under this tag."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its image ahead of the pixels."""

    size: tuple[int, int]
    """(H, W) as shown, after the orientation in EXIF."""
    is_colour: bool
    """Whether the file can hold colours, which a palette can and grey with transparency cannot."""
    depth: int = 8
    """Bits of a grey pixel, 8, 16 or 32; of a colour, 8."""

    def __str__(self) -> str:
        height, width = self.size
        kind = "colour" if self.is_colour else "grey"
        return f"{height} x {width} pixels in {kind} of {self.depth} bits"


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read what a file says of its image, without decoding pixels.

    Raises
    ------
    OSError
        If the system does not let the file be read: FileNotFoundError, PermissionError and so on.
    ValueError
        If it is no regular file, or no image that Pillow can read.
    """
    return _read(path, header_of)


def read_image(
    path: str | os.PathLike[str], channels: int, header: Header | None = None
) -> NDArray[Any]:
    """Read the pixels of a file, of its first frame if it has several.

    Parameters
    ----------
    path : str or path-like
        A file in any format of pixels that Pillow can read.
    channels : {1, 3}
    header : Header or None
        What `read_header` has found, by which arrays were chosen: now, it must be the same.

    Returns
    -------
    array of shape (H, W, channels)
        As `decode` gives it.

    Raises
    ------
    OSError
        If the system does not let the file be read: FileNotFoundError, PermissionError and so on.
    ValueError
        If it is no regular file, if Pillow cannot read all of the image, if that has become
        another one, or there is no such number of channels. A truncated file is read in part if
        the user sets Pillow's ``LOAD_TRUNCATED_IMAGES``.
    """
    if channels not in {1, 3}:
        raise ValueError(f"channels must be 1 or 3, got {channels!r}.")
    found, pixels = _read(path, lambda image: (header_of(image), _pixels(image, channels)))
    found = replace(found, size=pixels.shape[:2])  # which a plugin may change when it loads
    if header not in {None, found}:
        raise ValueError(
            f"{os.fsdecode(path)!r} must stay the image that it was, of {header}, got {found}."
        )
    return pixels


def decode(image: Image.Image, channels: int) -> NDArray[Any]:
    """Give the pixels of an image of Pillow: those of its file, where it was opened from one.

    The orientation in EXIF is applied; ICC profiles are not. What is transparent stands on white.
    Colours become grey by the luma of ITU-R 601-2, and grey is repeated to become colour.

    Parameters
    ----------
    image : PIL.Image.Image
    channels : {1, 3}

    Returns
    -------
    array of shape (H, W, channels)
        uint8; from grey of 16 bits float32 on the same scale, 0 to 255; from grey of 32 bits
        its own values in float32. Colours of 16 bits are cut to 8 by Pillow.

    Raises
    ------
    ValueError
        If Pillow cannot load all of the image.
    """
    return _loaded(
        lambda: _pixels(image, channels),
        "an image of Pillow must be one that it can load (pass the path of its file, or an array)",
    )


def _read(path: str | os.PathLike[str], part: Callable[[Image.Image], _T]) -> _T:
    """Read a part of an image file; an error names the file."""
    name = str(os.fsdecode(path))  # a plain str: the repr of NumPy's names its type
    try:
        file = _opened(name)
    except (OSError, ValueError) as error:
        kind = type(error) if isinstance(error, OSError) else ValueError
        raise kind(f"{name!r} cannot be read: {_cause(error)}.") from error
    rule = f"{name!r} must be an image file that Pillow can read"
    with file:
        return _loaded(lambda: _part(file, part), rule)


def _loaded(read: Callable[[], _T], rule: str) -> _T:
    """Have Pillow read; whatever fails in it is an error that states the rule."""
    try:
        try:
            return read()
        except Warning:  # where filters make errors of them: Pillow warns of tags, not pixels
            with quiet():
                return read()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly all of the built-in types
        raise ValueError(f"{rule}, found: {_cause(error)}.") from error


def _opened(name: str) -> BinaryIO:
    """Open a regular file: others may never end, or wait for somebody to write."""
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise ValueError("only regular files are images, found a pipe, a device or a socket")
    return open(name, "rb")


def _part(file: BinaryIO, part: Callable[[Image.Image], _T]) -> _T:
    file.seek(0)
    with identify(file) as image:
        return part(image)


def _cause(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error).rstrip(".") or type(error).__name__


def header_of(image: Image.Image) -> Header:
    """Find what is known of an image of Pillow ahead of its pixels."""
    width, height = image.size
    if _orientation(image) >= 5:
        width, height = height, width
    return Header((height, width), image.mode not in GREY_MODES, _depth(image))


def _depth(image: Image.Image) -> int:
    if not image.mode.startswith(("I", "F")):
        return 8
    is_widened = image.mode == "I" and image.format in WIDENED_16_BIT
    return 16 if is_widened or image.mode.startswith("I;16") else 32


def _orientation(image: Image.Image) -> int:
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


def _pixels(image: Image.Image, channels: int) -> NDArray[Any]:
    if image.format in NOT_PIXELS:
        raise ValueError(f"{image.format}, a format without pixels")
    orientation = _orientation(image)  # what turns up behind the pixels, the header did not have
    _load(image)
    pixels = _deep_grey(image)
    if pixels is None:
        opaque = _opaque(image)
        pixels = np.asarray(opaque.convert("L") if channels == 1 else opaque)
    pixels = _oriented(pixels.reshape(*pixels.shape[:2], -1), orientation)  # (H, W, 1 or 3)
    # A copy, since Pillow's own memory cannot be written to.
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], channels)), order="C")


def _load(image: Image.Image) -> None:
    """Decode, silently also where a plugin warns of a large scan (TIFF's, on loading)."""
    xmp = image.info.pop("xmp", None)  # TIFF's would turn it by that, unlike the header's size
    limit = Image.MAX_IMAGE_PIXELS
    is_large = limit is not None and math.prod(image.size) > limit
    try:
        with quiet() if is_large else nullcontext():
            image.load()
    finally:
        if xmp is not None:  # the image may be the user's
            image.info["xmp"] = xmp


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
