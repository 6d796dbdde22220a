"""Convolutions that train as matrix products: the same numbers, and only where they are quick."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models import resnet18

from sklearn_protopnet import ProtoPNetClassifier, build_backbone
from sklearn_protopnet._network._efficientnet_lite import SameConv2d
from sklearn_protopnet._network._few_cells import FewCellsConv2d


class Convolutions(TorchFunctionMode):
    """Counts them."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.conv2d
        return func(*args, **(kwargs or {}))


def count_convolutions(module, maps):
    with Convolutions() as convolutions:
        module(maps)
    return convolutions.count


def quick(module):
    copied = copy.deepcopy(module)
    FewCellsConv2d.take_over(copied)
    assert type(copied) is FewCellsConv2d
    return copied


def outcome(module, maps):
    """What a convolution gives, and the gradients of what depends on all of it."""
    maps = maps.clone().requires_grad_()
    found = module(maps)
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).reshape(found.shape)
    (found.double() * weights).sum().backward()
    return [found, maps.grad, *(each.grad for each in module.parameters())]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 5), (4, 2)])
@pytest.mark.parametrize(
    ("kernel", "how"),
    [
        (3, {"padding": 1}),
        (3, {"padding": 1, "stride": 2}),
        ((1, 3), {"padding": (0, 1), "bias": False}),
        (5, {"padding": 2, "stride": (2, 1)}),
    ],
)
def test_a_product_is_the_convolution(kernel, how, size):
    torch.manual_seed(0)
    usual = nn.Conv2d(4, 6, kernel, **how).double()
    maps = torch.randn(3, 4, *size, dtype=torch.float64)
    assert count_convolutions(quick(usual), maps) == 0
    for found, wanted in zip(outcome(quick(usual), maps), outcome(usual, maps), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_rounding_in_bfloat16_is_that_of_a_convolution():
    torch.manual_seed(0)
    usual = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    maps = torch.randn(16, 64, 2, 2)
    exact = outcome(copy.deepcopy(usual).double(), maps.double())
    errors = []
    for module in (quick(usual), usual):
        with torch.autocast("cpu", torch.bfloat16):
            found = outcome(module, maps)
        errors.append(
            [(a.double() - b).norm() / b.norm() for a, b in zip(found, exact, strict=True)]
        )
    assert errors[0][0] < 4e-3  # half of bfloat16's last place
    assert all(ours <= 2 * usual for ours, usual in zip(*errors, strict=True))


def test_only_small_maps_in_training_are_products():
    convolution = quick(nn.Conv2d(2, 2, 3, padding=1))
    assert count_convolutions(convolution, torch.randn(2, 2, 3, 3)) == 0
    assert count_convolutions(convolution, torch.randn(2, 2, 2, 5)) == 1
    assert count_convolutions(convolution.eval(), torch.randn(2, 2, 3, 3)) == 1


def test_a_map_that_is_too_small_is_refused_as_ever():
    convolution = quick(nn.Conv2d(2, 2, 5))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        convolution(torch.randn(2, 2, 3, 3))


@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ],
)
def test_others_stay_as_they_are(how):
    convolution = nn.Conv2d(2, 2, **how)
    FewCellsConv2d.take_over(convolution)
    assert type(convolution) is nn.Conv2d


def test_networks_that_have_a_name_have_them():
    backbone = build_backbone("resnet18")
    kinds = [type(each) for each in backbone.modules() if isinstance(each, nn.Conv2d)]
    assert kinds.count(FewCellsConv2d) == 17  # all but the three of 1 x 1 beside a stride
    shapes = [each.shape for each in backbone.state_dict().values()]
    assert shapes == [each.shape for each in resnet18().state_dict().values()][: len(shapes)]
    assert repr(pickle.loads(pickle.dumps(backbone))) == repr(backbone)
    kinds = [type(each) for each in build_backbone("efficientnet_lite0").modules()]
    assert kinds.count(SameConv2d) == 5


def test_a_module_of_the_users_is_left_alone():
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    X = np.random.default_rng(0).random((8, 3, 3))
    clf = ProtoPNetClassifier(backbone=backbone, n_prototypes_per_class=1, joint_epochs=1)
    assert type(clf.fit(X, np.arange(8) % 2).backbone_[0]) is nn.Conv2d
