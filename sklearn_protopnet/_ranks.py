"""Processes that train one network together, and what they put together.

All of them run the same code on the same data; each has a part of every batch and of every pass.
A user starts them (``torchrun``, or any process group of torch); without a group there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from sklearn_protopnet._compat import BatchNorm

Value = TypeVar("Value")

LARGE: Final = 2**16
"""A tensor of so many numbers is a message of its own: to copy it takes longer than to send one."""

LOCAL_RANK: Final = "LOCAL_RANK"
"""``torchrun`` numbers the processes of a machine in this variable."""


@dataclass(frozen=True)
class Ranks:
    """The processes of torch's default group."""

    rank: int = 0
    """The number of this one."""
    size: int = 1
    device: torch.device | None = None
    """Where the group's backend takes tensors from."""

    @classmethod
    def now(cls, device: torch.device) -> Self:
        """Look at the group that there is."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def part(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give this process's share of positions, in their order."""
        return index if self.size == 1 else np.array_split(index, self.size)[self.rank]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes: small ones in one message."""
        if self.size == 1:
            return
        small, sent = [], []
        for tensor in tensors:
            is_near = self.device is not None and tensor.device.type == self.device.type
            if tensor.numel() < LARGE or not (is_near and tensor.is_contiguous()):
                small.append(tensor)
            else:
                sent.append(distributed.all_reduce(tensor, async_op=True))
        if small:
            flat = torch.cat([tensor.reshape(-1) for tensor in small]).to(self.device)
            distributed.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in small])
            for tensor, part in zip(small, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
        for message in sent:
            message.wait()

    def add_up_arrays(self, *arrays: NDArray[Any]) -> None:
        """Replace arrays by their sums over the processes, each in a message."""
        for array in arrays:
            self.add_up([torch.from_numpy(array)])

    def any(self, flag: object) -> bool:
        """Tell whether something holds in any process."""
        found = torch.tensor([float(bool(flag))])
        self.add_up([found])
        return bool(found.item())

    def gather(self, value: Value) -> list[Value]:
        """Give the values of all processes, in their order."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """Have the first process compute something, and give it to all."""
        if self.size == 1:
            return compute()
        values = [compute() if self.is_first else None]
        distributed.broadcast_object_list(values, device=self.device)
        return values[0]  # type: ignore[return-value]  # of the first process


def local_rank() -> int | None:
    """Give the number that ``torchrun`` has given this process on its machine; None without."""
    number = os.environ.get(LOCAL_RANK)
    is_group = distributed.is_available() and distributed.is_initialized()
    return int(number) if number is not None and is_group else None


class _Normalise(torch.autograd.Function):
    """Batch normalisation of a part of a batch by the statistics of all of it.

    Ioffe and Szegedy, "Batch Normalization" (ICML 2015), with the sums over the batch, those of the
    gradients too, added up over the processes. Gives the output, mean and variance of the batch,
    and the number of values of a channel.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n_own = maps.numel() / maps.shape[1]
        unused = torch.zeros_like(weight)  # running statistics: what comes out has their dtype
        own = torch.batch_norm_update_stats(maps, unused, unused.clone(), 0.0)
        mean, variance = (each.double() for each in own)  # (F,) of this part
        sums = torch.stack([mean, variance + mean.square(), torch.ones_like(mean)]) * n_own
        distributed.all_reduce(sums)  # in float64: variances are differences
        n_values = sums[2].float()
        whole = (sums[0] / sums[2]).to(weight.dtype)
        squares = sums[1] / sums[2] - (sums[0] / sums[2]).square()
        whole_variance = squares.clamp_min(0).to(weight.dtype)
        ctx.save_for_backward(maps, weight, whole, whole_variance, n_values)
        ctx.eps = eps
        output = nn.functional.batch_norm(maps, whole, whole_variance, weight, bias, eps=eps)
        ctx.mark_non_differentiable(whole, whole_variance, n_values)
        return output, whole, whole_variance, n_values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        maps, weight, mean, variance, n_values = ctx.saved_tensors
        dtype, maps = maps.dtype, maps.to(weight.dtype)  # bfloat16 is rounded to once, at the end
        # As if mean and variance were constants; then what they depend on, over the processes.
        of_maps, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.to(weight.dtype),
            *(maps, weight, mean, variance, None, None, False, ctx.eps, [True] * 3),
        )
        totals = torch.stack([of_bias, of_weight]) / n_values
        distributed.all_reduce(totals)
        offset, slope = -weight * (variance + ctx.eps).rsqrt() * totals  # of normalised maps
        of_maps += nn.functional.batch_norm(maps, mean, variance, slope, offset, eps=ctx.eps)
        return of_maps.to(dtype), of_weight, of_bias, None


class SharedBatchNorm(BatchNorm):
    """Batch normalisation with the statistics of the whole batch, on processors, too.

    torch's own (`torch.nn.SyncBatchNorm`) takes tensors of graphics cards only.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise this process's part of a batch."""
        if not self.training:
            return super().forward(maps)
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if not self.affine:
            dtype = torch.promote_types(maps.dtype, torch.float32)
            weight = torch.ones(maps.shape[1], dtype=dtype, device=maps.device)
            bias = torch.zeros_like(weight)
        output, mean, variance, n_values = _Normalise.apply(maps, weight, bias, self.eps)
        self._take_in(mean, variance * n_values / (n_values - 1))
        normalised: Tensor = output
        return normalised

    @torch.no_grad()
    def _take_in(self, mean: Tensor, variance: Tensor) -> None:
        n_batches, means, variances = self.num_batches_tracked, self.running_mean, self.running_var
        if n_batches is None or means is None or variances is None:
            return
        n_batches += 1
        share = 1 / float(n_batches) if self.momentum is None else self.momentum
        means.lerp_(mean, share)
        variances.lerp_(variance, share)

    def _check_input_dim(self, _: Tensor) -> None:
        """Take maps of any dimensions."""


class SharedBatchNorm1d(SharedBatchNorm):
    """Stands for `torch.nn.BatchNorm1d`."""


class SharedBatchNorm2d(SharedBatchNorm):
    """Stands for `torch.nn.BatchNorm2d`."""


class SharedBatchNorm3d(SharedBatchNorm):
    """Stands for `torch.nn.BatchNorm3d`."""


class SharedSyncBatchNorm(SharedBatchNorm):
    """Stands for `torch.nn.SyncBatchNorm`."""


_CLASSES: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.BatchNorm1d: SharedBatchNorm1d,
    nn.BatchNorm2d: SharedBatchNorm2d,
    nn.BatchNorm3d: SharedBatchNorm3d,
    nn.SyncBatchNorm: SharedSyncBatchNorm,
}
_OWN_CLASSES: Final = {shared: own for own, shared in _CLASSES.items()}


def share_statistics(module: nn.Module, ranks: Ranks) -> None:
    """Let batch normalisation see the whole batch of all processes."""
    for each in module.modules() if ranks.size > 1 else ():
        each.__class__ = _CLASSES.get(type(each), type(each))


def unshare_statistics(module: nn.Module) -> None:
    """Let batch normalisation be as it was."""
    for each in module.modules():
        each.__class__ = _OWN_CLASSES.get(type(each), type(each))
