"""Which device a network is trained and used on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import torch
from filelock import FileLock, Timeout

from sklearn_protopnet._ranks import Ranks, local_rank

SHARED: Final = 0o666
"""Other users of the machine may lock the same file."""


def resolve_device(device: str) -> torch.device:
    """Find the device that a parameter names; ``"auto"`` is CUDA where there is one, else the CPU.

    Of several graphics cards, a process that ``torchrun`` has started takes that of its number.

    Raises
    ------
    ValueError
        If torch knows no such device, or the machine has none.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        rank = local_rank()
        if rank is None:
            return torch.device("cuda")
        return torch.device("cuda", rank % torch.cuda.device_count())
    try:
        resolved = torch.device(device)
        torch.empty(1, dtype=torch.float64, device=resolved).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            "device must be 'auto' or a torch device of this machine with float64, such as "
            f"'cpu' or 'cuda:0', got {device!r}: {str(error).splitlines()[0]}"
        ) from error
    return resolved


@contextmanager
def claimed_device(device: torch.device, ranks: Ranks) -> Iterator[torch.device]:
    """Give the device to train on: of several graphics cards, one on which no other fit is.

    Processes and threads of a search, all of which see all cards, take different ones. With more
    fits than cards some share one. A device that has a number is taken as it is, and so is the
    current one in each of several processes that train together.
    """
    is_free = device.type == "cuda" and device.index is None and ranks.size == 1
    n_cards = torch.cuda.device_count() if is_free else 0
    if n_cards < 2:
        yield device
        return
    with ExitStack() as claim:
        yield torch.device("cuda", _claim(claim, n_cards))


def _claim(claim: ExitStack, n_cards: int) -> int:
    """Take the first card that is free, until the stack is closed; share one if none is."""
    for number in range(n_cards):
        name = f"sklearn-protopnet-{torch.cuda.get_device_properties(number).uuid}.lock"
        with suppress(Timeout, OSError):  # taken, perhaps by somebody else
            path = Path(tempfile.gettempdir(), name)
            claim.enter_context(FileLock(path, timeout=0, mode=SHARED))
            return number
    return os.getpid() % n_cards
