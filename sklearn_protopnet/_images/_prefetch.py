"""Work on batches of images a few batches ahead, in other processes."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

Reader = Callable[[], Any]
"""Gives a batch; can be pickled."""


def read_ahead(readers: Iterable[Reader], n_jobs: int | None) -> Iterator[Any]:
    """Call readers, a few of them ahead, and yield what they give, in their order.

    Parameters
    ----------
    readers : iterable of callable
    n_jobs : int or None
        Processes, as in scikit-learn, with up to two readers each that nobody has asked for yet.
        With one process, or inside a worker of another search, each reader is called when its
        turn comes.
    """
    workers = effective_n_jobs(n_jobs)
    backend, _ = get_active_backend()
    has_threads = getattr(backend, "uses_threads", False)  # as inside of a worker
    if workers == 1 or has_threads or not backend.supports_return_generator:
        yield from (reader() for reader in readers)
        return
    # joblib does not wait for anyone to take what it has read: given all readers at once, it
    # would fill the memory. So it is given a part after the other, each ahead of its turn.
    readers = iter(readers)
    parts = iter(lambda: list(islice(readers, workers)), [])
    for result, error in _one_ahead(
        Parallel(n_jobs, return_as="generator")(delayed(_call)(reader) for reader in part)
        for part in parts
    ):
        if error is not None:
            raise error
        yield result


def _one_ahead(begun: Iterator[Iterator[Any]]) -> Iterator[Any]:
    """Chain joblib's generators, each begun while the one before it is taken."""
    held = list(islice(begun, 1))
    try:
        while held:
            held.extend(islice(begun, 1))
            for item in held[0]:  # noqa: UP028 - `yield from` would close it
                yield item
            del held[0]
    finally:
        for rest in held:  # to close it would kill the processes, which take seconds to start
            deque(rest, maxlen=0)


def _call(reader: Reader) -> tuple[Any, Exception | None]:
    """Give what a reader gives, or its error: one that is raised would kill the processes."""
    try:
        return reader(), None
    except Exception as error:  # a transform of the user's may fail in any way
        error.add_note(traceback.format_exc())
        return None, error
