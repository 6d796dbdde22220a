"""How torch runs: precision, number of threads, random state, copies."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from sklearn_protopnet._threads import GLOBAL_DRAWS, LimitOfThreads, SharedLimit

TINY_IMAGE: Final = 16 * 16
"""The small backbone runs on one thread for images of up to so many pixels. An epoch on 8 x 8
digits took 0.6 s on one thread and 0.8 s on two, a step on 28 x 28 images 190 ms and 100 ms."""


BFLOAT16_VECTORS: Final = "avx512_bf16"
BFLOAT16_MATRICES: Final = "amx_bf16"
"""torch knows processors that multiply vectors, or matrices, of bfloat16 by these names."""
FLOAT16_VECTORS: Final = "avx512_fp16"
"""Processors of this name too multiply vectors of bfloat16 no faster than of float32."""

PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def copied(module: AnyModule) -> AnyModule:
    """Copy a module, also one that has kept maps of its last step, which torch does not copy.

    Raises
    ------
    ValueError
        If a backbone in it, a module of the user's, cannot be copied.
    """
    seen: set[int] = set()
    kept = [each for part in module.modules() for each in _steps_of(vars(part), seen)]
    try:
        return copy.deepcopy(module, {id(each): each.detach().clone() for each in kept})
    except Exception as error:  # a module of the user's may fail in any way
        raise ValueError(
            "backbone must be a module that can be copied, got an error from copy.deepcopy: "
            f"{error}"
        ) from error


def _steps_of(values: Collection[Any], seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors among values that a step has computed with gradients."""
    seen.add(id(values))
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor) and not value.is_leaf:
            yield value
        elif isinstance(value, dict | list | tuple | deque) and id(value) not in seen:
            yield from _steps_of(value, seen)


def resolve_precision(precision: str, device: torch.device, *, is_small: bool) -> torch.dtype:
    """Find the precision of training steps that a parameter names.

    ``"auto"`` is bfloat16 where that is faster. A step of ResNet-18 on 64 x 64 pixels took 318 ms
    and not 620 on a processor that multiplies vectors of bfloat16, 900 ms and not 610 on one that
    multiplies vectors of float16 as well, and 29,650 ms and not 1,449 on one that knows none. The
    small network gains where matrices are multiplied in it: a fit to 3,000 images of 28 x 28 pixels
    took 57 s and not 156. Accuracy stays (benchmarks/results.md).

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
    device : torch.device
    is_small : bool
        Whether the network is the small one, of which nobody has measured what it gains on an
        accelerator.
    """
    if precision != "auto":
        return PRECISIONS[precision]
    if device.type == "cuda":
        is_faster = not is_small and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        has_vectors = able.get(BFLOAT16_VECTORS) and not able.get(FLOAT16_VECTORS)
        is_able = able.get(BFLOAT16_MATRICES) or (has_vectors and not is_small)
        is_faster = device.type == "cpu" and bool(is_able)
    return torch.bfloat16 if is_faster else torch.float32


def _begin_one_thread() -> int:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return before


_ONE_THREAD: Final = LimitOfThreads(_begin_one_thread, torch.set_num_threads)


def _begin_float32() -> torch.dtype:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    return before


_FLOAT32: Final = SharedLimit(_begin_float32, torch.set_default_dtype)


def _begin_full_products() -> str:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    return before


_FULL_PRODUCTS: Final = SharedLimit(_begin_full_products, torch.set_float32_matmul_precision)


def _begin_onednn() -> bool:
    before = bool(torch.backends.mkldnn.enabled)
    _set_onednn(True)
    return before


def _set_onednn(is_enabled: Any) -> None:
    torch.backends.mkldnn.enabled = is_enabled


_ONEDNN: Final = SharedLimit(_begin_onednn, _set_onednn)


@contextmanager
def working_conditions(*, tiny: bool) -> Iterator[None]:
    """Run torch as this package needs it, whatever the caller has set, and leave it as it was.

    Settings by which a result could change (default dtype and device, gradients, inference mode,
    autocast, shortened products, oneDNN) are as PyTorch has them when it starts. A tiny problem
    gets one thread.

    Parameters
    ----------
    tiny : bool
        Whether one thread is faster than several.
    """
    with ExitStack() as conditions:
        if tiny:
            conditions.enter_context(_ONE_THREAD)
        conditions.enter_context(_FLOAT32)
        conditions.enter_context(_FULL_PRODUCTS)
        conditions.enter_context(_ONEDNN)
        if torch.get_default_device().type != "cpu":
            conditions.enter_context(torch.device("cpu"))
        conditions.enter_context(torch.inference_mode(mode=False))
        conditions.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                conditions.enter_context(torch.autocast(kind, enabled=False))
        yield


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
