"""From values of images and prototypes to values of prototypes.

Shapes: n images, P prototypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NAN: Final = float("nan")
"""NaN stands for what cannot be said of a prototype."""


def of_each_prototype(
    metric: Callable[..., float], counts: NDArray[np.bool_], *values: NDArray[Any]
) -> NDArray[np.float64]:
    """Compute a metric of those values (n, P, ...) that count (n, P); (P,), NaN of none."""
    return np.array(
        [
            metric(*(each[rows, p] for each in values)) if rows.any() else NAN
            for p, rows in enumerate(counts.T)
        ]
    )


def means(values: NDArray[np.float64], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean (P,) of the values (n, P) that count; NaN of none, and NaN values do not count."""
    counted = counts & ~np.isnan(values)
    total, number = np.where(counted, values, 0).sum(0), counted.sum(0)
    found = np.full(len(total), NAN)
    np.divide(total, number, out=found, where=number > 0)
    return found
