"""Results in joblib's memory, of which every byte is checked when they are read."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Memory
from numpy.typing import NDArray

from sklearn_protopnet._training._cache_key import digest_bytes

Sealed = tuple[str, NDArray[np.uint8]]
"""It has a digest of the key and of a pickled result, and the bytes of that."""

Kind = Callable[[str, Callable[[], Any]], Sealed]
"""joblib knows the results of one kind by such a function."""


def network(key: str, compute: Callable[[], Any]) -> Sealed:
    """Compute a trained network."""
    return _seal(key, compute())


def feature_maps(key: str, compute: Callable[[], Any]) -> Sealed:
    """Compute feature maps of some images."""
    return _seal(key, compute())


def is_cached(memory: Memory, kind: Kind, key: str) -> bool:
    """Tell whether there is a result."""
    try:
        return bool(memory.cache(kind, ignore=["compute"]).check_call_in_cache(key, None))
    except OSError:  # the directory has gone
        return False


def cached(memory: Memory, kind: Kind, key: str, compute: Callable[[], Any]) -> Any:
    """Give a result from memory, or compute it and keep it there.

    Parameters
    ----------
    memory : joblib.Memory
    kind : {`network`, `feature_maps`}
    key : str
        Digests all that the result depends on.
    compute : callable

    Warns
    -----
    UserWarning
        If what is kept is damaged: it is computed again.
    """
    found = find(memory, kind, key)
    if found is None:
        found = compute()
        keep(memory, kind, key, found)
    return found


def find(memory: Memory, kind: Kind, key: str) -> Any:
    """Give a result from memory; None where there is none, or a damaged one, which goes.

    Warns
    -----
    UserWarning
        If what is kept is damaged.
    """
    if memory.location is None or not is_cached(memory, kind, key):
        return None
    try:
        kept = memory.cache(kind, ignore=["compute"]).call_and_shelve(key, _fail)
        return _unseal(key, kept.get())
    except _MissingError:  # somebody has removed it since
        return None
    except Exception as error:  # what is damaged may fail in any way
        warnings.warn(
            f"A cached result must be as it was written; {kept} is damaged and is computed "
            f"again: {error}",
            stacklevel=2,
        )
        kept.clear()
        return None


def keep(memory: Memory, kind: Kind, key: str, result: Any) -> None:
    """Keep a result in memory, if there is one.

    Warns
    -----
    UserWarning
        If it cannot be kept: what has been computed is not lost for that.
    """
    if memory.location is None:
        return
    try:
        memory.cache(kind, ignore=["compute"])(key, lambda: result)
    except Exception as error:  # of the file system, or of a module that cannot be pickled
        warnings.warn(f"A result could not be kept in {memory}: {error}", stacklevel=2)


class _MissingError(Exception):
    """There is no such result."""


def _fail() -> Any:
    raise _MissingError


def _seal(key: str, result: Any) -> Sealed:
    pickled = np.frombuffer(pickle.dumps(result, protocol=5), np.uint8)
    return _digest(key, pickled), pickled


def _unseal(key: str, sealed: Sealed) -> Any:
    digest, pickled = sealed
    if _digest(key, pickled) != digest:
        raise ValueError("its digest differs")
    return pickle.loads(pickled.data)


def _digest(key: str, pickled: NDArray[np.uint8]) -> str:
    return digest_bytes(key.encode(), pickled.data)
