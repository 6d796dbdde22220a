"""Convolutions that train quickly where a map has few cells.

Shapes: N images, C channels of a map of H x W cells, F channels of the next one, of H1 x W1 cells.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

FEW_CELLS: Final = 9
"""On one thread of a processor with AMX, a step of ResNet-18 took with, and without products up to
so many cells: on 80 images of 32 x 32 pixels 148 and 305 ms (float32: 233 and 356), of 64 x 64
pixels 372 and 615 ms (737 and 1,032), on 40 images of 96 x 96 pixels 384 and 479 ms (801 and 887).
With 16 cells it gained less."""


class FewCellsConv2d(nn.Conv2d):
    """A convolution that trains on the CPU as one matrix product, if its map has few cells.

    oneDNN's convolutions are made for maps of many cells: with 512 channels and 2 x 2 cells they
    take several times as long as the product. Outside of training it is a convolution as any other,
    for whoever follows the operations of a network.
    """

    @classmethod
    def take_over(cls, network: nn.Module) -> None:
        """Turn the convolutions of a network into such ones, where that can be."""
        for module in network.modules():
            if type(module) is nn.Conv2d and _is_plain(module):
                module.__class__ = cls

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F, H1, W1)."""
        top, left = map(int, self.padding)
        rows, columns = (
            (cells + 2 * border - kernel) // stride + 1
            for cells, border, kernel, stride in zip(
                maps.shape[2:], (top, left), self.kernel_size, self.stride, strict=True
            )
        )
        is_small = min(rows, columns) > 0 and rows * columns <= FEW_CELLS
        if not (is_small and self.training and maps.device.type == "cpu"):
            return super().forward(maps)
        padded = nn.functional.pad(maps.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
        windows = padded.unfold(1, self.kernel_size[0], self.stride[0])
        windows = windows.unfold(2, self.kernel_size[1], self.stride[1])  # (N, H1, W1, C, h, w)
        patches = windows.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (N, H1, W1, h w C)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # (F, h w C)
        return nn.functional.linear(patches, weight, self.bias).permute(0, 3, 1, 2)


def _is_plain(module: nn.Conv2d) -> bool:
    """Tell whether a convolution looks at more than a cell, and at the cells beside it only."""
    is_simple = module.groups == 1 and module.dilation == (1, 1)
    has_border = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return is_simple and has_border and module.kernel_size != (1, 1)
