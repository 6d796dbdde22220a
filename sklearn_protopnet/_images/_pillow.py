"""Pillow: what the user has set of it, and files that it opens without a word."""

from __future__ import annotations

import math
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from PIL import Image
from PIL import ImageFile as PillowFile
from PIL.ImageFile import ImageFile

NOT_PIXELS: Final = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""These are formats of which Pillow knows the size only, or that it has Ghostscript execute."""

_quiet_lock = threading.RLock()  # a large scan may be read again in silence


@dataclass(frozen=True)
class PillowSettings:
    """What the user has set of Pillow, for processes that start with its defaults."""

    largest: int | None
    """Pixels of half an image that is taken for a decompression bomb."""
    allows_truncated: bool
    formats: tuple[str, ...]
    """Formats that are read, in the order in which they are tried."""
    plugins: dict[str, Any]
    """Those of them that Pillow does not bring, with what opens them."""
    decoders: dict[str, Any]
    """Decoders that Pillow does not bring."""

    @classmethod
    def current(cls) -> PillowSettings:
        """Collect what is set in this process."""
        Image.init()
        return cls(
            Image.MAX_IMAGE_PIXELS,
            PillowFile.LOAD_TRUNCATED_IMAGES,
            tuple(Image.ID),
            {name: entry for name, entry in Image.OPEN.items() if _is_foreign(entry[0])},
            {name: entry for name, entry in Image.DECODERS.items() if _is_foreign(entry)},
        )

    def apply(self) -> None:
        """Set it in this process."""
        Image.MAX_IMAGE_PIXELS = self.largest
        PillowFile.LOAD_TRUNCATED_IMAGES = self.allows_truncated
        Image.init()
        Image.OPEN.update(self.plugins)
        Image.DECODERS.update(self.decoders)
        if tuple(Image.ID) != self.formats:
            Image.ID[:] = self.formats


def _is_foreign(entry: Any) -> bool:
    return not str(getattr(entry, "__module__", "")).startswith("PIL.")


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings, which most Pythons can only do in all threads at once: use it rarely."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def identify(file: BinaryIO) -> ImageFile:
    """`PIL.Image.open`, but silent about large scans, and with the reason if it fails.

    Raises
    ------
    ValueError
        If no format is that of the file, or the image may be a decompression bomb. Beside it,
        whatever the plugins of Pillow raise.
    """
    prefix = file.read(16)
    if not prefix:
        raise ValueError("an empty file")
    Image.init()
    reason = "no format that Pillow knows"
    # Formats without a signature would make every JPEG 0.15 ms slower, and take much for theirs.
    for name in sorted(Image.ID, key=lambda name: Image.OPEN[name][1] is None):
        if name in NOT_PIXELS:
            continue
        found = _open_as(name, file, prefix)
        if isinstance(found, ImageFile):
            _check_bomb(found)
            return found
        reason = found or reason
    raise ValueError(reason)


def _open_as(name: str, file: BinaryIO, prefix: bytes) -> ImageFile | str | None:
    """Open a file in one format; the reason, or None, where it is none."""
    factory, accept = Image.OPEN[name]
    accepted: bool | str = False
    try:
        accepted = accept is None or accept(prefix)
        if isinstance(accepted, str) or not accepted:
            return accepted or None
        file.seek(0)
        return factory(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # it is another format
        if not accepted or accept is None:
            return None
        # Where numbers are missing Pillow says which bytes it wanted, which tells nobody anything.
        is_short = error.__cause__ is not None or not isinstance(error, SyntaxError)
        cause = "" if is_short else f" or unknown ({error})"
        return f"{name} with a header that is cut short{cause}"


def _check_bomb(image: ImageFile) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and math.prod(image.size) > 2 * limit:
        raise ValueError(
            f"{math.prod(image.size)} pixels, more than the {2 * limit} from which on Pillow "
            "takes a file for a decompression bomb; set PIL.Image.MAX_IMAGE_PIXELS if it is none"
        )
