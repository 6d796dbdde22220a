"""Convolutions that train quickly where a map has few cells.

Shapes: N images, C channels of a map of H x W cells, F channels of the next one, of H1 x W1 cells,
a kernel of h x w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sklearn_protopnet._compat import has_hooks_for_saved_tensors

MOST_CELLS: Final = 9
"""On one thread of a processor with AMX, a step of ResNet-18 took with, and without products up to
so many cells: on 80 images of 32 x 32 pixels 148 and 305 ms (float32: 233 and 356), of 64 x 64
pixels 372 and 615 ms (737 and 1,032), on 40 images of 96 x 96 pixels 384 and 479 ms (801 and 887).
With 16 cells it gained less."""


class FewCellProducts(TorchFunctionMode):
    """Has convolutions that give few cells carried out as matrix products, on the CPU.

    oneDNN's convolutions are made for maps of many cells: with 512 channels and 2 x 2 cells they
    take several times as long as the product. The network is as it was, and outside of this
    context, where a checkpoint of torch may compute its maps again, it is computed as any other.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is not torch.conv2d or torch.compiler.is_compiling():
            return func(*args, **given)
        product = None if has_hooks_for_saved_tensors() else _product(*args, **given)
        return func(*args, **given) if product is None else product


def _product(  # noqa: PLR0917 - as torch.conv2d is called
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Map (N, C, H, W) to (N, F, H1, W1); None where a product is not possible or not quicker."""
    is_whole = groups == 1 and not isinstance(padding, str) and input.layout == torch.strided
    if not is_whole or input.device.type != "cpu" or input.dim() != 4 or weight.dim() != 4:
        return None
    kernel, steps, (top, left) = tuple(weight.shape[2:]), _pair(stride), _pair(padding)
    is_usual = (
        _pair(dilation) == (1, 1)
        and min(steps) > 0 <= min(top, left)
        and input.shape[1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
    )
    if not is_usual or kernel == (1, 1):
        return None  # torch knows what is wrong with it, if something is
    rows, columns = (
        (cells + 2 * border - length) // step + 1
        for cells, border, length, step in zip(
            input.shape[2:], (top, left), kernel, steps, strict=True
        )
    )
    if min(rows, columns) < 1 or rows * columns > MOST_CELLS:
        return None
    padded = nn.functional.pad(input.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
    windows = padded.unfold(1, kernel[0], steps[0]).unfold(2, kernel[1], steps[1])
    patches = windows.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (N, H1, W1, h w C)
    flat = weight.permute(0, 2, 3, 1).flatten(1)  # (F, h w C)
    return nn.functional.linear(patches, flat, bias).permute(0, 3, 1, 2)


def _pair(given: Any) -> tuple[int, int]:
    """Give both of two numbers, of which one may stand for both; -1 twice for anything else."""
    numbers = tuple(given) if isinstance(given, Sequence) else (given,)
    first, last = (*numbers, *numbers)[:2] if len(numbers) in {1, 2} else (-1, -1)
    return int(first), int(last)
