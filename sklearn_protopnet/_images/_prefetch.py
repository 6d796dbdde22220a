"""Work on batches of images a few batches ahead, in other processes."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from pickle import PicklingError
from typing import Any, Final

from joblib import Parallel, delayed, effective_n_jobs

from sklearn_protopnet._compat import get_active_backend, is_loky

WATCH_SECONDS: Final = 1.0
"""A process that reads ahead asks in this interval whether its parent lives."""

Reader = Callable[[], Any]
"""It gives a batch, and can be pickled."""


def read_ahead(readers: Iterable[Reader], n_jobs: int | None) -> Iterator[Any]:
    """Call readers, a few of them ahead, and yield what they give, in their order.

    Parameters
    ----------
    readers : iterable of callable
    n_jobs : int or None
        Processes, as in scikit-learn, with up to two readers each that nobody has asked for yet.
        With one process, or inside a worker of another search, each reader is called when its
        turn comes. The processes end when this one does, however it ends.

    Raises
    ------
    ValueError
        If there are several processes, and a reader cannot be pickled.
    """
    workers = effective_n_jobs(n_jobs)
    backend, _ = get_active_backend()
    has_threads = getattr(backend, "uses_threads", False)  # as inside of a worker
    if workers == 1 or has_threads or not backend.supports_return_generator:
        yield from (reader() for reader in readers)
        return
    # Nobody waits for a batch while two things hold: processes are never without work, and memory
    # holds few batches. joblib ensures the first only: given all readers at once, it would read
    # them all, whoever takes the results. So it is given parts, of as many readers as there are
    # processes, and while one part is taken the next one is being read: two readers a process.
    readers = iter(readers)
    parts = iter(lambda: list(islice(readers, workers)), [])
    # Elsewhere, as on a cluster, processes are nobody's children, or not ours.
    parent = os.getpid() if is_loky(backend) else None
    begun = (
        Parallel(n_jobs, return_as="generator")(delayed(_call)(reader, parent) for reader in part)
        for part in parts
    )
    try:
        for result, error in _one_ahead(begun):
            if error is not None:
                raise error
            yield result
    except PicklingError as error:
        raise ValueError(
            f"With n_jobs={n_jobs}, augment and plugins of Pillow must be such as can be pickled, "
            "got others. Or set n_jobs=None."
        ) from error


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


def _call(reader: Reader, parent: int | None) -> tuple[Any, Exception | None]:
    """Give what a reader gives, or its error: one that is raised would kill the processes."""
    if parent is not None:
        _end_with(parent)
    try:
        return reader(), None
    except Exception as error:  # a transform of the user's may fail in any way
        error.add_note(traceback.format_exc())
        return None, error


@cache
def _end_with(parent: int) -> None:
    """Have this process end when its parent has: one that is killed cannot say so.

    joblib's processes wait for work for 300 s. The system gives a process whose parent is gone
    another one, on Windows not: there they wait.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        # A terminal sends Ctrl-C to all of its processes, and it is the parent's to act on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
