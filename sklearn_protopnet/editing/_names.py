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
    return np.array([_number(each, names) for each in given], dtype=np.int64)


def _number(given: Any, names: NDArray[np.str_]) -> int:
    is_name = isinstance(given, str) and given != ""
    found = np.flatnonzero(names == given)
    if is_name and len(found) == 1:
        return int(found[0])
    is_number = isinstance(given, Integral) and not isinstance(given, bool | np.bool_)
    if is_number and 0 <= given < len(names):
        return int(given)
    known = [name for name in names.tolist() if name]
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
    ValueError
        If there is no such prototype, or a name cannot be one.
    """
    if not isinstance(names, Mapping):
        raise TypeError(f"names must be a mapping of prototypes to names, got {names!r}.")
    found = {_number(prototype, known): name for prototype, name in names.items()}
    for name in found.values():
        _check_name(name)
    after = known.astype(object)
    after[list(found)] = list(found.values())
    given = after[after != ""]
    if len(set(given)) < len(given) or len(found) < len(names):
        raise ValueError(f"Every name must be that of one prototype, got {dict(names)}.")
    return found


def _check_name(name: Any) -> None:
    is_text = isinstance(name, str) and not any(category(each) in NO_TEXT for each in name)
    if not is_text or name != name.strip() or len(name) > LONGEST_NAME or name.isdecimal():
        raise ValueError(
            f"A name must be text of up to {LONGEST_NAME} characters, none of them for control, "
            f"without blanks around it, and no number, got {name!r}."
        )
