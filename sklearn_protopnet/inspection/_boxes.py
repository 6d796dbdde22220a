"""From maps of pixels to boxes.

Boxes are ``y0, y1, x0, x1``, half-open, in pixels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Box = NDArray[np.int64]
"""A box is an array of shape (4,)."""

LEFT_OUT: Final = 0.05
"""A box leaves out this share of positive relevance at most on each of its sides."""

NEGLIGIBLE: Final = 1e-6
"""Rounding gives up to so much relevance to pixels that do not count, such as those of a constant
image."""

PERCENTILE: Final = 95
"""The paper's box holds the pixels from this percentile on."""


def relevance_box(relevance: NDArray[Any]) -> Box | None:
    """Find the rows and columns between which positive relevance lies.

    Of the relevance of all rows, summed, 5 % lie above the box and 5 % below at most; likewise
    for columns. A few pixels far away so do not matter, nor do ties.

    Parameters
    ----------
    relevance : array of shape (H, W)

    Returns
    -------
    int64 array of shape (4,), or None if no pixel is relevant
    """
    positive = np.maximum(np.nan_to_num(relevance), 0).astype(np.float64)
    total = positive.sum()
    if not NEGLIGIBLE < positive.max() < np.inf:
        return None
    return np.array([*_middle(positive.sum(1) / total), *_middle(positive.sum(0) / total)])


def _middle(shares: NDArray[np.float64]) -> tuple[int, int]:
    """Cut off ends of shares that add up to 1, up to what may be left out at each."""
    below = np.cumsum(shares)
    above = np.cumsum(shares[::-1])
    start = int(np.searchsorted(below, LEFT_OUT, side="right"))
    stop = len(shares) - int(np.searchsorted(above, LEFT_OUT, side="right"))
    return start, max(stop, start + 1)


def percentile_box(values: NDArray[Any]) -> Box:
    """Enclose the pixels from the 95th percentile on (Chen et al. 2019, section 2.3).

    Where so many tie with the percentile that this would be more than they are meant to be, only
    larger ones count; where none is larger, there is no peak, and those that tie are all.

    Parameters
    ----------
    values : array of shape (H, W)

    Returns
    -------
    int64 array of shape (4,)
    """
    threshold = np.percentile(values, PERCENTILE)
    chosen = values >= threshold
    is_above = values > threshold
    if chosen.mean() > 2 * (1 - PERCENTILE / 100) and is_above.any():
        chosen = is_above
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    return np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
