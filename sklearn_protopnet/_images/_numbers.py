"""Numbers that pixels may be."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_INTEGER: Final = 2**53
"""Integers up to this one are exact in float64, in which images are standardised."""


def as_array(X: Any, name: str = "X") -> Any:
    """Turn a tensor into an array, and leave anything else alone.

    Raises
    ------
    TypeError
        If X is a tensor on an accelerator, or a sparse one.
    """
    if not isinstance(X, Tensor):
        return X
    if X.device.type != "cpu" or X.layout != torch.strided:
        raise TypeError(
            f"Tensors in {name} must be dense and on the CPU, got one of {X.layout} on {X.device}."
        )
    is_short = X.is_floating_point() and X.dtype != torch.float16 and X.dtype.itemsize <= 2
    return (X.detach().float() if is_short else X.detach()).resolve_conj().resolve_neg().numpy()


def as_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Bring numbers into native byte order, and objects and long floats to float64.

    Raises
    ------
    ValueError
        If they are no real numbers, or integers that float64 does not hold.
    """
    kind, itemsize = values.dtype.kind, values.dtype.itemsize
    if kind == "O" or (kind == "f" and itemsize > 8):
        with np.errstate(over="ignore"):  # infinity is refused by all that comes after
            return _as_float64(values, name)
    if kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got {values.dtype}.")
    if kind in "iu" and itemsize == 8 and values.size:
        largest = max(int(values.max()), -int(values.min()))
        if largest > LARGEST_INTEGER:
            raise ValueError(
                f"{name} must hold integers of at most 2**53, which float64 holds, got one of "
                f"about {largest:.3g}. Subtract what all have in common."
            )
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _as_float64(values: NDArray[Any], name: str) -> NDArray[Any]:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold real numbers: {error}.") from error
