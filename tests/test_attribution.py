"""Attribution and what boxes do, on networks whose answer is known."""

from itertools import product
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_protopnet import build_backbone
from sklearn_protopnet._network import SIMILARITIES, PrototypeNetwork
from sklearn_protopnet._network._receptive_field import trace_receptive_field
from sklearn_protopnet.inspection._attribution import (
    Queries,
    blurred,
    integrated_gradients,
    patch_similarities,
    windows_of,
)
from sklearn_protopnet.inspection._box_effects import attack_effects, box_effects
from sklearn_protopnet.inspection._localizers import LOCALIZERS
from sklearn_protopnet.inspection._relevance import Propagation

METHODS = {name: localizer.attribute for name, localizer in LOCALIZERS.items()}
RELEVANCE = ["integrated_gradients", "occlusion", "prp"]


def network_of(backbone, size, *, prototype_size=(1, 1), similarity="log", depth=6):
    """A network with random prototypes, and its receptive field for colour images."""
    torch.manual_seed(0)
    field = trace_receptive_field(backbone.eval(), 3, size)
    network = PrototypeNetwork(
        backbone,
        field.depth,
        torch.tensor([0, 0, 1]),
        n_classes=2,
        prototype_depth=depth,
        prototype_size=prototype_size,
        similarity=SIMILARITIES[similarity],
    )
    return network.eval(), field


@torch.no_grad()
def without_biases(network):
    """What only a bias has activated is no pixel's relevance: without, none is lost."""
    for module in network.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()
    return network


def queries_at(field, positions, prototype_size=(1, 1)):
    positions = torch.tensor(positions)
    boxes = torch.from_numpy(field.boxes(positions.numpy(), prototype_size))
    return Queries(torch.arange(len(positions)), positions, boxes)


def named(name, size, stride=None):
    torch.manual_seed(0)
    return build_backbone(name, image_size=size, feature_stride=stride)


def image_of(size, seed=0):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def weighted_sum(size):
    """Its only patch is the sum of all pixels, weighted by their number; prototypes are 0."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            numbers = torch.arange(float(np.prod(size))).reshape(1, 1, *size)
            self.weights = nn.Parameter(numbers / numbers.sum())

        def forward(self, images):
            return (images.sum(1, keepdim=True) * self.weights).sum((2, 3), keepdim=True)

    network = PrototypeNetwork(
        Sum(),
        1,
        torch.tensor([0, 1]),
        n_classes=2,
        prototype_depth=1,
        prototype_size=(1, 1),
        similarity=SIMILARITIES["linear"],
    )
    network.add_on = nn.Identity()
    with torch.no_grad():
        network.prototypes.zero_()
    return network.eval()


def queries_of(n, box):
    return Queries(torch.zeros(n, dtype=int), torch.zeros(n, dtype=int), torch.tensor([box] * n))


@pytest.mark.parametrize("method", RELEVANCE)
@pytest.mark.parametrize(
    ("backbone", "stride", "prototype_size"),
    [("auto", None, (2, 2)), ("resnet18", 4, (1, 1)), ("efficientnet_lite0", 4, (1, 3))],
)
def test_nothing_counts_that_the_patch_does_not_depend_on(backbone, stride, method, prototype_size):
    size = (32, 40)
    network, field = network_of(named(backbone, size, stride), size, prototype_size=prototype_size)
    queries = queries_at(field, [0, 7, 11], prototype_size)
    maps = METHODS[method](network, image_of(size), queries).maps
    outside = METHODS["receptive_field"](network, image_of(size), queries).maps == 0
    assert maps.shape == (3, *size)
    assert outside.any((1, 2)).all()
    assert (maps[outside] == 0).all()
    assert (maps.abs().sum((1, 2)) > 0).all()


def test_the_receptive_field_is_one_inside_of_its_box():
    network, field = network_of(named("auto", (32, 40)), (32, 40))
    queries = queries_at(field, [0, 7, 11])
    maps = METHODS["receptive_field"](network, image_of((32, 40)), queries).maps
    for each, (y0, y1, x0, x1) in zip(maps, queries.boxes.tolist(), strict=True):
        assert each[y0:y1, x0:x1].all()
        assert each.sum() == (y1 - y0) * (x1 - x0)


@pytest.mark.parametrize(
    ("method", "similarity"),
    [
        *product(sorted(METHODS), ["log"]),
        ("prp", "linear"),
        ("prp", "cosine"),
        ("integrated_gradients", "cosine"),
    ],
)
def test_queries_do_not_know_of_one_another(method, similarity):
    size = (32, 32)
    network, field = network_of(named("auto", size), size, similarity=similarity)
    image, queries = image_of(size), queries_at(field, [3, 9, 20])
    together = METHODS[method](network, image, queries).maps
    for q in range(3):
        one = Queries(
            queries.prototypes[q : q + 1], queries.positions[q : q + 1], queries.boxes[q : q + 1]
        )
        alone = METHODS[method](network, image, one).maps[0]
        assert torch.allclose(alone, together[q], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_network_and_the_image_stay_as_they_are(method):
    size = (16, 16)
    network, field = network_of(named("resnet18", size, 4), size)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = image_of(size)
    pixels = image.clone()
    METHODS[method](network, image, queries_at(field, [0, 3]))
    assert torch.equal(image, pixels)
    assert not image.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("method", ["integrated_gradients", "prp"])
class TestGradients:
    def test_they_are_there_where_torch_computes_none(self, method):
        size = (16, 16)
        network, field = network_of(named("auto", size), size)
        queries = queries_at(field, [0, 3])
        expected = METHODS[method](network, image_of(size), queries).maps
        with torch.no_grad():
            found = METHODS[method](network, image_of(size), queries).maps
        assert torch.equal(found, expected)

    @pytest.mark.parametrize("are_parameters_free", [True, False])
    def test_a_backbone_that_passes_none_on_is_refused(self, method, are_parameters_free):
        class Frozen(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Conv2d(3, 4, 3)

            def forward(self, images):
                with torch.no_grad():
                    return self.inner(images)

        network, field = network_of(Frozen(), (9, 9))
        network.add_on.requires_grad_(are_parameters_free)
        network.prototypes.requires_grad_(are_parameters_free)
        with pytest.raises(ValueError, match="must pass gradients on"):
            METHODS[method](network, image_of((9, 9)), queries_at(field, [0]))


class TestIntegratedGradients:
    def test_a_map_adds_up_to_what_the_similarity_gains_but_for_its_delta(self):
        size = (32, 32)
        network, field = network_of(named("auto", size), size)
        image, queries = image_of(size), queries_at(field, [3, 9, 20])
        found = METHODS["integrated_gradients"](network, image, queries)
        with torch.no_grad():
            ends = patch_similarities(network, torch.cat([blurred(image), image]), queries)
        gain = ends[1] - ends[0]
        assert torch.allclose(found.maps.double().sum((1, 2)) - found.deltas, gain, atol=1e-12)

    def test_the_delta_vanishes_with_more_steps(self):
        size = (32, 32)
        network, field = network_of(named("auto", size), size)
        queries = queries_at(field, [3, 9, 20])
        few, many = (
            integrated_gradients(network, image_of(size), queries, n_steps).deltas.abs().max()
            for n_steps in (4, 256)
        )
        assert many < 1e-5
        assert many < few / 20


class TestBlurred:
    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (8, 8), (33, 64)])
    def test_it_has_the_size_of_the_image(self, size):
        image = image_of(size)
        assert blurred(image).shape == image.shape

    def test_details_are_gone_and_the_level_is_not(self):
        image = image_of((64, 64)) + 3
        found = blurred(image)
        assert found.std() < 0.1 * image.std()
        assert torch.allclose(found.mean(), image.mean(), atol=0.02)


class TestOcclusion:
    def test_the_pixel_on_which_all_depends_counts_most(self):
        """A backbone that sees red in 8 x 8 cells; one cell has one red pixel."""
        backbone = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.MaxPool2d(8))
        with torch.no_grad():
            backbone[0].weight[:] = torch.tensor([1.0, 0, 0])[None, :, None, None]
        network, field = network_of(backbone, (32, 32), similarity="linear")
        image = torch.zeros(1, 3, 32, 32)
        image[0, 0, 13, 18] = 5.0
        position = 1 * 4 + 2  # the cell of rows 8 to 15 and columns 16 to 23
        with torch.no_grad():  # the prototype is that cell
            network.prototypes[0, :, 0, 0] = network.add_on(backbone(image))[0, :, 1, 2]
        (found,) = METHODS["occlusion"](network, image, queries_at(field, [position])).maps
        assert found[13, 18] == found.max()
        assert found[13, 18] > 0
        assert found[9, 22] < found[13, 18]

    def test_what_two_places_show_is_found_though_no_small_window_takes_it(self):
        """The patch is the largest of its 12 x 12 pixels; two of them, 3 apart, are as bright."""
        network, field = network_of(nn.MaxPool2d(12), (24, 24), similarity="linear")
        image = torch.zeros(1, 3, 24, 24)
        image[..., 4, 4] = image[..., 4, 7] = 5.0
        with torch.no_grad():  # the prototype is the upper left patch
            maps = network.add_on(network.backbone(image))
            network.prototypes[0, :, 0, 0] = maps[0, :, 0, 0]
        (found,) = METHODS["occlusion"](network, image, queries_at(field, [0])).maps
        assert found[4, 4] == found[4, 7] == found.max() > 0
        assert found[10, 10] == 0

    def test_a_pixel_has_the_mean_of_the_windows_that_hold_it(self):
        """Windows of 2 and of 3 pixels of 9; each pixel has the mean of those that hold it."""
        network, image = weighted_sum((1, 9)), image_of((1, 9))
        baseline, queries = blurred(image), queries_of(1, (0, 1, 0, 9))
        expected = np.zeros(9)
        for length in (2, 3):
            drops = []
            for start in range(9 - length + 1):
                changed = image.clone()
                changed[..., start : start + length] = baseline[..., start : start + length]
                before, after = patch_similarities(network, torch.cat([image, changed]), queries)
                drops.append((before - after).item())
            for x in range(9):
                expected[x] += np.mean(drops[max(0, x - length + 1) : x + 1]) / 2
        (found,) = METHODS["occlusion"](network, image, queries).maps
        assert found[0].tolist() == pytest.approx(expected, rel=1e-6)

    def test_windows_cover_the_box_and_nothing_else(self):
        boxes = ([0, 1, 0, 1], [3, 4, 2, 20], [0, 13, 5, 12], [10, 64, 0, 64])
        for box, side in product(boxes, (0.01, 1 / 5, 1 / 3, 1)):
            seen = np.zeros((64, 64), dtype=int)
            for y0, y1, x0, x1 in windows_of(torch.tensor([box]), side):
                seen[y0:y1, x0:x1] += 1
            y0, y1, x0, x1 = box
            assert seen[y0:y1, x0:x1].min() >= 1
            assert (seen > 0).sum() == (y1 - y0) * (x1 - x0)


class TestRelevance:
    @pytest.mark.parametrize(
        ("backbone", "stride", "prototype_size"),
        [("auto", None, (2, 2)), ("vgg11_bn", 4, (1, 1)), ("resnet18", 8, (1, 1))],
    )
    def test_relevance_is_handed_back_whole(self, backbone, stride, prototype_size):
        size = (64, 64)
        # Of many numbers, each has some that speak for it: relevance of others has nowhere to go.
        network, field = network_of(
            named(backbone, size, stride), size, prototype_size=prototype_size, depth=64
        )
        image, queries = image_of(size), queries_at(field, [0, 12, 20], prototype_size)
        found = METHODS["prp"](without_biases(network), image, queries).maps.sum((1, 2))
        with torch.no_grad():
            (similarities,) = patch_similarities(network, image, queries)
        assert torch.allclose(found.double(), similarities, rtol=1e-3)

    @pytest.mark.parametrize(("norm", "is_handed_back"), [("batch", True), ("group", False)])
    def test_the_delta_says_what_is_lost(self, norm, is_handed_back):
        torch.manual_seed(0)
        layer = nn.BatchNorm2d(16) if norm == "batch" else nn.GroupNorm(4, 16)
        backbone = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), layer, nn.ReLU())
        network, field = network_of(backbone, (12, 12), depth=64)
        network = without_biases(network)
        queries, image = queries_at(field, [0, 55]), image_of((12, 12))
        found = METHODS["prp"](network, image, queries)
        with torch.no_grad():
            (similarities,) = patch_similarities(network, image, queries)
        sums = found.maps.double().sum((1, 2))
        assert torch.allclose(found.deltas, sums - similarities, rtol=1e-6)
        assert (found.deltas.abs() < 1e-3 * similarities).all() == is_handed_back

    def test_alpha_one_beta_zero_by_hand(self):
        """z = 2 * 3 - 1 * 4 + 1 * 5 = 7: its positive terms are 6 and 5 of 11."""
        image = torch.ones(1, 1, 1, 1, requires_grad=True)
        values = torch.tensor([3.0, 4.0, 5.0]).reshape(1, 3, 1, 1)
        weight = torch.tensor([2.0, -1.0, 1.0]).reshape(1, 3, 1, 1)
        with Propagation(image):
            inputs = image * values
            result = torch.conv2d(inputs, weight)
        assert result.item() == 7
        ratio = torch.ones_like(result) * 22 / 7  # relevance 22
        (found,) = torch.autograd.grad(result, inputs, ratio)
        assert torch.allclose((found * inputs).flatten(), torch.tensor([12.0, 0, 10]))

    def test_z_b_by_hand(self):
        """Pixels 1 and 3 between -1 and 3, weights 2 and -1: z_B = (4, 2) of 4 + 0."""
        image = torch.tensor([1.0, 3.0, -1.0]).reshape(1, 1, 1, 3).requires_grad_()
        weight = torch.tensor([2.0, -1.0]).reshape(1, 1, 1, 2)
        with Propagation(image):
            result = torch.conv2d(image, weight)[..., :1]
        # x w - low w+ - high w-: 1 * 2 + 1 * 2 = 4 and -3 + 3 = 0.
        (found,) = torch.autograd.grad(result, image, torch.full_like(result, 8 / result.item()))
        assert torch.allclose((found * image).flatten(), torch.tensor([8.0, 0, 0]), atol=1e-5)

    def test_batch_normalisation_is_part_of_the_convolution(self):
        """What a convolution with folded weights gives, the two give one after the other."""
        torch.manual_seed(0)
        convolution, norm = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)
        norm(torch.randn(8, 3, 5, 5) * 2 + 1)
        norm.eval()
        folded = nn.Conv2d(2, 3, 3)
        with torch.no_grad():
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            folded.weight[:] = convolution.weight * scale[:, None, None, None]
            folded.bias[:] = norm.bias - norm.running_mean * scale
        maps = []
        for layers in ((convolution, norm), (folded,)):
            image = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(1))
            image.requires_grad_()
            with Propagation(image):
                result = torch.relu(nn.Sequential(*layers)(image))
            maps.append(torch.autograd.grad(result.sum(), image)[0] * image)
        assert torch.allclose(*maps, rtol=1e-3, atol=1e-5)

    def test_what_was_changed_in_place_is_no_longer_what_the_convolution_gave(self):
        """Batch normalisation after an activation is not folded, in place or not."""
        torch.manual_seed(0)
        convolution, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3).eval()
        maps = []
        for inplace in (False, True):
            image = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(1))
            image.requires_grad_()
            with Propagation(image):
                result = norm(nn.ReLU(inplace=inplace)(convolution(image)))
            maps.append(torch.autograd.grad(result.sum(), image)[0])
        assert torch.equal(*maps)

    def test_pixels_of_value_zero_keep_their_relevance(self):
        size = (32, 32)
        network, field = network_of(named("auto", size), size, depth=64)
        image, queries = image_of(size), queries_at(field, [9])
        image[..., 4:12, 4:12] = 0
        found = METHODS["prp"](without_biases(network), image, queries).maps
        with torch.no_grad():
            (similarities,) = patch_similarities(network, image, queries)
        assert torch.allclose(found.sum((1, 2)).double(), similarities, rtol=1e-3)

    @pytest.mark.parametrize("padding", ["same", "valid", 1])
    def test_borders_by_name(self, padding):
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU())
        network, field = network_of(backbone, (9, 9), depth=64)
        image, queries = image_of((9, 9)), queries_at(field, [0, 10])
        found = METHODS["prp"](without_biases(network), image, queries).maps.sum((1, 2))
        with torch.no_grad():
            (similarities,) = patch_similarities(network, image, queries)
        assert torch.allclose(found.double(), similarities, rtol=1e-3)

    @pytest.mark.parametrize("inplace", [False, True])
    @pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.SiLU])
    def test_relevance_of_an_activation_is_passed_through(self, activation, inplace):
        image = torch.full((1, 1, 1, 1), 8.0, requires_grad=True)
        with Propagation(image):
            before = image * 1.0
            after = activation(inplace=inplace)(before)
        assert torch.equal(after, activation()(torch.full_like(image, 8.0)))
        relevance = 3.0
        (found,) = torch.autograd.grad(after, image, relevance / after.detach())
        assert torch.allclose(found * image, torch.tensor(relevance))


@pytest.mark.parametrize(
    ("name", "stride", "size", "prototype_size"),
    [
        ("auto", None, (64, 72), (2, 2)),
        ("resnet18", 4, (64, 72), (1, 1)),
        ("densenet121", 4, (96, 104), (1, 1)),
        ("efficientnet_lite0", 4, (64, 72), (2, 2)),
    ],
)
def test_noise_outside_of_a_receptive_field_changes_no_similarity(
    name, stride, size, prototype_size
):
    network, field = network_of(named(name, size, stride), size, prototype_size=prototype_size)
    n_rows, n_columns = (n - k + 1 for n, k in zip(field.map_size, prototype_size, strict=True))
    image, noise = image_of(size), 3 * image_of(size, seed=1)
    for place in ((0, 0), (n_rows // 2, n_columns // 2), (n_rows - 1, n_columns // 2)):
        position = int(np.ravel_multi_index(place, (n_rows, n_columns)))
        (box,) = queries_at(field, [position], prototype_size).boxes.tolist()
        every = Queries(torch.arange(3), torch.full((3,), position), torch.tensor([box] * 3))
        inside = np.s_[:, :, box[0] : box[1], box[2] : box[3]]
        assert image[inside].numel() < image.numel()
        outside, within = noise.clone(), image.clone()
        outside[inside], within[inside] = image[inside], noise[inside]
        with torch.no_grad():
            plain, noisy, other = patch_similarities(
                network, torch.cat([image, outside, within]), every
            )
        assert (noisy - plain).abs().le(1e-5 * plain).all()
        assert ((other - plain).abs() / plain).max() > 1e-4  # noise inside does change them


class TestBoxEffects:
    """Of images whose queries go in one pass, and of those that take a pass each."""

    BOXES: ClassVar = [[0, 3, 0, 4], [0, 0, 0, 0], [1, 3, 0, 4]]

    @pytest.mark.parametrize("size", [(3, 4), (600, 601)])
    def test_what_is_left_is_the_weighted_sum_of_what_is_kept(self, size):
        network, image = weighted_sum(size), image_of(size) + 1
        queries = queries_of(3, (0, size[0], 0, size[1]))
        found = box_effects(network, image, queries, torch.tensor(self.BOXES))
        weights, baseline = network.backbone.weights.detach()[0, 0], blurred(image)
        for (y0, y1, x0, x1), effects in zip(self.BOXES, found, strict=True):
            inside = torch.zeros(size, dtype=bool)
            inside[y0:y1, x0:x1] = True
            for is_kept, effect in zip((inside, ~inside), effects, strict=True):
                left = torch.where(is_kept, image, baseline)[0].sum(0)
                total = (left.double() * weights.double()).sum().item()
                assert effect.item() == pytest.approx(-(total**2), rel=1e-4)

    @pytest.mark.parametrize("size", [(3, 4), (600, 601)])
    def test_every_pixel_outside_that_counts_goes_as_far_as_an_attack_may(self, size):
        network, image = weighted_sum(size), torch.ones(1, 3, *size)
        queries = queries_of(3, (0, size[0], 0, size[1]))
        before, after = attack_effects(network, image, queries, torch.tensor(self.BOXES)).T
        weights = network.backbone.weights.detach()[0, 0].double()
        protected = [weights[y0:y1, x0:x1].sum().item() for y0, y1, x0, x1 in self.BOXES]
        assert before.tolist() == pytest.approx([-9.0] * 3, rel=1e-4)
        expected = [-((3 + 3 * (1 - share) * 0.1) ** 2) for share in protected]
        assert after.tolist() == pytest.approx(expected, rel=1e-4)
        assert image.eq(1).all()
        assert network.backbone.weights.grad is None

    def test_a_box_that_holds_all_that_counts_is_safe_to_the_last_bit(self):
        size = (64, 72)
        network, field = network_of(named("auto", size), size)
        queries, image = queries_at(field, [0, 9, 20]), image_of(size)
        safe = attack_effects(network, image, queries, queries.boxes)
        assert torch.equal(safe[:, 0], safe[:, 1])
        nothing = torch.zeros_like(queries.boxes)
        attacked = attack_effects(network, image, queries, nothing)
        assert (attacked[:, 1] < attacked[:, 0]).all()

    def test_a_backbone_that_passes_no_gradients_on_is_refused(self):
        class Closed(nn.Module):
            def forward(self, images):
                with torch.no_grad():
                    return images.mean(1, keepdim=True)

        network, field = network_of(Closed(), (8, 8))
        queries = queries_at(field, [0])
        with pytest.raises(ValueError, match="must pass gradients on"):
            attack_effects(network.requires_grad_(False), image_of((8, 8)), queries, queries.boxes)
