"""What somebody has chosen among the prototypes, as the report's page saves it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from reprlib import repr as short
from typing import Any, Final, NoReturn
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._files import check_regular

SCHEMA: Final = "sklearn_protopnet.choice"
"""A choice names this schema."""

SCHEMA_VERSION: Final = 1
"""The version counts up when a choice of now could no longer be read by an older one."""

KEYS: Final = ("schema", "schema_version", "model_digest", "forbid", "keep", "names")
"""A choice has all of these keys, and no other."""

LARGEST_BYTES: Final = 10_000_000
"""A file that is larger is none of a page: 10,000 prototypes and their names fill 8.5 MB."""

LARGEST_NUMBER: Final = int(np.iinfo(np.int64).max)
"""No prototype has a larger number."""

LONGEST_NAME: Final = 200
"""A name has so many characters at most."""

NO_TEXT: Final = frozenset({"Cc", "Cs"})
"""Characters of these categories are no text: control characters, and halves of surrogate pairs."""


@dataclass(frozen=True)
class Choice:
    """Prototypes to forbid, to keep and to name; whether a model has them is not known here."""

    forbid: NDArray[np.int64]
    """Their numbers, ascending."""
    keep: NDArray[np.int64]
    """Their numbers, ascending; none that is forbidden."""
    names: dict[int, str]
    """New names by number, ascending; an empty one takes a name away."""
    model_digest: str | None = None
    """The digest of the model that the choice is for; None if that is not said."""

    @classmethod
    def read(cls, choice: str | os.PathLike[str] | Mapping[str, Any]) -> Choice:
        """Read what a report's page saved, or take a mapping of the same keys.

        Parameters
        ----------
        choice : str, path-like or mapping
            A JSON file, or what one holds. A mapping may leave ``model_digest`` out, have it as
            None, and have numbers as keys of its names.

        Returns
        -------
        Choice

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        OSError
            If the file cannot be read.
        TypeError
            If it is neither a path nor a mapping.
        ValueError
            If it is no regular file, or no such choice.
        """
        if isinstance(choice, Mapping):
            return _Reader("The choice").choice({"model_digest": None, **choice})
        if not isinstance(choice, str | os.PathLike):
            raise TypeError(f"choice must be a path or a mapping, got {short(choice)}.")
        reader = _Reader(f"The choice in {os.fspath(choice)!r}")
        values = reader.values(choice)
        if values.get("model_digest", "") is None:
            reader.refuse("name the digest of its model as text", "null")
        return reader.choice(values)


def _integer(digits: str) -> int | float:
    """Read an integer; one that is larger than any number of a prototype as what is refused."""
    return int(digits) if len(digits) <= len(str(LARGEST_NUMBER)) else float(digits)


@dataclass(frozen=True)
class _Reader:
    """Checks one choice, and names it in errors."""

    source: str

    def refuse(self, rule: str, found: str) -> NoReturn:
        raise ValueError(f"{self.source} must {rule}, found {found}.")

    def values(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Read the object of a JSON file."""
        check_regular(path)
        with open(path, "rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            self.refuse(f"have {LARGEST_BYTES:,} bytes at most", "more")
        try:
            # A byte order mark, which some editors put in front, says nothing.
            values = json.loads(
                content.decode("utf-8-sig"), object_pairs_hook=self._object, parse_int=_integer
            )
        except UnicodeDecodeError as error:
            self.refuse("be text in UTF-8", f"{error.reason} at byte {error.start}")
        except json.JSONDecodeError as error:
            self.refuse("be JSON", f"what is none: {error}")
        except RecursionError:
            self.refuse("be JSON of few levels", "too many")
        if not isinstance(values, dict):
            self.refuse("be a JSON object", short(values))
        return values

    def choice(self, values: Mapping[str, Any]) -> Choice:
        """Take the values, if each of them is as it must be."""
        self._check_keys(values)
        digest = values["model_digest"]
        if not (digest is None or (isinstance(digest, str) and digest)):
            self.refuse("name the digest of its model as text", short(digest))
        forbid, keep = (self._numbers(name, values[name]) for name in ("forbid", "keep"))
        both = sorted(set(forbid) & set(keep))
        if both:
            self.refuse("not both forbid and keep a prototype", f"{short(both)} in both")
        return Choice(
            forbid=np.array(forbid, dtype=np.int64),
            keep=np.array(keep, dtype=np.int64),
            names=self._names(values["names"]),
            model_digest=digest,
        )

    def _check_keys(self, values: Mapping[str, Any]) -> None:
        schema, version = values.get("schema"), values.get("schema_version")
        if not isinstance(schema, str) or schema != SCHEMA:
            self.refuse(f"have the schema {SCHEMA!r}", short(schema))
        if type(version) is not int or version != SCHEMA_VERSION:
            self.refuse(f"have the schema's version {SCHEMA_VERSION}", short(version))
        missing = [key for key in KEYS if key not in values]
        if missing:
            self.refuse(f"have the keys {', '.join(KEYS)}", f"none named {', '.join(missing)}")
        others = [key for key in values if key not in KEYS]
        if others:
            self.refuse(f"have no keys but {', '.join(KEYS)}", short(others))

    def _numbers(self, name: str, values: Any) -> list[int]:
        """Read a list of prototypes, ascending."""
        is_list = isinstance(values, Sequence | np.ndarray) and getattr(values, "ndim", 1) > 0
        if not is_list or isinstance(values, str | bytes | bytearray):
            self.refuse(f"list numbers of prototypes as {name!r}", short(values))
        numbers = [self._number(name, value) for value in values]
        self._check_distinct(f"numbers of {name!r}", numbers)
        return sorted(numbers)

    def _names(self, values: Any) -> dict[int, str]:
        if not isinstance(values, Mapping):
            self.refuse("have names by numbers of prototypes", short(values))
        numbers = [self._number("names", self._plain(key)) for key in values]
        self._check_distinct("numbers of 'names'", numbers)
        names = map(self._name, numbers, values.values())
        return dict(sorted(zip(numbers, names, strict=True)))

    def _plain(self, key: Any) -> Any:
        """Read a key, which is text in JSON, as a number if it is written as one is."""
        is_number = isinstance(key, str) and key.isascii() and key.isdecimal()
        if not is_number or len(key) > len(str(LARGEST_NUMBER)) or key != str(int(key)):
            return key
        return int(key)

    def _number(self, name: str, value: Any) -> int:
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_integer or not 0 <= value <= LARGEST_NUMBER:
            self.refuse(
                f"have numbers of prototypes, integers from 0 on, in {name!r}", short(value)
            )
        return int(value)

    def _name(self, number: int, name: Any) -> str:
        if not isinstance(name, str):
            self.refuse("name prototypes by text", f"{short(name)} for prototype {number}")
        if len(name) > LONGEST_NAME:
            self.refuse(
                f"have names of {LONGEST_NAME} characters at most",
                f"{len(name)} for prototype {number}",
            )
        if not NO_TEXT.isdisjoint(map(category, name)):
            self.refuse(
                "have names without control characters or halves of surrogate pairs",
                f"{name!r} for prototype {number}",
            )
        return str(name)

    def _check_distinct(self, what: str, values: Iterable[Any]) -> None:
        repeated = [value for value, n in Counter(values).items() if n > 1]
        if repeated:
            self.refuse(f"have {what} once each", f"{short(repeated)} more than once")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Make an object of JSON, whose keys must differ: else one would hide another."""
        self._check_distinct("keys", [key for key, _ in pairs])
        return dict(pairs)
