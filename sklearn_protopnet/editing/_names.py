"""Numbers and names of prototypes that users pass, checked.

Shapes: P prototypes, q of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from numbers import Integral
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet.editing._choice import LONGEST_NAME, NO_TEXT


def prototype_numbers(prototypes: Any, names: NDArray[np.str_]) -> NDArray[np.int64]:
    """Find prototypes by number or name, in their order, (q,).

    Parameters
    ----------
    prototypes : int, str, or array-like or set of them
    names : array of str of shape (P,)

    Raises
    ------
    ValueError
        If there is no such prototype, or none is given.
    """
    is_one = np.ndim(prototypes) == 0 and not isinstance(prototypes, Set)
    given = [np.asarray(prototypes)[()]] if is_one else list(prototypes)
    if not given:
        raise ValueError("There must be a prototype to edit, got none.")
    numbers = [number for each in given for number in _numbers(each, names)]
    return np.array(numbers, dtype=np.int64)


def _numbers(given: Any, names: NDArray[np.str_]) -> list[int]:
    """Find the prototype of a number, or all of a name."""
    if isinstance(given, str) and given and (found := np.flatnonzero(names == given)).size:
        return [int(number) for number in found]
    is_number = isinstance(given, Integral) and not isinstance(given, bool | np.bool_)
    if is_number and 0 <= given < len(names):
        return [int(given)]
    known = sorted({name for name in names.tolist() if name})
    raise ValueError(
        f"Prototypes must be numbers from 0 to {len(names) - 1}, or names among {known}, got "
        f"{given!r}."
    )


def check_new_names(names: Any, known: NDArray[np.str_]) -> dict[int, str]:
    """Check names for prototypes; by number.

    Parameters
    ----------
    names : mapping of int or str to str
        New names by number, or by the name so far; an empty one takes a name away.
    known : array of str of shape (P,)
        Names so far.

    Raises
    ------
    TypeError
        If it is no mapping.
    ValueError
        If there is no such prototype, a name cannot be one, or one prototype is given two.
    """
    if not isinstance(names, Mapping):
        raise TypeError(f"names must be a mapping of prototypes to names, got {names!r}.")
    found: dict[int, str] = {}
    for prototype, name in names.items():
        _check_name(name)
        for number in _numbers(prototype, known):
            if found.setdefault(number, name) != name:
                raise ValueError(
                    f"Prototype {number} must have one name, got {found[number]!r} and {name!r}."
                )
    return found


def renamed(known: NDArray[np.str_], names: Mapping[int, str]) -> NDArray[np.str_]:
    """Give the names (P,) that prototypes have after some were changed, by number."""
    texts = known.tolist()
    for number, name in names.items():
        texts[number] = name
    return np.array(texts, dtype=np.str_)


def _check_name(name: Any) -> None:
    is_text = isinstance(name, str) and not any(category(each) in NO_TEXT for each in name)
    if not is_text or name != name.strip() or len(name) > LONGEST_NAME:
        raise ValueError(
            f"A name must be text of up to {LONGEST_NAME} characters, none of them for control, "
            f"and without blanks around it, got {name!r}."
        )
