"""Convolutions that train as matrix products: the same numbers, and only where they are quick."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from sklearn_protopnet import ProtoPNetClassifier, build_backbone
from sklearn_protopnet._network import FewCellProducts


class Convolutions(TorchFunctionMode):
    """Counts them."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.conv2d
        return func(*args, **(kwargs or {}))


def count_convolutions(module, maps):
    with Convolutions() as convolutions, FewCellProducts():
        module(maps)
    return convolutions.count


def outcome(module, maps, context=nullcontext):
    """What a convolution gives, and the gradients of what depends on all of it."""
    maps, module = maps.clone().requires_grad_(), copy.deepcopy(module)
    with context():
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
    convolution = nn.Conv2d(4, 6, kernel, **how).double()
    maps = torch.randn(3, 4, *size, dtype=torch.float64)
    assert count_convolutions(convolution, maps) == 0
    pairs = zip(
        outcome(convolution, maps, FewCellProducts), outcome(convolution, maps), strict=True
    )
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_rounding_in_bfloat16_is_that_of_a_convolution():
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    maps = torch.randn(16, 64, 2, 2)
    exact = outcome(convolution.double(), maps.double())
    convolution.float()
    errors = []
    for context in (FewCellProducts, nullcontext):
        with torch.autocast("cpu", torch.bfloat16):
            found = outcome(convolution, maps, context)
        errors.append(
            [(a.double() - b).norm() / b.norm() for a, b in zip(found, exact, strict=True)]
        )
    assert errors[0][0] < 4e-3  # half of bfloat16's last place
    assert all(ours <= 2 * usual for ours, usual in zip(*errors, strict=True))


def test_maps_of_more_cells_are_convolutions():
    convolution = nn.Conv2d(2, 2, 3, padding=1)
    assert count_convolutions(convolution, torch.randn(2, 2, 3, 3)) == 0
    assert count_convolutions(convolution, torch.randn(2, 2, 2, 5)) == 1


def test_a_map_that_is_too_small_is_refused_as_ever():
    with FewCellProducts(), pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        nn.Conv2d(2, 2, 5)(torch.randn(2, 2, 3, 3))


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ({"kernel_size": 1}, (2, 2, 2, 2)),
        ({"kernel_size": 3, "groups": 2, "padding": 1}, (2, 2, 2, 2)),
        ({"kernel_size": 2, "dilation": 2, "padding": 1}, (2, 2, 2, 2)),
        ({"kernel_size": 3, "padding": "same"}, (2, 2, 2, 2)),
        ({"kernel_size": 3, "padding": 1}, (2, 2, 2)),  # one image, not a batch
    ],
)
def test_others_stay_convolutions(how, shape):
    assert count_convolutions(nn.Conv2d(2, 2, **how), torch.randn(shape)) == 1


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_of_pixels_are_products_too(mode):
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode).double()
    maps = torch.randn(2, 2, 2, 2, dtype=torch.float64)
    assert count_convolutions(convolution, maps) == 0
    with FewCellProducts():
        found = convolution(maps)
    torch.testing.assert_close(found, convolution(maps), rtol=1e-12, atol=1e-12)


def test_numbers_that_stand_for_pairs():
    maps, weight = torch.randn(2, 2, 4, 4), torch.randn(3, 2, 3, 3)
    for how in (
        {},
        {"stride": 2, "padding": 1},
        {"stride": [2], "padding": [1]},
        {"stride": np.int64(2), "padding": torch.tensor(1)},
    ):
        with Convolutions() as convolutions, FewCellProducts():
            found = nn.functional.conv2d(maps, weight, **how)
        assert convolutions.count == 0
        torch.testing.assert_close(found, nn.functional.conv2d(maps, weight, **how))


@pytest.mark.parametrize(
    "given",
    [
        {"padding": -1},
        {"stride": 0},
        {"stride": (1, 1, 1)},
        {"bias": torch.zeros(1)},
        {"weight": torch.zeros(3, 5, 3, 3)},
        {"weight": torch.zeros(3, 2, 3)},
    ],
    ids=str,
)
def test_what_torch_refuses_is_refused_in_its_words(given):
    maps, arguments = torch.zeros(2, 2, 4, 4), {"weight": torch.zeros(3, 2, 3, 3), **given}
    with pytest.raises(RuntimeError) as usual:
        nn.functional.conv2d(maps, **arguments)
    with FewCellProducts(), pytest.raises(RuntimeError) as found:
        nn.functional.conv2d(maps, **arguments)
    assert str(found.value) == str(usual.value)


class Again(nn.Module):
    """A backbone that computes its maps a second time in the backward pass."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())

    def forward(self, images):
        return checkpoint(self.layers, images, use_reentrant=False)


class Kinds(nn.Module):
    """Notes which kinds of operations follow its convolution, in training and outside of it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.products = {True: set(), False: set()}

    def forward(self, images):
        maps = self.convolution(images)
        with torch.enable_grad():
            is_product = "Permute" in type(self.convolution(images).grad_fn).__name__
        self.products[self.training].add(is_product)
        return maps


@pytest.mark.parametrize("backbone", [Again(), Kinds()])
def test_steps_of_any_backbone_have_products(backbone):
    X = np.random.default_rng(0).random((8, 3, 3))
    clf = ProtoPNetClassifier(
        backbone=backbone,
        n_prototypes_per_class=1,
        pretraining_epochs=1,
        joint_epochs=1,
        random_state=0,
    ).fit(X, np.arange(8) % 2)
    clf.predict(X)
    if isinstance(backbone, Again):
        once = clone(clf).set_params(backbone=backbone.layers).fit(X, np.arange(8) % 2)
        assert_allclose(clf.loss_curve_, once.loss_curve_, rtol=1e-4)
    if isinstance(backbone, Kinds):
        assert True in clf.backbone_.products[True]
        assert clf.backbone_.products[False] == {False}


def test_a_network_that_has_a_name_is_as_torch_has_it():
    backbone = build_backbone("resnet18").eval()
    kinds = {type(each) for each in backbone.modules()}
    usual = {type(each) for each in resnet18().modules()}
    assert kinds <= usual | {nn.Sequential}
    features = create_feature_extractor(backbone, ["5"])(torch.zeros(1, 3, 32, 32))
    assert features["5"].shape == (1, 128, 4, 4)
