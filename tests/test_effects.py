"""What becomes of a similarity if one side of a box changes."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_protopnet import build_backbone
from sklearn_protopnet._network import PrototypeNetwork
from sklearn_protopnet._network._receptive_field import trace_receptive_field
from sklearn_protopnet.inspection._attribution import Queries, patch_similarities
from sklearn_protopnet.inspection._box_effects import ATTACK_RANGE, attack_effects, box_effects
from sklearn_protopnet.inspection._boxes import receptive_field_kinds

FAMILIES = [
    ("auto", None, (64, 72)),
    ("resnet18", 4, (64, 72)),
    ("resnet50", 8, (96, 104)),
    ("vgg11", 8, (64, 72)),
    ("vgg16_bn", 4, (64, 72)),
    ("densenet121", 4, (96, 104)),
    ("efficientnet_lite0", 4, (64, 72)),
]
"""Backbones, strides at which they are cut, and images larger than what a patch depends on."""


def network_of(backbone, size, prototype_size=(1, 1), similarity="log"):
    torch.manual_seed(0)
    field = trace_receptive_field(backbone.eval(), 3, size)
    network = PrototypeNetwork(
        backbone,
        field.depth,
        torch.tensor([0, 0, 1, 1]),
        n_classes=2,
        prototype_depth=6,
        prototype_size=prototype_size,
        similarity=similarity,
    )
    return network.eval(), field


def corners_and_middle(field, prototype_size):
    """Numbers of the patches in the corners, on the borders and in the middle."""
    height, width = (n - k + 1 for n, k in zip(field.map_size, prototype_size, strict=True))
    rows, columns = ({0, n // 2, n - 1} for n in (height, width))
    return sorted(i * width + j for i in rows for j in columns)


def similarities(network, image, position):
    """Similarity of one patch to all four prototypes."""
    every = Queries(torch.arange(4), torch.full((4,), position), torch.zeros(4, 4))
    with torch.no_grad():
        return patch_similarities(network, image, every)[0]


@pytest.mark.parametrize("prototype_size", [(1, 1), (2, 2)])
@pytest.mark.parametrize(("name", "stride", "size"), FAMILIES)
def test_noise_outside_of_a_receptive_field_changes_no_similarity(
    name, stride, size, prototype_size
):
    torch.manual_seed(0)
    backbone = build_backbone(name, image_size=size, feature_stride=stride)
    network, field = network_of(backbone, size, prototype_size)
    image = torch.randn(1, 3, *size)
    n_partial, largest = 0, 0.0
    for position in corners_and_middle(field, prototype_size):
        y0, y1, x0, x1 = field.boxes(np.array(position), prototype_size).tolist()
        noisy = 3 * torch.randn(1, 3, *size)
        noisy[:, :, y0:y1, x0:x1] = image[:, :, y0:y1, x0:x1]
        n_partial += (y1 - y0, x1 - x0) != size
        before = similarities(network, image, position)
        after = similarities(network, noisy, position)
        assert (after - before).abs().le(1e-5 * before).all()
        inside = similarities(network, 3 * torch.randn(1, 3, *size), position)
        largest = max(largest, ((inside - before).abs() / before).max().item())
    assert n_partial > 0
    assert largest > 1e-3  # noise inside does change them


@pytest.mark.parametrize("prototype_size", [(1, 1), (2, 2)])
def test_a_receptive_field_that_is_global_is_the_whole_image(prototype_size):
    class Excited(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 6, 3, 2, 1)

        def forward(self, images):
            maps = self.body(images)
            return maps * maps.mean((2, 3), keepdim=True)

    _, field = network_of(Excited(), (24, 30), prototype_size)
    positions = np.array(corners_and_middle(field, prototype_size))
    boxes = field.boxes(positions, prototype_size)
    assert boxes.tolist() == [[0, 24, 0, 30]] * len(positions)
    kinds = receptive_field_kinds(boxes, np.array([[24, 30]] * len(positions)))
    assert set(kinds) == {"whole_image"}


def linear_network():
    """Its only patch is the sum of all pixels, weighted by their number; prototypes are 0."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.arange(12.0).reshape(1, 1, 3, 4) / 100)

        def forward(self, images):
            return (images.sum(1, keepdim=True) * self.weights).sum((2, 3), keepdim=True)

    network = PrototypeNetwork(
        Sum(),
        1,
        torch.tensor([0, 1]),
        n_classes=2,
        prototype_depth=1,
        prototype_size=(1, 1),
        similarity="linear",
    )
    network.add_on = nn.Identity()
    with torch.no_grad():
        network.prototypes.zero_()
    return network.eval()


def queries_of(n, box=(0, 3, 0, 4)):
    return Queries(torch.zeros(n, dtype=int), torch.zeros(n, dtype=int), torch.tensor([box] * n))


class TestAttack:
    BOXES = torch.tensor([[0, 3, 0, 4], [0, 0, 0, 0], [1, 3, 0, 4]])

    def test_by_hand(self):
        """Every pixel outside that counts goes as far as it may."""
        network, image = linear_network(), torch.ones(1, 3, 3, 4)
        found = attack_effects(network, image, queries_of(3), self.BOXES)
        total = 3 * sum(range(12)) / 100
        gains = [0, total * ATTACK_RANGE, 3 * (0 + 1 + 2 + 3) / 100 * ATTACK_RANGE]
        assert found[:, 0].tolist() == pytest.approx([-(total**2)] * 3, rel=1e-6)
        expected = [-((total + gain) ** 2) for gain in gains]
        assert found[:, 1].tolist() == pytest.approx(expected, rel=1e-5)

    def test_a_box_that_holds_all_that_counts_is_safe_to_the_last_bit(self):
        size = (64, 72)
        torch.manual_seed(0)
        backbone = build_backbone("auto", image_size=size)
        network, field = network_of(backbone, size)
        positions = torch.tensor(corners_and_middle(field, (1, 1))[:4])
        boxes = torch.from_numpy(field.boxes(positions.numpy(), (1, 1)))
        queries = Queries(torch.arange(4), positions, boxes)
        image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        safe = attack_effects(network, image, queries, boxes)
        assert torch.equal(safe[:, 0], safe[:, 1])
        nothing = torch.zeros(4, 4, dtype=torch.int64)
        attacked = attack_effects(network, image, queries, nothing)
        assert (attacked[:, 1] < attacked[:, 0]).all()

    @pytest.mark.parametrize("are_parameters_free", [True, False])
    def test_a_backbone_that_passes_no_gradients_on(self, are_parameters_free):
        class Closed(nn.Module):
            def forward(self, images):
                with torch.no_grad():
                    return images.mean(1, keepdim=True)

        network, _ = network_of(Closed(), (8, 8))
        with pytest.raises(ValueError, match="must pass gradients on"):
            attack_effects(
                network.requires_grad_(False), torch.ones(1, 3, 8, 8), queries_of(1), self.BOXES[:1]
            )

    def test_the_image_and_the_network_stay_as_they_are(self):
        network, image = linear_network(), torch.ones(1, 3, 3, 4)
        attack_effects(network, image, queries_of(3), self.BOXES)
        assert image.eq(1).all()
        assert network.backbone.weights.grad is None


@pytest.mark.parametrize("effects", [box_effects, attack_effects])
def test_more_queries_than_fit_into_a_pass(effects, monkeypatch):
    network = linear_network()
    image = torch.randn(1, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0, 2, 0, i] for i in range(5)])
    whole = effects(network, image, queries_of(5), boxes)
    monkeypatch.setattr("sklearn_protopnet.inspection._box_effects.LARGEST_PASS", 2 * 2 * 12)
    parts = effects(network, image, queries_of(5), boxes)
    assert torch.allclose(whole, parts, rtol=1e-6)
