"""The network: its formulas by hand, its parts against independent ones."""

import collections
import functools
import itertools
import math
import threading

import numpy as np
import pytest
import torch
from quick import QUICK
from torch import nn
from torchvision import models

from sklearn_protopnet import ProtoPNetClassifier, build_backbone
from sklearn_protopnet._network import (
    BACKBONES,
    SIMILARITIES,
    Architecture,
    evidence_of,
    functional,
)
from sklearn_protopnet._network._prototype_network import PrototypeNetwork
from sklearn_protopnet._network._receptive_field import trace_receptive_field

DOUBLE = torch.float64


def architecture(**changes):
    plain = {
        "backbone": "auto",
        "image_shape": (8, 9, 2),
        "n_classes": 3,
        "prototype_classes": (0, 0, 1, 1, 2, 2),
        "prototype_depth": 5,
        "prototype_size": (1, 1),
        "similarity": "log",
    }
    return Architecture(**{**plain, **changes})


def random(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def brute_force_patches(features, size):
    """(N, L, K), by four loops."""
    height, width = features.shape[2:]
    rows, columns = range(height - size[0] + 1), range(width - size[1] + 1)
    return torch.stack(
        [
            torch.stack(
                [
                    image[:, i : i + size[0], j : j + size[1]].reshape(-1)
                    for i, j in itertools.product(rows, columns)
                ]
            )
            for image in features
        ]
    )


def brute_force_distances(patches, prototypes):
    """(N, P, L) by three loops, in Python's own numbers, summed without rounding."""
    return torch.tensor(
        [
            [
                [
                    math.fsum((a - b) ** 2 for a, b in zip(patch, prototype, strict=True))
                    for patch in image
                ]
                for prototype in prototypes.tolist()
            ]
            for image in patches.tolist()
        ],
        dtype=DOUBLE,
    )


class TestSimilarities:
    def test_the_log_similarity_is_the_papers_formula(self):
        distances = torch.tensor([0.0, 1.0, 2.5], dtype=DOUBLE)
        by_hand = [math.log(1 / 1e-4), math.log(2 / 1.0001), math.log(3.5 / 2.5001)]
        found = SIMILARITIES["log"].function(distances).tolist()
        assert found == pytest.approx(by_hand, rel=1e-14)

    def test_the_linear_similarity_is_minus_the_distance(self):
        distances = torch.tensor([0.0, 1.0, 2.5], dtype=DOUBLE)
        assert SIMILARITIES["linear"].function(distances).tolist() == [0.0, -1.0, -2.5]

    def test_the_cosine_similarity_of_equal_orthogonal_and_opposite_vectors(self):
        distances = torch.tensor([0.0, 2.0, 4.0], dtype=DOUBLE)
        assert SIMILARITIES["cosine"].function(distances).tolist() == [1.0, 0.0, -1.0]

    def test_the_log_similarity_lies_between_0_and_its_value_at_0(self):
        distances = torch.logspace(-12, 8, 400, dtype=DOUBLE)
        found = SIMILARITIES["log"].function(distances)
        assert (found > 0).all()
        assert (found < math.log(1 / 1e-4)).all()

    @pytest.mark.parametrize("name", SIMILARITIES)
    def test_similarities_decrease_with_the_distance(self, name):
        distances = torch.logspace(-6, 2, 400, dtype=DOUBLE)
        assert (SIMILARITIES[name].function(distances).diff() < 0).all()

    def test_the_cosine_similarity_is_the_cosine(self):
        one, other = random(7, 11) - 0.5, random(7, 11, seed=1) - 0.5
        units = [functional.to_unit_length(vectors.double()) for vectors in (one, other)]
        found = SIMILARITIES["cosine"].function((units[0] - units[1]).square().sum(1))
        expected = nn.functional.cosine_similarity(one.double(), other.double())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)

    def test_a_zero_vector_has_no_direction_and_stays_zero(self):
        assert functional.to_unit_length(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


class TestPatches:
    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 3), (3, 4)])
    def test_patches_are_cut_row_by_row(self, size):
        features = torch.arange(2 * 3 * 3 * 4.0).reshape(2, 3, 3, 4)
        found = functional.extract_patches(features, size)
        assert torch.equal(found, brute_force_patches(features, size))

    def test_a_patch_as_large_as_the_map_is_the_map(self):
        features = random(2, 3, 3, 4)
        assert torch.equal(functional.extract_patches(features, (3, 4))[:, 0], features.flatten(1))


class TestDistances:
    def test_squared_distances_equal_a_loop(self):
        patches, prototypes = random(2, 5, 3, dtype=DOUBLE), random(4, 3, seed=1, dtype=DOUBLE)
        torch.testing.assert_close(
            functional.squared_distances(patches, prototypes),
            brute_force_distances(patches, prototypes),
            rtol=1e-13,
            atol=1e-14,
        )

    def test_squared_distances_are_never_negative(self):
        patches = 1e3 + random(3, 20, 128)
        assert (functional.squared_distances(patches, patches[0]) >= 0).all()

    def test_nearest_patches_equal_a_loop(self):
        patches, prototypes = random(3, 12, 6), random(5, 6, seed=1)
        expected, order = brute_force_distances(patches, prototypes).sort(dim=2)
        for k in (1, 2, 5, 12):
            distances, positions = functional.nearest_patches(
                patches, prototypes, functional.as_it_is, k
            )
            torch.testing.assert_close(distances, expected[:, :, :k], rtol=1e-13, atol=0)
            assert torch.equal(positions, order[:, :, :k])

    @pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
    @pytest.mark.parametrize("comparable", [functional.as_it_is, functional.to_unit_length])
    def test_a_patch_that_equals_its_prototype_is_at_distance_exactly_0(self, offset, comparable):
        features = offset + random(4, 128, 5, 6)
        patches = functional.extract_patches(features, (1, 1))
        prototypes = patches[2, [0, 13, 29]].clone()
        for k in (1, 4):
            distances, positions = functional.nearest_patches(patches, prototypes, comparable, k)
            assert distances[2, :, 0].tolist() == [0.0, 0.0, 0.0]
            assert positions[2, :, 0].tolist() == [0, 13, 29]

    def test_a_patch_that_differs_in_the_last_bit_does_not_hide_the_equal_one(self):
        for seed in range(20):
            prototype = random(128, seed=seed)
            patches = prototype.repeat(20, 1)
            others = [i for i in range(20) if i != 11]
            patches[others, others] = torch.nextafter(prototype[others], torch.tensor(2.0))
            for k in (1, 3):
                distances, positions = functional.nearest_patches(
                    patches[None], prototype[None], functional.as_it_is, k
                )
                assert distances[0, 0, 0] == 0
                assert positions[0, 0, 0] == 11

    @pytest.mark.parametrize("n_patches", [5, 63, 64])
    def test_of_equal_patches_the_first_one_is_the_nearest(self, n_patches):
        patches = random(1, 1, 128).repeat(3, n_patches, 1)
        _, positions = functional.nearest_patches(
            patches, random(6, 128, seed=1), functional.as_it_is, 1
        )
        assert (positions == 0).all()

    def test_an_image_is_measured_alike_alone_and_among_others(self):
        patches, prototypes = random(9, 49, 128), random(30, 128, seed=1)
        together = functional.nearest_patches(patches, prototypes, functional.as_it_is, 5)
        alone = functional.nearest_patches(patches[4:5], prototypes, functional.as_it_is, 5)
        for all_values, values in zip(together, alone, strict=True):
            assert torch.equal(all_values[4:5], values)


class WholeNetwork(nn.Module):
    """From images to distances and logits."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(self.network.feature_maps(images))


class TestNetwork:
    @pytest.mark.parametrize("n_pooled_patches", [1, 4])
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    @pytest.mark.parametrize("prototype_size", [(1, 1), (2, 3)])
    def test_evidence_adds_up_to_the_logits(self, similarity, prototype_size, n_pooled_patches):
        plan = architecture(
            similarity=similarity,
            prototype_size=prototype_size,
            n_pooled_patches=n_pooled_patches,
        )
        network, _ = plan.build()
        network.eval()
        images = random(4, 2, 8, 9)
        maps = network.backbone(images)
        found = evidence_of(network, network.raw_patches(maps), network.head.numpy())
        by_hand = np.einsum("np,kp->nk", found.similarities, network.head.numpy())
        np.testing.assert_allclose(found.logits, by_hand, rtol=1e-13)
        of_distances = SIMILARITIES[similarity].function(torch.from_numpy(found.patch_distances))
        assert np.array_equal(found.patch_similarities, of_distances)
        assert found.patch_positions.shape == (4, 6, n_pooled_patches)
        np.testing.assert_allclose(found.similarities, of_distances.mean(2), rtol=1e-14)

    @pytest.mark.parametrize("n_pooled_patches", [1, 4])
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_a_training_step_finds_the_same_but_for_rounding(self, similarity, n_pooled_patches):
        plan = architecture(similarity=similarity, n_pooled_patches=n_pooled_patches)
        network, _ = plan.build()
        network.eval()
        maps = network.backbone(random(4, 2, 8, 9))
        distances, logits = network(maps)
        found = evidence_of(network, network.raw_patches(maps), network.head.numpy())
        np.testing.assert_allclose(distances.detach(), found.distances, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(logits.detach(), found.logits, rtol=1e-3)

    @pytest.mark.parametrize("n_pooled_patches", [1, 4])
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    @pytest.mark.parametrize("prototype_size", [(1, 1), (2, 3)])
    def test_its_graph_can_be_exported(self, similarity, prototype_size, n_pooled_patches):
        """For any number of images, as ONNX and compilers take it."""
        plan = architecture(
            similarity=similarity,
            prototype_size=prototype_size,
            n_pooled_patches=n_pooled_patches,
        )
        whole = WholeNetwork(plan.build()[0]).eval()
        any_number = ({0: torch.export.Dim("n")},)
        program = torch.export.export(whole, (random(2, 2, 8, 9),), dynamic_shapes=any_number)
        images = random(5, 2, 8, 9, seed=1)
        found, expected = program.module()(images), whole(images)
        assert found[1].shape == (5, 3)
        torch.testing.assert_close(found, expected)

    def test_an_image_of_fewer_patches_than_are_pooled_has_all_of_them_pooled(self):
        plan = architecture(prototype_size=(7, 8), n_pooled_patches=9)
        network, _ = plan.build()
        _, similarities, _ = network.eval().compare(
            network.raw_patches(network.backbone(random(3, 2, 8, 9)))
        )
        assert similarities.shape == (3, 6, 4)

    def test_the_similarity_of_the_nearest_patch_is_the_maximum_of_the_map(self):
        network, _ = architecture(prototype_size=(2, 2)).build()
        network.eval()
        images = random(3, 2, 8, 9)
        patches = brute_force_patches(network.add_on(network.backbone(images)), (2, 2))
        distances = brute_force_distances(patches, network.prototypes.flatten(1))
        pooled = SIMILARITIES["log"].function(distances).amax(2)
        raw = network.raw_patches(network.backbone(images))
        _, similarities, positions = network.compare(raw)
        torch.testing.assert_close(similarities[:, :, 0], pooled, rtol=1e-12, atol=0)
        assert torch.equal(positions[:, :, 0], distances.argmin(2))

    def test_cosine_evidence_is_the_cosine_of_patch_and_prototype(self):
        network, _ = architecture(similarity="cosine").build()
        network.eval()
        raw = network.raw_patches(network.backbone(random(3, 2, 8, 9)))
        cosines = nn.functional.cosine_similarity(
            raw.double()[:, None], network.prototypes.double().flatten(1)[None, :, None], dim=3
        )
        _, similarities, _ = network.compare(raw)
        torch.testing.assert_close(similarities[:, :, 0], cosines.amax(2), rtol=0, atol=1e-14)

    def test_the_head_starts_at_1_for_own_and_minus_a_half_for_other_classes(self):
        network, _ = architecture().build()
        expected = [[1, 1, -0.5, -0.5, -0.5, -0.5], [-0.5, -0.5, 1, 1, -0.5, -0.5]]
        assert network.head.tolist()[:2] == expected
        assert network.prototype_classes.tolist() == [0, 0, 1, 1, 2, 2]
        assert "head" not in dict(network.named_parameters())

    def test_latent_values_lie_between_0_and_1(self):
        network, _ = architecture().build()
        latent = network.add_on(network.backbone(100 * random(2, 2, 8, 9)))
        assert latent.shape == (2, 5, 8, 9)
        assert (latent >= 0).all()
        assert (latent <= 1).all()


class TestSmallBackbone:
    @pytest.mark.parametrize(
        ("image_size", "map_size", "cell"),
        [
            ((1, 1), (1, 1), 1),
            ((3, 5), (3, 5), 1),
            ((8, 8), (8, 8), 5),
            ((28, 28), (7, 7), 16),
            ((28, 41), (7, 10), 16),
            ((50, 30), (12, 7), 16),
            ((96, 96), (12, 12), 36),
        ],
    )
    def test_a_cell_sees_a_part_of_the_image(self, image_size, map_size, cell):
        backbone = build_backbone("auto", channels=3, image_size=image_size).eval()
        field = trace_receptive_field(backbone, 3, image_size)
        assert field.map_size == map_size == backbone(torch.zeros(1, 3, *image_size)).shape[2:]
        for intervals in (field.rows, field.columns):
            assert (intervals[:, 1] - intervals[:, 0]).max() == cell


def features_of_torchvision(model, name, images):
    """What torchvision's own forward pass computes before it pools for its classifier."""
    if name.startswith("densenet"):
        return torch.relu(model.features(images))
    if name.startswith("vgg"):
        return model.features(images)
    seen = []
    model.layer4.register_forward_hook(lambda module, args, output: seen.append(output))
    model(images)
    return seen[0]


class TestTorchvisionBackbones:
    @pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "densenet121"])
    def test_a_backbone_computes_what_torchvisions_features_are(self, name):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            backbone = build_backbone(name).eval()
            torch.default_generator.manual_seed(0)
            model = models.get_model(name, weights=None).eval()
        images = random(2, 3, 32, 48)
        with torch.no_grad():
            found, expected = backbone(images), features_of_torchvision(model, name, images)
        assert torch.equal(found, expected)

    @pytest.mark.parametrize("channels", [1, 4])
    @pytest.mark.parametrize("name", ["resnet18", "densenet121"])
    def test_the_first_convolution_takes_any_number_of_channels(self, name, channels):
        backbone = build_backbone(name, channels=channels).eval()
        original = next(
            layer
            for layer in models.get_model(name, weights=None).modules()
            if isinstance(layer, nn.Conv2d)
        )
        first = backbone[0]
        assert first.in_channels == channels
        for attribute in ("out_channels", "kernel_size", "stride", "padding"):
            assert getattr(first, attribute) == getattr(original, attribute)
        assert (first.bias is None) == (original.bias is None)
        with torch.no_grad():
            assert backbone(random(1, channels, 32, 32)).shape[2:] == (1, 1)

    @pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"auto"}))
    def test_every_name_builds_and_traces(self, name):
        with torch.device("meta"):
            backbone = build_backbone(name).eval()
            field = trace_receptive_field(backbone, 3, (64, 96))
            features = backbone(torch.zeros(2, 3, 64, 96))
        assert features.shape == (2, field.depth, *field.map_size)
        assert field.map_size == (2, 3)

    def test_the_papers_three_families_are_on_offer(self):
        assert {"auto", "vgg19", "resnet34", "densenet121", "densenet161"} <= set(BACKBONES)


RECEPTIVE_FIELDS = {
    # A window of k cells that are s pixels apart adds (k - 1) s pixels to what a cell sees.
    "vgg11": {1: 3, 2: 8, 4: 26, 8: 62, 16: 134, 32: 150},
    "resnet18": {2: 7, 4: 43, 8: 99, 16: 211, 32: 435},
    "densenet121": {4: 59, 8: 255, 16: 1031, 32: 2071},
    "efficientnet_lite0": {4: 19, 8: 67, 16: 339, 32: 851},
}
"""Pixels that a cell of the last map of each stride sees, summed up by hand."""

DEPTHS = {
    "vgg11": {1: 64, 2: 128, 4: 256, 8: 512, 16: 512, 32: 512},
    "resnet18": {2: 64, 4: 64, 8: 128, 16: 256, 32: 512},
    "densenet121": {4: 256, 8: 512, 16: 1024, 32: 1024},
    "efficientnet_lite0": {4: 24, 8: 40, 16: 112, 32: 1280},
}
"""Channels of that map: the paper's figures of each family."""

STRIDES = [(name, stride) for name, fields in RECEPTIVE_FIELDS.items() for stride in fields]


@functools.cache
def cut(name, stride):
    """A network less what comes after its last map of a stride, without values."""
    with torch.device("meta"):
        return build_backbone(name, feature_stride=stride).eval()


class TestFeatureStride:
    @pytest.mark.parametrize(("name", "stride"), STRIDES)
    def test_a_cell_stands_for_as_many_pixels(self, name, stride):
        found = cut(name, stride)(torch.zeros(2, 3, 64, 128, device="meta")).shape
        assert found == (2, DEPTHS[name][stride], 64 // stride, 128 // stride)

    @pytest.mark.parametrize(("name", "stride"), STRIDES)
    def test_a_cell_sees_what_the_cut_network_does(self, name, stride):
        seen = RECEPTIVE_FIELDS[name][stride]
        size = max(64, 32 * math.ceil((2 * seen + 64) / 32))  # some cell is far from both borders
        with torch.device("meta"):
            field = trace_receptive_field(cut(name, stride), 3, (64, size))
        assert field.depth == DEPTHS[name][stride]
        assert field.map_size == (64 // stride, size // stride)
        lengths = field.columns[:, 1] - field.columns[:, 0]
        assert lengths.max() == seen
        inner = (field.columns[:, 0] > 0) & (field.columns[:, 1] < size)
        assert inner.any()
        assert (lengths[inner] == seen).all()
        assert (np.diff(field.columns[inner, 0]) == stride).all()

    @pytest.mark.parametrize("name", RECEPTIVE_FIELDS)
    def test_it_ends_before_the_next_layer_that_strides(self, name):
        with torch.device("meta"):
            layers = list(build_backbone(name).eval().children())
        assert len(cut(name, 32)) == len(layers)
        for stride in [stride for stride in RECEPTIVE_FIELDS[name] if stride < 32]:
            n_layers = len(cut(name, stride))
            longer = nn.Sequential(*cut(name, stride), layers[n_layers])
            assert longer(torch.zeros(1, 3, 64, 64, device="meta")).shape[2] == 32 // stride

    def test_efficientnet_lite_at_16_is_cut_after_its_eleventh_block(self):
        backbone = build_backbone("efficientnet_lite0", channels=1, feature_stride=16)
        names = [name for name, _ in backbone.named_children()]
        assert len(names) == 12
        with torch.no_grad():
            assert backbone.eval()(torch.zeros(1, 1, 224, 224)).shape == (1, 112, 14, 14)

    def test_what_is_left_computes_what_it_did(self):
        images = random(2, 3, 48, 32)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            backbone = build_backbone("resnet18", feature_stride=8).eval()
            torch.default_generator.manual_seed(0)
            model = models.resnet18(weights=None).eval()
        seen = []
        model.layer2.register_forward_hook(lambda module, args, output: seen.append(output))
        with torch.no_grad():
            model(images)
            assert torch.equal(backbone(images), seen[0])
        statistics = [
            value for name, value in backbone.state_dict().items() if "running_mean" in name
        ]
        assert not any(value.any() for value in statistics)  # measuring strides moves none

    @pytest.mark.parametrize("name", ["auto", "resnet18", "efficientnet_lite0"])
    @pytest.mark.parametrize("stride", [None, 2])
    def test_it_is_ready_to_be_trained(self, name, stride):
        backbone = build_backbone(name, image_size=(28, 28), feature_stride=stride)
        assert all(module.training for module in backbone.modules())

    @pytest.mark.parametrize(("stride", "n_layers", "map_size"), [(1, 6, 28), (2, 13, 14)])
    def test_the_small_network_may_be_cut_too(self, stride, n_layers, map_size):
        backbone = build_backbone("auto", channels=1, image_size=(28, 28), feature_stride=stride)
        assert len(backbone) == n_layers
        assert backbone(torch.zeros(1, 1, 28, 28)).shape[2:] == (map_size, map_size)

    @pytest.mark.parametrize(
        ("name", "stride", "strides"),
        [
            ("vgg11", 3, "1, 2, 4, 8, 16, 32"),
            ("resnet18", 1, "2, 4, 8, 16, 32"),
            ("efficientnet_lite0", 7, "2, 4, 8, 16, 32"),
            ("auto", 8, "1, 2, 4"),
        ],
    )
    def test_another_stride_is_refused_with_those_that_there_are(self, name, stride, strides):
        message = f"feature_stride must be a stride of the backbone, {strides}, got {stride}\\."
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            build_backbone(name, image_size=(28, 28), feature_stride=stride)

    def test_a_module_is_to_be_cut_by_its_owner(self):
        message = "feature_stride needs a backbone that has a name, got the module Conv2d"
        with pytest.raises(ValueError, match=message):
            build_backbone(nn.Conv2d(1, 2, 3), channels=1, feature_stride=2)

    def test_a_classifier_is_built_with_it(self):
        network, field = architecture(
            backbone="resnet18", image_shape=(32, 48, 1), feature_stride=8
        ).build()
        assert field.map_size == (4, 6)
        assert network.backbone_channels == field.depth == 128


class Changed(nn.Module):
    """A convolution whose maps are changed in the end."""

    def __init__(self, change):
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 1)
        self.change = change

    def forward(self, images):
        return self.change(self.convolution(images))


class TestErrors:
    def test_images_too_small_for_a_backbone_are_named(self):
        message = "accept images of 7 x 20 pixels and 3 channels, got an error from 'densenet121'"
        with pytest.raises(ValueError, match=message):
            architecture(backbone="densenet121", image_shape=(7, 20, 3)).build()

    @pytest.mark.parametrize(
        ("module", "found"),
        [
            (nn.Flatten(), r"shape \(2, 144\)"),
            (nn.Flatten(2), r"shape \(2, 2, 72\)"),
            (Changed(lambda maps: (maps, maps)), "a tuple"),
            (Changed(lambda maps: torch.cat([maps, maps[:1]])), r"shape \(3, 4, 8, 9\)"),
            (Changed(lambda maps: maps.mean(0, keepdim=True)), r"shape \(1, 4, 8, 9\)"),
            (Changed(lambda maps: maps[:, :0]), r"shape \(2, 0, 8, 9\)"),
            (Changed(lambda maps: maps.double()), "float64"),
            (Changed(lambda maps: maps.long()), "int64"),
            (Changed(lambda maps: maps.to(torch.complex64)), "complex64"),
            (Changed(lambda maps: maps.bfloat16()), "bfloat16"),
            (Changed(lambda maps: maps.to("meta")), "maps on meta"),
        ],
    )
    def test_what_a_backbone_must_return_is_said(self, module, found):
        message = rf"must map float32 images .* got {found} for images of shape \(2, 2, 8, 9\)"
        with pytest.raises(ValueError, match=message):
            architecture(backbone=module).build()

    @pytest.mark.parametrize("module", [nn.Conv2d(3, 4, 1), nn.Conv2d(2, 4, 1).double()])
    def test_an_error_of_a_module_is_that_of_the_backbone(self, module):
        message = "8 x 9 pixels and 2 channels, got an error from Conv2d"
        with pytest.raises(ValueError, match=message):
            architecture(backbone=module).build()

    @pytest.mark.parametrize(
        "module",
        [
            nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
            Changed(lambda maps: maps - maps.mean((0, 2, 3), keepdim=True)),
            Changed(lambda maps: nn.functional.dropout(maps, 0.5)),
            Changed(lambda maps: torch.cat([1e4 * maps, maps - maps.mean((0, 2, 3), True)], 1)),
        ],
    )
    def test_an_image_must_have_its_own_maps(self, module):
        message = "the same maps in any call, got others from (Sequential|Changed) for an image"
        with pytest.raises(ValueError, match=message):
            architecture(backbone=module).build()

    @pytest.mark.parametrize(
        "change",
        [
            lambda maps: maps * 1e-30,
            lambda maps: maps * 0,
            lambda maps: torch.where(maps > 0, maps, torch.nan),
            lambda maps: torch.where(maps > 0, maps, torch.inf),
            lambda maps: nn.functional.group_norm(maps, 2),
            lambda maps: nn.functional.instance_norm(maps),
        ],
    )
    def test_maps_may_be_as_they_like(self, change):
        architecture(backbone=Changed(change)).build()

    @pytest.mark.parametrize(
        "change",
        [
            lambda images: (0.3 * images + 0.3).sqrt(),
            lambda images: -torch.log(0.3 * images + 0.3),
            lambda images: torch.eye(5)[(images + 2).round().long()][..., 2],
        ],
    )
    def test_a_module_may_bear_photographs_only(self, change):
        class Strict(nn.Conv2d):
            def forward(self, images):
                return super().forward(change(images))

        architecture(backbone=Strict(2, 4, 1)).build()

    def test_a_module_that_fails_on_one_image_is_named(self):
        squeezed = Changed(lambda maps: maps.squeeze(0))
        with pytest.raises(ValueError, match="pixels and 2 channels, got an error from Changed"):
            architecture(backbone=squeezed).build()

    def test_a_module_that_cannot_be_copied_is_refused(self):
        module = nn.Conv2d(2, 4, 1)
        module.lock = threading.Lock()
        with pytest.raises(ValueError, match="can be copied, got an error from copy"):
            architecture(backbone=module).build()

    @pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
    def test_a_module_that_keeps_what_it_computed_is_not(self):
        module = torch.nn.utils.weight_norm(nn.Conv2d(2, 4, 1))
        module.others = collections.deque([module.weight * 2])
        module.others.append({"all": module.others})
        found = architecture(backbone=module).build()[0].backbone
        assert torch.equal(found.others[0], 2 * module.weight)
        assert found.others[1]["all"] is found.others

    @pytest.mark.parametrize("door", ["fit", "predict"])
    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda maps: maps[:-1], r"shape \(\d+, 4, 6, 6\)"),
            (lambda maps: maps[:, :2], r"shape \(\d+, 2, 6, 6\) after depth 4"),
            (lambda maps: maps.double(), "float64"),
            (lambda maps: maps.to("meta"), "maps on meta"),
            (lambda maps: maps.to_sparse(), r"maps in torch\.sparse_coo"),
            (lambda maps: None, "a NoneType"),
        ],
    )
    def test_it_is_said_in_every_call(self, door, change, found):
        """Whatever a module returns while it is built, a large batch or training may change it."""

        def changed(maps):
            return change(maps) if len(maps) > n_images else maps

        n_images = 2 if door == "fit" else 32
        backbone = nn.Sequential(nn.Conv2d(1, 2, 3), Changed(changed))
        X = np.random.default_rng(0).normal(size=(40, 8, 8))
        clf = ProtoPNetClassifier(backbone=backbone, **{**QUICK, "batch_size": 10})
        message = f"must map float32 images .* got {found} for images of shape"
        if door == "predict":
            clf.fit(X[:20], np.arange(20) % 2)
        with pytest.raises(ValueError, match=message):
            clf.fit(X, np.arange(40) % 2) if door == "fit" else clf.predict(X)

    @pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch 2.10
    def test_torchscript_is_refused(self):
        traced = torch.jit.trace(nn.Conv2d(2, 4, 1), torch.zeros(1, 2, 8, 9))
        for module in (traced, nn.Sequential(traced, nn.ReLU())):
            with pytest.raises(TypeError, match="got a TorchScript module, which torch has"):
                architecture(backbone=module).build()

    @pytest.mark.parametrize("name", ["weight", "running_mean"])
    def test_a_module_without_numbers_is_refused(self, name):
        module = nn.BatchNorm2d(2)
        tensor = getattr(module, name).detach().to("meta")
        setattr(module, name, nn.Parameter(tensor) if name == "weight" else tensor)
        with pytest.raises(ValueError, match="backbone must have numbers for parameters"):
            architecture(backbone=module).build()

    @pytest.mark.parametrize("size", [(9, 1), (1, 10)])
    def test_a_prototype_larger_than_the_map_is_refused(self, size):
        message = rf"feature map, which is 8 x 9 for images of 8 x 9 .* got \({size[0]}, {size[1]}"
        with pytest.raises(ValueError, match=message):
            architecture(prototype_size=size).build()

    def test_a_prototype_as_large_as_the_map_is_accepted(self):
        network, _ = architecture(prototype_size=(8, 9)).build()
        assert network.raw_patches(network.backbone(torch.zeros(1, 2, 8, 9))).shape == (
            1,
            1,
            5 * 72,
        )

    def test_a_failed_build_leaves_the_global_random_state_alone(self):
        before = torch.get_rng_state()
        with pytest.raises(ValueError, match="must map float32 images"):
            architecture(backbone=nn.Flatten()).build()
        assert torch.equal(torch.get_rng_state(), before)


def test_the_network_needs_no_architecture():
    classes = torch.tensor([0, 1, 1])
    network = PrototypeNetwork(
        nn.Identity(),
        2,
        classes,
        n_classes=2,
        prototype_depth=4,
        prototype_size=(1, 2),
        similarity=SIMILARITIES["log"],
        n_pooled_patches=2,
    )
    assert network.prototypes.shape == (3, 4, 1, 2)
    distances, logits = network(random(5, 2, 3, 4))
    assert (distances.shape, logits.shape) == ((5, 3), (5, 2))
