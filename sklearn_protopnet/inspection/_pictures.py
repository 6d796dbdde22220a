"""What displays and the report show alike: colours, pixels, numbers and words.

Shapes: an image has H x W pixels and C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._located_boxes import WHOLE, WIDE

COLOURS: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00")
"""These are the colours of Okabe and Ito, which the colour-blind tell apart, on which black is
legible."""

BOX_NOTES: Final = {WHOLE: "the whole image", WIDE: "half of the image or more"}
"""A box of one of these kinds is no small part of its image, which is said beside it."""

MINUS: Final = "\N{MINUS SIGN}"


def colour_of(i: int) -> str:
    """Colour of the box that comes i-th, from 0."""
    return COLOURS[i % len(COLOURS)]


def picture_of(image: NDArray[Any]) -> NDArray[np.float64]:
    """Bring an image (H, W, C) to what can be shown: RGB, RGBA or grey, in [0, 1]."""
    picture: NDArray[np.float64] = image.astype(np.float64)
    if image.shape[2] not in {3, 4}:
        picture = picture.mean(2)  # (H, W)
    if image.dtype == np.uint8 and image.max() > 1:
        return picture / 255
    colours = picture[..., :3] if picture.ndim == 3 else picture
    low, high = float(colours.min()), float(colours.max())
    shown = (picture - low) / (high - low if high > low else 1.0)
    if image.shape[2] == 4:  # alpha has a range of its own, from nothing to all
        shown[..., 3] = picture[..., 3] / max(float(picture[..., 3].max()), 1.0)
    return shown


def is_whole_image(box: Iterable[int], size: Sequence[int]) -> bool:
    """Whether a box, ``y0, y1, x0, x1``, is all of an image of this height and width."""
    y0, y1, x0, x1 = box
    return (y1 - y0, x1 - x0) == tuple(size)


def shortened(text: str, length: int) -> str:
    """Cut a text to so many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def text_of(label: Any) -> str:
    """Write a label, as far as there is room."""
    return shortened(str(label), 30)


def format_number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Write a number with a minus sign that is one, and never a minus before zero."""
    rounded = round(float(value), digits) + 0.0
    text = f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"
    return text.replace("-", MINUS)


def format_percent(probability: float) -> str:
    """Write a probability; never 0 or 100 % unless it is."""
    if 0 < probability < 0.0005:
        return "below 0.1 %"
    if 0.9995 <= probability < 1:
        return "over 99.9 %"
    return f"{100 * probability:.1f} %"
