"""What threads of one process share: limits that several hold at once, and random draws."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

GLOBAL_DRAWS: Final = threading.RLock()
"""Held by whoever seeds torch's global generator, draws from it and puts it back."""


class SharedLimit:
    """Sets a limit when the first user comes and lifts it when the last one goes.

    Limits of torch and of BLAS hold for the process. Two threads that each set and restore one
    would restore what the other had set.

    Parameters
    ----------
    begin : callable
        Sets the limit and returns what `end` needs to lift it.
    end : callable
    """

    def __init__(self, begin: Callable[[], Any], end: Callable[[Any], None]) -> None:
        self._begin, self._end = begin, end
        self._lock = threading.Lock()
        self._holders, self._before = 0, None

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = self._begin()
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._end(self._before)
