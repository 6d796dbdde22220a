"""The receptive field against an oracle that never looks at operators: NaN goes in, where does
it come out?
"""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from sklearn_protopnet import build_backbone
from sklearn_protopnet._network import ReceptiveField
from sklearn_protopnet._network._receptive_field import trace_receptive_field


def hull(reached):
    """Half-open interval around the inputs that reach a cell; (0, 0) where none does."""
    inputs = np.flatnonzero(reached)
    return (int(inputs[0]), int(inputs[-1]) + 1) if len(inputs) else (0, 0)


def poisoned(backbone, images):
    """Tell which cells are NaN, (N, H, W); image by image, in float64.

    oneDNN has no float64, so convolutions are plain sums of products in which NaN stays where
    it belongs.
    """
    with torch.no_grad():
        features = torch.cat([backbone(image[None]) for image in images])
    return features.isnan().any(1).numpy()


def oracle(backbone, channels, image_size):
    """Intervals (H, 2) and (W, 2), by NaN in one row or one column of the input at a time."""
    backbone = copy.deepcopy(backbone).double().eval()
    height, width = image_size
    image = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))
    by_row = image.double().repeat(height, 1, 1, 1)
    by_column = image.double().repeat(width, 1, 1, 1)
    by_row[range(height), :, range(height)] = torch.nan
    by_column[range(width), :, :, range(width)] = torch.nan
    rows = poisoned(backbone, by_row).any(2)  # (input rows, H)
    columns = poisoned(backbone, by_column).any(1)  # (input columns, W)
    return [hull(cell) for cell in rows.T], [hull(cell) for cell in columns.T]


def traced(backbone, channels, image_size):
    field = trace_receptive_field(copy.deepcopy(backbone).eval(), channels, image_size)
    return [
        [(low, high) if high > low else (0, 0) for low, high in intervals.tolist()]
        for intervals in (field.rows, field.columns)
    ]


def assert_exact(backbone, channels, image_size):
    assert traced(backbone, channels, image_size) == list(oracle(backbone, channels, image_size))


def assert_sufficient(backbone, channels, image_size):
    """No box is smaller than what the cell depends on."""
    pairs = zip(
        traced(backbone, channels, image_size),
        oracle(backbone, channels, image_size),
        strict=True,
    )
    for found, needed in pairs:
        assert len(found) == len(needed)
        for (low, high), (first, last) in zip(found, needed, strict=True):
            assert first == last or (low <= first and last <= high)


def assert_whole(backbone, channels, image_size):
    rows, columns = traced(backbone, channels, image_size)
    assert set(rows) == {(0, image_size[0])}
    assert set(columns) == {(0, image_size[1])}


def thin(backbone):
    """Copy a network of blocks with one channel everywhere: the same reach, far cheaper."""
    backbone = copy.deepcopy(backbone)
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                geometry = child.kernel_size, child.stride, child.padding, child.dilation
                setattr(module, name, type(child)(1, 1, *geometry))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(1))
    return backbone


class Residual(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, images):
        return images + self.branch(images)


class Beside(nn.Module):
    """Concatenates branches along the channels."""

    def __init__(self, *branches, dim=1):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.dim = dim

    def forward(self, images):
        return torch.cat([branch(images) for branch in self.branches], dim=self.dim)


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


class SqueezeAndExcite(nn.Module):
    def __init__(self, *, in_place):
        super().__init__()
        self.scale = nn.Conv2d(2, 2, 1)
        self.in_place = in_place

    def forward(self, images):
        scale = torch.sigmoid(self.scale(nn.functional.adaptive_avg_pool2d(images, 1)))
        return (images * 1).mul_(scale) if self.in_place else images * scale


def shifted_by_slices(images):
    """Shift the columns by writing into a slice."""
    shifted = torch.zeros(images.shape, dtype=images.dtype)
    shifted[..., 1:] = images[..., :-1]
    return images + shifted


def one_channel_meets_the_mean_in_place(images):
    mixed = images * 2
    mixed[:, :1] += images.mean((1, 2, 3), keepdim=True)
    return mixed


def alias_meets_the_mean_in_place(images):
    mixed = images * 2
    mixed.detach().add_(images.mean((1, 2, 3), keepdim=True))
    return mixed


class TestExactness:
    @pytest.mark.parametrize("image_size", [(1, 1), (3, 5), (8, 8), (8, 13), (28, 28), (33, 47)])
    def test_fields_are_exact_of_the_small_backbone(self, image_size):
        backbone = build_backbone("auto", channels=2, image_size=image_size)
        assert_exact(backbone, 2, image_size)

    @pytest.mark.parametrize(
        ("name", "image_size"),
        [("vgg11_bn", (48, 64)), ("resnet18", (64, 50))],
    )
    def test_fields_are_exact_of_torchvision_networks(self, name, image_size):
        backbone = build_backbone(name, channels=1, image_size=image_size)
        expected = oracle(thin(backbone), 1, image_size)
        assert traced(backbone, 1, image_size) == list(expected)

    @pytest.mark.parametrize(
        ("n_layers", "image_size"),
        [(1, (7, 8)), (3, (31, 34)), (6, (57, 44)), (9, (97, 61)), (12, (131, 45)), (18, (33, 66))],
    )
    def test_fields_are_exact_of_efficientnet_lite(self, n_layers, image_size):
        backbone = build_backbone("efficientnet_lite0", channels=1)[:n_layers]
        expected = oracle(thin(backbone), 1, image_size)
        assert traced(backbone, 1, image_size) == list(expected)

    def test_fields_are_exact_of_densenet(self):
        slim = models.DenseNet(
            growth_rate=2, block_config=(6, 12, 24, 16), num_init_features=4, bn_size=1
        )
        slim = nn.Sequential(*slim.features.children(), nn.ReLU())
        found = traced(build_backbone("densenet121"), 3, (48, 64))
        assert found == list(oracle(slim, 3, (48, 64)))

    @pytest.mark.parametrize(
        "backbone",
        [
            pytest.param(nn.Conv2d(2, 3, 3, dilation=2), id="dilation"),
            pytest.param(nn.Conv2d(2, 3, 3, dilation=(3, 1), padding=2), id="dilation and border"),
            pytest.param(nn.Conv2d(2, 3, 2, stride=3), id="stride 3"),
            pytest.param(nn.Conv2d(2, 3, 3, stride=3, padding=1), id="stride 3 with padding"),
            pytest.param(nn.Conv2d(2, 3, (1, 4), padding=(0, 2)), id="asymmetric kernel"),
            pytest.param(nn.Conv2d(2, 3, 3, padding="same"), id="same"),
            pytest.param(nn.Conv2d(2, 3, 3, padding="valid"), id="valid"),
            pytest.param(nn.Conv2d(2, 2, 3, groups=2), id="depthwise"),
            pytest.param(nn.MaxPool2d(3, 2, ceil_mode=True), id="ceil-mode pooling"),
            pytest.param(nn.MaxPool2d(2, dilation=2), id="dilated pooling"),
            pytest.param(nn.MaxPool2d((2, 3), (3, 1), (1, 0)), id="asymmetric pooling"),
            pytest.param(nn.AvgPool2d(3, 2, 1, ceil_mode=True), id="average pooling"),
            pytest.param(nn.AvgPool2d(2), id="average pooling by its kernel"),
            pytest.param(nn.AvgPool2d((1, 2), count_include_pad=False), id="asymmetric average"),
            pytest.param(nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2)), id="in place"),
            pytest.param(nn.BatchNorm2d(2), id="batch norm"),
            pytest.param(nn.Sequential(nn.Dropout(), nn.GELU(), nn.SiLU(), nn.ReLU6()), id="cells"),
            pytest.param(Residual(nn.Conv2d(2, 2, 5, padding=2)), id="residual"),
            pytest.param(Residual(nn.Conv2d(2, 2, (1, 3), padding=(0, 1))), id="flat residual"),
            pytest.param(
                Beside(nn.Identity(), nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(3, 1, 1)),
                id="cat",
            ),
            pytest.param(Beside(nn.Identity(), nn.Conv2d(2, 2, 3, padding=1), dim=-3), id="cat -3"),
            pytest.param(
                nn.Sequential(nn.Conv2d(2, 1, 1, padding=1), nn.Conv2d(1, 1, 3)),
                id="cells that see nothing",
            ),
            pytest.param(
                nn.Sequential(nn.Conv2d(2, 1, 2, padding=3), nn.MaxPool2d(2)),
                id="borders that see nothing",
            ),
            pytest.param(nn.ZeroPad2d((2, 1, 0, 3)), id="zero padding"),
            pytest.param(nn.ConstantPad2d((-2, 1, -3, -1), 7.0), id="padding that crops"),
            pytest.param(nn.ZeroPad2d((-14, 3, 0, 2)), id="padding that leaves no pixel"),
            pytest.param(Of(lambda x: nn.functional.pad(x, (1, 2))), id="padding of columns"),
            pytest.param(Of(lambda x: nn.functional.pad(x, ())), id="padding of nothing"),
            pytest.param(
                Of(lambda x: nn.functional.pad(x, (0, 1, 2, 0, 3, 0))), id="padding of channels"
            ),
            pytest.param(
                nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 2, 3, 2)),
                id="asymmetric padding",
            ),
            pytest.param(Residual(nn.ZeroPad2d((1, -1, -2, 2))), id="shifted residual"),
        ],
    )
    def test_fields_are_exact_of_single_operators(self, backbone):
        assert_exact(backbone, 2, (11, 14))

    @pytest.mark.parametrize(
        "activation",
        [
            *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh),
            *(nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6),
            *(nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh),
            *(nn.Tanhshrink, partial(nn.Threshold, 0.0, 0.0)),
        ],
    )
    def test_fields_are_exact_of_activations(self, activation):
        assert_exact(nn.Sequential(activation(), nn.Conv2d(2, 2, 3)), 2, (6, 8))
        try:
            in_place = activation(inplace=True)
        except TypeError:  # there is no such variant
            return
        assert_exact(nn.Sequential(in_place, nn.Conv2d(2, 2, 3)), 2, (6, 8))

    @given(data=st.data(), image_size=st.tuples(st.integers(4, 14), st.integers(4, 14)))
    @settings(max_examples=80)
    def test_fields_are_exact_of_random_stacks(self, data, image_size):
        pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
        layers = []
        for _ in range(data.draw(st.integers(1, 4))):
            kinds = ["convolution", "max", "average", "residual", "border"]
            kind = data.draw(st.sampled_from(kinds))
            kernel, stride = data.draw(pair(1, 4)), data.draw(pair(1, 3))
            if kind == "border":
                sides = (data.draw(st.integers(-2, 3)) for _ in range(4))
                layers.append(nn.ZeroPad2d(tuple(sides)))
            elif kind == "residual":
                layers.append(Residual(nn.Conv2d(1, 1, kernel, padding="same")))
                assume(all(size % 2 for size in kernel))
            elif kind == "convolution":
                padding, dilation = data.draw(pair(0, 2)), data.draw(pair(1, 2))
                layers.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
            else:
                padding = tuple(data.draw(st.integers(0, size // 2)) for size in kernel)
                pooling = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
                ceil_mode = data.draw(st.booleans())
                layers.append(pooling(kernel, stride, padding, ceil_mode=ceil_mode))
        stack = nn.Sequential(*layers)
        try:
            assume(stack(torch.zeros(1, 1, *image_size)).numel() > 0)  # not all is cropped
        except RuntimeError:  # the map became too small for the next layer
            assume(False)
        assert_exact(stack, 1, image_size)


class TestSufficiency:
    @pytest.mark.parametrize(
        "backbone",
        [
            pytest.param(SqueezeAndExcite(in_place=False), id="squeeze and excite"),
            pytest.param(SqueezeAndExcite(in_place=True), id="squeeze and excite in place"),
            pytest.param(nn.InstanceNorm2d(2), id="instance norm"),
            pytest.param(nn.GroupNorm(1, 2), id="group norm"),
            pytest.param(nn.BatchNorm2d(2, track_running_stats=False), id="batch statistics"),
            pytest.param(Of(lambda x: x - x.mean((2, 3), keepdim=True)), id="mean broadcast"),
            pytest.param(Of(lambda x: x - x.mean(3, keepdim=True).mean(2, True)), id="two means"),
            pytest.param(Of(lambda x: x + x.flatten(2).sum(2)[..., None, None]), id="sum"),
            pytest.param(Of(lambda x: x - nn.functional.avg_pool2d(x, (6, 7))), id="pooled mean"),
            pytest.param(Of(lambda x: x * torch.softmax(x.flatten(2), 2).view_as(x)), id="softmax"),
            pytest.param(Of(lambda x: x + x.flip(2).flip(3).cumsum(2).cumsum(3)), id="cumsum"),
            pytest.param(
                Of(lambda x: torch.layer_norm(x.permute(0, 2, 3, 1), (2,)).permute(0, 3, 1, 2)),
                id="permute and layer norm",
            ),
            pytest.param(
                Of(lambda x: nn.functional.interpolate(x.mean((2, 3), keepdim=True), (6, 7))),
                id="interpolated mean",
            ),
        ],
    )
    def test_operators_of_unknown_reach_see_the_whole_image(self, backbone):
        assert_whole(backbone, 2, (6, 7))
        assert_sufficient(backbone, 2, (6, 7))

    @pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
    @pytest.mark.parametrize("wrap", [nn.Sequential, Residual])
    def test_fields_are_sufficient_of_paddings_that_copy_pixels(self, mode, wrap):
        assert_sufficient(wrap(nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode)), 2, (6, 7))

    @pytest.mark.parametrize(
        "function",
        [shifted_by_slices, one_channel_meets_the_mean_in_place, alias_meets_the_mean_in_place],
    )
    def test_fields_are_sufficient_of_writes_into_a_part_of_a_tensor(self, function):
        assert_sufficient(Of(function), 2, (6, 7))

    @pytest.mark.parametrize(
        "backbone",
        [
            nn.ConvTranspose2d(2, 2, 3, 2),
            nn.Upsample(scale_factor=2),
            nn.PixelUnshuffle(2),
            nn.AdaptiveAvgPool2d(3),
            nn.AdaptiveMaxPool2d(4),
            nn.LocalResponseNorm(2),
            Of(lambda x: x.transpose(2, 3)),
            Of(lambda x: x.roll(2, 3)),
            Of(lambda x: x + x.flip(2)),
            Of(lambda x: x + x[:, :, :1, :]),
            Of(lambda x: x + x[:, :, [5, 4, 3, 2, 1, 0]]),
            Of(lambda x: torch.cat([x[:, :, 3:], x[:, :, :3]], dim=2)),
            Of(lambda x: torch.cat(x.split(3, 2)[::-1], dim=2)),
            Of(lambda x: torch.where(x > x.amax((2, 3), keepdim=True) / 2, x, x - x)),
            Of(lambda x: torch.stack([x, x.flip(3)]).sum(0)),
        ],
    )
    def test_fields_are_sufficient_of_other_operators(self, backbone):
        assert_sufficient(backbone, 2, (6, 8))

    def test_a_map_that_depends_on_no_pixel_gets_the_whole_image(self):
        assert_whole(Of(lambda x: torch.ones(len(x), 2, 3, 3)), 2, (6, 7))


class TestBoxes:
    FIELD = ReceptiveField(
        rows=np.array([[0, 3], [1, 5], [3, 6]]),
        columns=np.array([[0, 2], [1, 4], [3, 7], [6, 8]]),
        depth=1,
    )

    def test_the_map_has_a_cell_for_every_pair_of_intervals(self):
        assert self.FIELD.map_size == (3, 4)

    def test_boxes_of_single_cells_are_their_fields(self):
        boxes = self.FIELD.boxes(np.arange(12), (1, 1))
        expected = [
            [*row, *column]
            for row in self.FIELD.rows.tolist()
            for column in self.FIELD.columns.tolist()
        ]
        assert boxes.tolist() == expected

    @pytest.mark.parametrize(
        ("patch_size", "position", "box"),
        [
            ((2, 2), 0, [0, 5, 0, 4]),
            ((2, 2), 2, [0, 5, 3, 8]),
            ((2, 2), 5, [1, 6, 3, 8]),
            ((1, 2), 4, [1, 5, 1, 7]),
            ((1, 2), 8, [3, 6, 3, 8]),
            ((2, 1), 7, [1, 6, 6, 8]),
            ((3, 4), 0, [0, 6, 0, 8]),
        ],
    )
    def test_boxes_of_larger_patches_hold_the_fields_of_their_cells(
        self, patch_size, position, box
    ):
        assert self.FIELD.boxes(np.array(position), patch_size).tolist() == box

    def test_boxes_have_the_shape_of_the_positions(self):
        assert self.FIELD.boxes(np.zeros((5, 2), dtype=np.int64), (2, 2)).shape == (5, 2, 4)

    @pytest.mark.parametrize("patch_size", [(1, 1), (2, 2), (1, 2), (3, 2)])
    def test_patches_change_only_with_pixels_in_their_box(self, patch_size):
        backbone = build_backbone("auto", channels=1, image_size=(15, 18)).eval()
        field = trace_receptive_field(backbone, 1, (15, 18))
        backbone = backbone.double()
        image = torch.rand(1, 1, 15, 18, dtype=torch.float64)
        unfold = nn.Unfold(patch_size)
        n_patches = unfold(backbone(image)).shape[2]
        boxes = field.boxes(np.arange(n_patches), patch_size)
        for position, (y0, y1, x0, x1) in enumerate(boxes.tolist()):
            outside = torch.full_like(image, torch.nan)
            outside[..., y0:y1, x0:x1] = image[..., y0:y1, x0:x1]
            with torch.no_grad():
                same = unfold(backbone(image))[0, :, position]
                found = unfold(backbone(outside))[0, :, position]
            torch.testing.assert_close(found, same, rtol=1e-12, atol=1e-12)
