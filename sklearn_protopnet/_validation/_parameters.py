"""Numbers and names that users pass, checked."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from numpy.typing import NDArray


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


def check_text(name: str, values: NDArray[Any], place: str = "row") -> None:
    """Check that UTF-8 can hold the text among values (n,), as tables, reports and files must.

    Raises
    ------
    ValueError
        With the place of the first text that it cannot.
    """
    if values.dtype.kind not in "OU":
        return
    for number, value in enumerate(values.tolist()):
        parts = value if isinstance(value, tuple) else (value,)  # of an index of several levels
        if not all(_is_utf8(part) for part in parts if isinstance(part, str)):
            raise ValueError(
                f"{name} must be text that UTF-8 can hold, got {value!r} in {place} {number}. Such "
                "text comes from names of files that were decoded in another encoding."
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
