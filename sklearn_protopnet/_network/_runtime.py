"""Where and how torch runs: device, number of threads, random state."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, NamedTuple

import torch

from sklearn_protopnet._threads import GLOBAL_DRAWS, SharedLimit

TINY_IMAGE: Final = 16 * 16
"""Pixels up to which the small backbone runs on one thread. An epoch on 8 x 8 digits took
0.6 s on one thread and 0.8 s on two, a step on 28 x 28 images 190 ms and 100 ms."""


def resolve_device(device: str) -> torch.device:
    """Find the device that a parameter names; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If torch knows no such device, or the machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(1, dtype=torch.float64, device=resolved).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            "device must be 'auto' or a torch device of this machine with float64, such as "
            f"'cpu' or 'cuda:0', got {device!r}: {str(error).splitlines()[0]}"
        ) from error
    return resolved


BFLOAT16_CAPABILITIES: Final = ("avx512_bf16", "amx_bf16")
"""Names by which torch knows processors that multiply in bfloat16."""

PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_precision(precision: str, device: torch.device, *, is_small: bool) -> torch.dtype:
    """Find the precision of training steps that a parameter names.

    ``"auto"`` is bfloat16 where the device multiplies in it: a step of ResNet-18 on 64 x 64
    pixels took 318 ms and not 620 on a processor that does, and 29,650 ms and not 1,449 on one
    that does not.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
    device : torch.device
    is_small : bool
        Whether the network is the small one, which stays in float32: it has little to gain.
    """
    if precision != "auto":
        return PRECISIONS[precision]
    return torch.bfloat16 if not is_small and _multiplies_bfloat16(device) else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(found.get(name) for name in BFLOAT16_CAPABILITIES)


def _begin_one_thread() -> int:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return before


_ONE_THREAD: Final = SharedLimit(_begin_one_thread, torch.set_num_threads)


class _Malloc(NamedTuple):
    """Bytes of an allocation, and of free memory, from which on glibc gives memory back."""

    mmap_threshold: int
    trim_threshold: int
    top_pad: int


_KEPT: Final = _Malloc(2**30, 2**31 - 1, 2**26)
_USUAL: Final = _Malloc(2**25, 2**26, 2**17)
"""Where glibc's own thresholds come to rest in a process that frees large arrays."""

_MALLOPT_KEYS: Final = _Malloc(mmap_threshold=-3, trim_threshold=-1, top_pad=-2)


def _glibc() -> ctypes.CDLL | None:
    """Find the C library, where it is GNU's and the user has not set it up."""
    is_set_up = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    library = ctypes.CDLL(None) if sys.platform == "linux" and not is_set_up else None
    return library if hasattr(library, "gnu_get_libc_version") else None


def _set_malloc(libc: ctypes.CDLL, settings: _Malloc) -> None:
    for key, value in zip(_MALLOPT_KEYS, settings, strict=True):
        libc.mallopt(key, value)


def _begin_kept_memory() -> ctypes.CDLL | None:
    libc = _glibc()
    if libc is not None:
        _set_malloc(libc, _KEPT)
    return libc


def _end_kept_memory(libc: ctypes.CDLL | None) -> None:
    if libc is not None:
        _set_malloc(libc, _USUAL)
        libc.malloc_trim(0)


_KEPT_MEMORY: Final = SharedLimit(_begin_kept_memory, _end_kept_memory)


def working_conditions(*, tiny: bool) -> AbstractContextManager[None]:
    """Run torch under the conditions that suit a problem.

    A tiny problem gets one thread, and afterwards there are as many as before. For others freed
    memory stays with the process until the end, unless the user has set up glibc by the
    environment; afterwards it is given back, and thresholds are where glibc brings them by
    itself. Otherwise every large tensor is given back when it is freed, and the next one zeroed
    page by page.
    A training step of ResNet-18 on 64 x 64 pixels took 0.88 s, and 0.97 to 1.10 s without.
    """
    return _ONE_THREAD if tiny else _KEPT_MEMORY


@contextmanager
def seeded_construction(seed: int) -> Iterator[None]:
    """Draw initial parameters from a seed and leave the user's random state alone.

    Layers draw from torch's global generator. The lock keeps fits in other threads from
    building networks or varying images in between.
    """
    with GLOBAL_DRAWS, seeded_draws(seed, torch.device("cpu")):
        yield


@contextmanager
def seeded_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, from which dropout draws, and put them back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for each in devices:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield
