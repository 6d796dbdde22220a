"""The exact receptive field of any backbone, read off one forward pass.

A dispatch mode watches the operators that the pass really executes, and carries for each cell
of each intermediate map the interval of input rows and of input columns that it depends on.
Windows (convolution, pooling, borders of constants) are followed index by index, so borders,
strides, dilation and odd sizes come out exact; an operator of unknown reach is taken to reach
the whole image, which keeps every interval sufficient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet._compat import TorchDispatchMode, is_mutable, storage_key
from sklearn_protopnet._network._functional import check_maps, patch_grid

Intervals = NDArray[np.int64]
"""(cells, 2): half-open intervals of input rows (or columns), one for each cell."""

BATCH: Final = 2
"""So many images show whether a backbone keeps them apart."""

aten = torch.ops.aten


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels each cell of a feature map depends on."""

    rows: Intervals
    """(H, 2)"""
    columns: Intervals
    """(W, 2)"""
    depth: int
    """Channels of the feature map."""

    @property
    def map_size(self) -> tuple[int, int]:
        """(H, W) of the feature map."""
        return len(self.rows), len(self.columns)

    def boxes(self, positions: NDArray[np.int64], patch_size: tuple[int, int]) -> Intervals:
        """Pixels that patches depend on.

        Parameters
        ----------
        positions : int64 array of any shape
            Patch numbers, row by row.
        patch_size : (int, int)
            (H1, W1) cells.

        Returns
        -------
        int64 array of shape (*positions.shape, 4)
            ``y0, y1, x0, x1``, half-open.
        """
        _, n_columns = patch_grid(self.map_size, patch_size)
        tops, lefts = np.divmod(positions, n_columns)
        y = _spans(self.rows, patch_size[0])[tops]
        x = _spans(self.columns, patch_size[1])[lefts]
        return np.concatenate([y, x], axis=-1)


def _spans(intervals: Intervals, length: int) -> Intervals:
    """Unite every run of ``length`` neighbouring intervals."""
    if length == 1:
        return intervals
    runs = np.lib.stride_tricks.sliding_window_view(intervals, length, axis=0)
    return _hull(runs[:, 0], runs[:, 1])


def _hull(lows: NDArray[np.int64], highs: NDArray[np.int64]) -> Intervals:
    """Unite intervals along the last axis; empty ones, of cells without a pixel, do not count."""
    is_empty = lows >= highs
    low = np.where(is_empty, np.iinfo(np.int64).max, lows).min(-1)
    high = np.where(is_empty, 0, highs).max(-1)
    return np.stack([np.minimum(low, high), high], axis=-1)


def trace_receptive_field(
    backbone: nn.Module, channels: int, image_size: tuple[int, int]
) -> ReceptiveField:
    """Run a backbone once on blank images and follow what depends on what.

    Parameters
    ----------
    backbone : Module
        In ``eval()`` mode.
    channels : int
    image_size : (int, int)

    Returns
    -------
    ReceptiveField

    Raises
    ------
    ValueError
        If the backbone does not map (n, C, H0, W0) to (n, F, H, W), in float32.
    """
    images = torch.zeros(BATCH, channels, *image_size)
    reader = _Reader(images)
    with torch.no_grad(), reader:
        features = backbone(images)
    check_maps(features, images)
    field = reader.field_of(features)
    if not isinstance(field, _Field):
        field = _whole_field(features, image_size)
    return ReceptiveField(field.rows, field.columns, features.shape[1])


@dataclass(frozen=True)
class _Field:
    rows: Intervals
    columns: Intervals

    @property
    def size(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def __or__(self, other: _Field) -> _Field:
        return _Field(_unite(self.rows, other.rows), _unite(self.columns, other.columns))


class _Whole:
    """A tensor each element of which may depend on every pixel."""


WHOLE: Final = _Whole()


def _unite(one: Intervals, other: Intervals) -> Intervals:
    both = np.stack([one, other], axis=2)  # (cells, 2, 2)
    return _hull(both[:, 0], both[:, 1])


def _whole_field(features: Tensor, image_size: tuple[int, int]) -> _Field:
    height, width = features.shape[2:]
    return _Field(
        np.tile(np.array([0, image_size[0]]), (height, 1)),
        np.tile(np.array([0, image_size[1]]), (width, 1)),
    )


class _Reader(TorchDispatchMode):
    """Carries fields from the inputs of every executed operator to its outputs."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = image.shape[2:]
        start = _Field(*(np.arange(n)[:, None] + np.array([0, 1]) for n in (height, width)))
        # Tensors are kept alive, so that no identity is used twice during the pass.
        self._fields: dict[int, tuple[Tensor, _Field | _Whole]] = {id(image): (image, start)}
        self._writes: dict[int, tuple[Tensor, _Field | _Whole]] = {}  # by storage

    def field_of(self, tensor: Tensor) -> _Field | _Whole | None:
        """Say what the tensor depends on; None where that is no pixel."""
        written, field = self._writes.get(storage_key(tensor), (None, None))
        if written is not None:  # the tensor is what was written to, or shares memory with it
            return field if _are_one(tensor, written) else WHOLE
        entry = self._fields.get(id(tensor))
        return entry[1] if entry else None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        fields = [
            field for tensor in _tensors(args) if (field := self.field_of(tensor)) is not None
        ]
        if fields:
            for index, output in enumerate(_tensors([outputs])):
                field = _propagate(func, args, fields, output) if index == 0 else WHOLE
                self._fields[id(output)] = (output, field)
                if is_mutable(func):
                    self._writes[storage_key(output)] = (output, field)
        return outputs


def _are_one(one: Tensor, other: Tensor) -> bool:
    """Tell whether tensors of one storage hold the same elements at the same places."""
    places = [(t.shape, t.stride(), t.storage_offset()) for t in (one, other)]
    return places[0] == places[1]


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _propagate(
    func: Any, args: Sequence[Any], fields: list[_Field | _Whole], output: Tensor
) -> _Field | _Whole:
    known = [field for field in fields if isinstance(field, _Field)]
    if len(known) < len(fields):
        return WHOLE
    operator = func.overloadpacket
    if operator in _WINDOWS:
        return _WINDOWS[operator](args, known, output)
    if not _keeps_cells(func, args):
        return WHOLE
    united = known[0]
    for field in known[1:]:
        if field.size != united.size:
            return WHOLE
        united = united | field
    return united if tuple(output.shape[2:]) == united.size else WHOLE


def _keeps_cells(func: Any, args: Sequence[Any]) -> bool:
    """Tell whether each output cell depends on the input cells at its own place only."""
    operator = func.overloadpacket
    if operator is aten.native_batch_norm:
        return not args[5]  # in training the statistics are those of the whole batch
    if operator is aten.cat:
        return len(args) > 1 and args[1] in {1, -3}
    return torch.Tag.pointwise in func.tags or operator in _CELLWISE


_CELLWISE: Final = {
    *(aten.clone, aten.detach, aten.alias, aten._to_copy, aten.contiguous),
    # Activations that torch does not say to be pointwise, some of them up to torch 2.10.
    *(aten.hardswish, aten.hardswish_, aten.hardsigmoid_, aten.hardtanh_, aten.mish_),
    *(aten.leaky_relu, aten.leaky_relu_, aten.elu_, aten.celu_, aten.threshold_),
    *(aten.log_sigmoid_forward, aten._prelu_kernel),
}


@dataclass(frozen=True)
class _Window:
    """A sliding window along one axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def slide(self, intervals: Intervals, cells: int) -> Intervals:
        """Find the intervals of as many output cells."""
        starts = np.arange(cells)[:, None] * self.stride - self.padding
        taps = starts + np.arange(self.kernel) * self.dilation  # (cells, kernel)
        inside = (taps >= 0) & (taps < len(intervals))  # padding depends on nothing
        clipped = taps.clip(0, len(intervals) - 1)
        return _hull(intervals[clipped, 0], np.where(inside, intervals[clipped, 1], 0))


def _slide(field: _Field, output: Tensor, *geometry: Sequence[int]) -> _Field:
    """Slide a window of this kernel, stride, padding and dilation, one or two numbers each."""
    vertical = _Window(*(values[0] for values in geometry))
    horizontal = _Window(*(values[-1] for values in geometry))
    height, width = output.shape[2:]
    rows = vertical.slide(field.rows, height)
    columns = horizontal.slide(field.columns, width)
    is_blind = any((intervals[:, 0] >= intervals[:, 1]).all() for intervals in (rows, columns))
    return _Field(0 * rows, 0 * columns) if is_blind else _Field(rows, columns)


def _convolution(args: Sequence[Any], fields: list[_Field], output: Tensor) -> _Field | _Whole:
    _, weight, _, stride, padding, dilation, transposed, *_ = args
    if transposed or weight.dim() != 4 or len(fields) != 1:
        return WHOLE
    return _slide(fields[0], output, weight.shape[2:], stride, padding, dilation)


def _max_pooling(args: Sequence[Any], fields: list[_Field], output: Tensor) -> _Field:
    _, kernel, stride, padding, dilation = [*args, *_POOLING_DEFAULTS[len(args) - 2 :]][:5]
    return _slide(fields[0], output, kernel, stride or kernel, padding, dilation)


def _average_pooling(args: Sequence[Any], fields: list[_Field], output: Tensor) -> _Field:
    _, kernel, stride, padding = [*args, *_POOLING_DEFAULTS[len(args) - 2 :]][:4]
    return _slide(fields[0], output, kernel, stride or kernel, padding, [1])


def _constant_padding(args: Sequence[Any], fields: list[_Field], output: Tensor) -> _Field:
    """Follow a border of constants, or a cropped one: a window of one cell that starts before."""
    border: list[int] = args[1]  # left, right, top, bottom, as far as given
    left, _, top, *_ = [*border, 0, 0, 0]
    return _slide(fields[0], output, [1], [1], [top, left], [1])


_POOLING_DEFAULTS: Final[tuple[list[int], ...]] = ([], [0], [1])
"""Calls that leave them out mean this stride (none: the kernel), padding and dilation."""

_WINDOWS: Final[dict[Any, Callable[[Sequence[Any], list[_Field], Tensor], _Field | _Whole]]] = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _max_pooling,
    aten.avg_pool2d: _average_pooling,
    aten.constant_pad_nd: _constant_padding,
}
