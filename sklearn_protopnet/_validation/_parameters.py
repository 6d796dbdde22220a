"""Numbers and names that users pass, checked."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any


def check_positive(name: str, value: Any) -> None:
    """Check that a number is a positive integer."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")


def check_names(name: str, value: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Check names among known ones, and bring them into their order; ``"all"`` is all of them.

    Raises
    ------
    ValueError
        If there is no such name.
    """
    order, given = list(known), value
    if isinstance(value, str):
        value = order if value == "all" else (value,)
    wanted = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(each, str) and each in order for each in wanted):
        raise ValueError(f"{name} must be 'all' or names among {order}, got {given!r}.")
    return tuple(each for each in order if each in wanted)
