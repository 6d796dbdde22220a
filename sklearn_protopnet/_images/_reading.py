"""Work on batches of images a few batches ahead, in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray

Reader = Callable[[], Any]
"""Gives a batch; can be pickled."""


def read_ahead(readers: Iterable[Reader], n_jobs: int | None) -> Iterator[Any]:
    """Call readers, a few of them ahead, and yield what they give, in their order.

    Parameters
    ----------
    readers : iterable of callable
    n_jobs : int or None
        Processes, as in scikit-learn. With one, or inside a worker of another search, each
        reader is called when its turn comes.
    """
    workers = effective_n_jobs(n_jobs)
    backend, _ = get_active_backend()
    if workers == 1 or not backend.supports_return_generator:
        yield from (reader() for reader in readers)
        return
    parallel = Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch=2 * workers)
    yield from parallel(delayed(_call)(reader) for reader in readers)


def _call(reader: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    return reader()
