"""Backbones: what turns an image into a feature map.

To add one, register its record; nothing else names it.

Shapes: N images of H x W pixels and C channels, F channels of a feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torchvision import models

from sklearn_protopnet._network._efficientnet_lite import (
    PIXEL_MEAN,
    PIXEL_SCALE,
    efficientnet_lite0,
    imagenet_state,
    with_own_names,
)
from sklearn_protopnet._network._runtime import copied
from sklearn_protopnet._network._weights import (
    IMAGENET,
    Backbone,
    load_module_weights,
    load_weights,
    torchvision_standardization,
    torchvision_state,
    with_new_names,
)

SMALLEST_MAP: Final = 7
"""The small backbone halves its map while at least 7 cells a side remain: the paper's 7 x 7."""

LAST_WIDTH: Final = 64
"""The small backbone's last convolution has so many channels; half as many one scale before, 16 at
least."""

PROBE_SIZE: Final = 256
"""Strides are measured on an image of so many pixels a side, which all strides up to 64 divide."""


def build_backbone(
    backbone: str | nn.Module,
    *,
    channels: int = 3,
    image_size: tuple[int, int] = (224, 224),
    weights: str | None = None,
    feature_stride: int | None = None,
) -> nn.Module:
    """Build the network that a classifier's parameters name, to look at it or to change it.

    What it returns may be frozen in part, cut or wrapped, and given to `ProtoPNetClassifier`.

    Parameters
    ----------
    backbone : {"auto"}, name of a network or torch.nn.Module
        As the classifier's. A module is copied, to the CPU.
    channels : int, default=3
        Channels of the images. A network that has a name gets a first convolution for them.
    image_size : (int, int), default=(224, 224)
        Height and width of the images, to which ``"auto"`` is fitted.
    weights : {"imagenet"} or str, default=None
        As the classifier's: random weights with None, or those that the module has.
    feature_stride : int, default=None
        As the classifier's: pixels a side that a cell of the map stands for.

    Returns
    -------
    torch.nn.Module
        Maps images ``(n, channels, H, W)`` to feature maps ``(n, F, H', W')``. A network that
        has a name is a `torch.nn.Sequential`.

    Raises
    ------
    ImportError
        If the weights come from a package that is not installed.
    OSError
        If the weights must be fetched and cannot be, or there is no such file.
    TypeError
        If the module is one of TorchScript.
    ValueError
        If there is no such network or no map of that stride, the weights do not fit, or the
        module cannot be copied.

    See Also
    --------
    ProtoPNetClassifier : Builds its backbone by itself.

    Examples
    --------
    >>> import torch
    >>> from sklearn_protopnet import build_backbone
    >>> backbone = build_backbone("resnet18", channels=1, feature_stride=16)
    >>> backbone(torch.zeros(2, 1, 224, 224)).shape
    torch.Size([2, 256, 14, 14])
    """
    if isinstance(backbone, nn.Module):
        _check_module(backbone)
        built = copied(backbone).cpu()
        if weights is not None:
            load_module_weights(built, weights)
        if feature_stride is not None:
            raise ValueError(
                "feature_stride needs a backbone that has a name, got the module "
                f"{type(built).__name__}: cut it yourself."
            )
        return built
    if backbone not in BACKBONES:
        raise ValueError(
            f"backbone must be a module or one of {list(BACKBONES)}, got {backbone!r}."
        )
    record = BACKBONES[backbone]
    network = record.build(channels, image_size)
    if weights is not None:
        load_weights(network, record, weights)
    built = record.features(network)
    if record.channels is not None and channels != record.channels:
        _adapt_channels(built, channels, weights)
    return built if feature_stride is None else _cut(built, channels, feature_stride)


def _check_module(backbone: nn.Module) -> None:
    if any(isinstance(module, torch.jit.ScriptModule) for module in backbone.modules()):
        raise TypeError(
            "backbone must be a torch.nn.Module as Python defines it, got a TorchScript module, "
            "which torch has deprecated: give the module that it was made from."
        )
    if any(tensor.is_meta for tensor in (*backbone.parameters(), *backbone.buffers())):
        raise ValueError(
            "backbone must have numbers for parameters, got some on the device 'meta', which has "
            "none: build it on another one."
        )


def published_standardization(
    backbone: str | nn.Module, weights: str | None, channels: int
) -> tuple[list[float], list[float]] | None:
    """Give the mean and the scale of each channel, of 0 to 255, that published weights expect.

    On photographs of solar cells a linear probe of EfficientNet-Lite0 had a test AUC of 0.906
    with these and 0.897 with the mean and scale of the training images (mean of five splits).

    Returns
    -------
    mean, scale : list of float, of length C
        Or None, where weights are not the published ones.
    """
    if weights != IMAGENET or isinstance(backbone, nn.Module):
        return None
    standardization = BACKBONES[backbone].standardization
    if standardization is None:
        return None
    mean, scale = standardization()
    return (mean, scale) if channels == 3 else ([sum(mean) / 3], [sum(scale) / 3])


def small_backbone(channels: int, image_size: tuple[int, int]) -> nn.Sequential:
    """Build a small network fit for the image size, in which a cell depends on a *part*.

    Two 3x3 convolutions and a pooling for every halving: a cell depends on 5 of 8 pixels a side,
    16 of 28, 36 of 64, 76 of 128. With fewer than 4 pixels a side it convolves 1x1: on one pixel.
    The last pooling is by average, which overfits less: 4,000 Fashion-MNIST images gave a test
    accuracy of 0.846 with it and 0.837 with a maximum (one seed, 10 epochs, no pretraining).
    """
    side = min(image_size)
    kernel = 3 if side >= 4 else 1
    n_halvings = 0
    while side >> (n_halvings + 1) >= SMALLEST_MAP:
        n_halvings += 1
    n_scales = max(1, n_halvings)
    layers: list[nn.Module] = []
    for scale in range(n_scales):
        width = max(16, LAST_WIDTH >> (n_scales - 1 - scale))
        layers += [*_block(channels, width, kernel), *_block(width, width, kernel)]
        is_last = scale == n_scales - 1
        layers += [nn.AvgPool2d(2) if is_last else nn.MaxPool2d(2)] if n_halvings else []
        channels = width
    return nn.Sequential(*layers)


def _block(channels_in: int, channels_out: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def _torchvision(family: Callable[[Any], nn.Sequential], names: Iterable[str]) -> list[Backbone]:
    """Make records of torchvision's networks; a family says which layers give the feature map."""
    return [
        Backbone(
            name=name,
            build=partial(_torchvision_model, name),
            features=family,
            weights=partial(torchvision_state, name),
            standardization=partial(torchvision_standardization, name),
            own_names=with_new_names,
        )
        for name in names
    ]


def _torchvision_model(name: str, *_: Any) -> nn.Module:
    model: nn.Module = models.get_model(name, weights=None)
    return model


def _resnet_features(model: Any) -> nn.Sequential:
    layers = [layer for key, layer in model.named_children() if key not in {"avgpool", "fc"}]
    return nn.Sequential(*layers)


def _densenet_features(model: Any) -> nn.Sequential:
    return nn.Sequential(*model.features.children(), nn.ReLU(inplace=True))


def _vgg_features(model: Any) -> nn.Sequential:
    features: nn.Sequential = model.features
    return features


BACKBONES: Final[dict[str, Backbone]] = {
    each.name: each
    for each in (
        Backbone(
            name="auto",
            build=small_backbone,
            channels=None,
            is_small=True,
        ),
        Backbone(
            name="efficientnet_lite0",
            build=lambda *_: efficientnet_lite0(),
            weights=imagenet_state,
            standardization=lambda: ([PIXEL_MEAN] * 3, [PIXEL_SCALE] * 3),
            own_names=with_own_names,
        ),
        *_torchvision(
            _vgg_features,
            [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")],
        ),
        *_torchvision(_resnet_features, [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]),
        *_torchvision(_densenet_features, [f"densenet{depth}" for depth in (121, 161, 169, 201)]),
    )
}
"""The registry holds every backbone by its name: ours, and the paper's families."""


def _adapt_channels(backbone: nn.Module, channels: int, weights: str | None) -> None:
    """Give a network for colour images a first convolution for this many channels.

    A grey image through the sums of the weights is the image in all three colours through the
    weights themselves.
    """
    name, found = next(
        (name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)
    )
    if weights is not None and channels != 1:
        raise ValueError(
            f"weights={weights!r} are for images of 3 channels, or of 1, got {channels}."
        )
    adapted = type(found)(
        channels,
        found.out_channels,
        kernel_size=found.kernel_size,  # type: ignore[arg-type]
        stride=found.stride,  # type: ignore[arg-type]
        padding=found.padding,  # type: ignore[arg-type]
        bias=found.bias is not None,
    )
    if weights is not None:
        state = found.state_dict()
        adapted.load_state_dict({**state, "weight": state["weight"].sum(1, keepdim=True)})
    backbone.set_submodule(name, adapted)


def _cut(backbone: nn.Module, channels: int, feature_stride: int) -> nn.Sequential:
    """End a network after its last layer of a stride."""
    layers = list(backbone.children())
    strides = _strides(layers, channels)
    if feature_stride not in strides:
        found = ", ".join(map(str, sorted(set(strides))))
        raise ValueError(
            f"feature_stride must be a stride of the backbone, {found}, got {feature_stride}."
        )
    last = len(strides) - strides[::-1].index(feature_stride)
    return nn.Sequential(*layers[:last]).train()


@torch.no_grad()
def _strides(layers: list[nn.Module], channels: int) -> list[int]:
    """Measure the stride after each layer."""
    values, strides = torch.zeros(1, channels, PROBE_SIZE, PROBE_SIZE), []
    for layer in layers:
        values = layer.eval()(values)
        strides.append(PROBE_SIZE // values.shape[2])
    return strides
