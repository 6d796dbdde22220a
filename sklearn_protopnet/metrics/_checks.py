"""Checks of what metrics are given."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def numbers(name: str, values: ArrayLike, n_axes: int | None) -> NDArray[np.float64]:
    """Finite numbers with so many axes, one at least with None; at least one number."""
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biufO":
            raise TypeError(f"dtype {given.dtype}")  # noqa: TRY301 - NumPy would make floats of some
        array = given.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers, found: {error}.") from error
    _check_axes(name, array, n_axes)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, found NaN or infinity.")
    return array


def _check_axes(name: str, array: NDArray[Any], n_axes: int | None) -> None:
    is_wrong = array.ndim == 0 if n_axes is None else array.ndim != n_axes
    if is_wrong or array.size == 0:
        axes = "at least one axis" if n_axes is None else f"{n_axes} axes"
        raise ValueError(
            f"{name} must have {axes} and at least one number, got an array of shape {array.shape}."
        )


def truths(name: str, values: ArrayLike, shape: tuple[int, ...] | int) -> NDArray[np.bool_]:
    """Truth values of a shape, or with so many axes; numbers other than 0 and 1 are none."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of truth values, found: {error}.") from error
    if isinstance(shape, int):
        _check_axes(name, array, shape)
    elif array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold truth values, got {array.dtype} other than 0 and 1.")
    return array.astype(bool)


def check_share(name: str, value: Any) -> None:
    """Check that a number is a share."""
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}.")
