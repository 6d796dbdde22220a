"""What threads of one process share: limits that several hold at once, and random draws."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final


class ForkableLock:
    """A reentrant lock that is free in a child process, whoever held it when that was forked."""

    def __init__(self) -> None:
        self._renew()
        in_child_processes(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def in_child_processes(call: Callable[[], None]) -> None:
    """Have something called at the start of every process that is forked from this one."""
    if hasattr(os, "register_at_fork"):  # elsewhere nothing is forked
        os.register_at_fork(after_in_child=call)


GLOBAL_DRAWS: Final = ForkableLock()
"""Whoever seeds torch's global generator, draws from it and puts it back holds this lock."""


class LimitOfThreads:
    """Sets a limit that every thread has for itself, in each that comes and until it goes.

    A thread that starts meanwhile has the limit from the beginning, as if it had always been
    there; so what `end` is given is what the first thread found.

    Parameters
    ----------
    begin : callable
        Sets the limit in the thread that calls it, and returns what `end` needs to lift it there.
    end : callable
    """

    def __init__(self, begin: Callable[[], Any], end: Callable[[Any], None]) -> None:
        self._begin, self._end = begin, end
        self._own = threading.local()
        self._lock = ForkableLock()
        self._holders, self._before = 0, None
        in_child_processes(self._forget)

    def _forget(self) -> None:
        """Forget the threads that a child process does not have."""
        self._holders = int(getattr(self._own, "depth", 0) > 0)

    def __enter__(self) -> None:
        depth = getattr(self._own, "depth", 0)
        if depth == 0:
            with self._lock:
                found = self._begin()
                self._before = self._before if self._holders else found
                self._holders += 1
        self._own.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        if self._own.depth == 0:
            with self._lock:
                self._holders -= 1
                self._end(self._before)


class SharedLimit:
    """Sets a limit when the first user comes and lifts it when the last one goes.

    Such limits hold for the process. Two threads that each set and restore one would restore what
    the other had set.

    Parameters
    ----------
    begin : callable
        Sets the limit and returns what `end` needs to lift it.
    end : callable
    """

    def __init__(self, begin: Callable[[], Any], end: Callable[[Any], None]) -> None:
        self._begin, self._end = begin, end
        self._lock = ForkableLock()
        self._holders, self._before = 0, None
        in_child_processes(self._lift)

    def _lift(self) -> None:
        """Lift the limit of threads that a child process does not have."""
        if self._holders:
            self._holders = 0
            self._end(self._before)

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
