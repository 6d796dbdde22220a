"""Precision: how it is chosen, where training steps use it, and what stays exact."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from test_classifier import assert_same_bits
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._network import SIMILARITIES, Architecture, functional, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


class TestChoice:
    @staticmethod
    def on(monkeypatch, device, *, is_able):
        """A machine whose processor or accelerator multiplies in bfloat16, or does not."""
        found = {"avx2": True, "avx512_bf16": is_able, "amx_bf16": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: is_able)
        return device

    @pytest.mark.parametrize("device", [CPU, CUDA, torch.device("meta")], ids=str)
    @pytest.mark.parametrize("is_small", [False, True])
    @pytest.mark.parametrize("is_able", [False, True])
    def test_a_name_is_taken_at_its_word(self, monkeypatch, device, is_small, is_able):
        self.on(monkeypatch, device, is_able=is_able)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            assert resolve_precision(name, device, is_small=is_small) is dtype

    @pytest.mark.parametrize("is_able", [False, True])
    def test_auto_is_bfloat16_where_an_accelerator_multiplies_in_it(self, monkeypatch, is_able):
        self.on(monkeypatch, CUDA, is_able=is_able)
        expected = torch.bfloat16 if is_able else torch.float32
        assert resolve_precision("auto", CUDA, is_small=False) is expected
        assert resolve_precision("auto", CUDA, is_small=True) is torch.float32

    @pytest.mark.parametrize(
        ("found", "of_large", "of_small"),
        [
            ({"avx512_bf16": True}, torch.bfloat16, torch.float32),
            ({"amx_bf16": True}, torch.bfloat16, torch.bfloat16),
            ({"avx512_bf16": True, "avx512_fp16": True}, *[torch.float32] * 2),
            ({"avx512_fp16": True, "amx_bf16": True}, *[torch.bfloat16] * 2),
            ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16, torch.bfloat16),
            ({"avx512_bf16": False, "amx_bf16": False}, torch.float32, torch.float32),
            ({"avx512_fp16": True, "amx_int8": True, "avx512_f": True}, *[torch.float32] * 2),
            ({}, torch.float32, torch.float32),
        ],
        ids=str,
    )
    def test_small_networks_need_a_processor_that_multiplies_matrices(
        self, monkeypatch, found, of_large, of_small
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
        assert resolve_precision("auto", CPU, is_small=False) is of_large
        assert resolve_precision("auto", CPU, is_small=True) is of_small

    def test_a_torch_that_cannot_tell_stays_in_float32(self, monkeypatch):
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        assert resolve_precision("auto", CPU, is_small=False) is torch.float32

    def test_an_emulation_does_not_count(self, monkeypatch):
        asked = []
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda **options: asked.append(options) or False
        )
        assert resolve_precision("auto", CUDA, is_small=False) is torch.float32
        assert asked == [{"including_emulation": False}]

    def test_on_other_devices_auto_is_float32(self, monkeypatch):
        self.on(monkeypatch, CPU, is_able=True)
        device = torch.device("meta")
        assert resolve_precision("auto", device, is_small=False) is torch.float32

    def test_other_names_are_refused(self):
        clf = ProtoPNetClassifier(precision="float16")
        with pytest.raises(ValueError, match="'precision' parameter"):
            clf.fit(np.zeros((3, 4, 4)), [0, 1, 1])


class Watched(nn.Sequential):
    """A backbone that notes how it is run, and in what it computes."""

    notes: ClassVar = []

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            super().__init__(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, images):
        maps = super().forward(images)
        learns, is_autocast = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        self.notes.append((learns, is_autocast, maps.dtype))
        return maps


@pytest.fixture
def notes():
    Watched.notes.clear()
    return Watched.notes


@pytest.fixture(scope="module")
def images():
    y = np.arange(18) % 3
    return np.random.default_rng(0).normal(size=(18, 6, 5)) + y[:, None, None] - 1, y


def same(image):
    return image


def classifier(**changes):
    plain = {
        "backbone": Watched(),
        "prototype_depth": 5,
        "n_prototypes_per_class": 2,
        "pretraining_epochs": 1,
        "warmup_epochs": 1,
        "joint_epochs": 2,
        "projection_interval": 1,
        "batch_size": 9,
        "augment": same,  # so that the warm-up runs the backbone
        "precision": "bfloat16",
        "random_state": 0,
    }
    return ProtoPNetClassifier(**{**plain, **changes})


class TestTraining:
    def test_training_steps_are_in_bfloat16_and_nothing_else_is(self, images, notes):
        X, y = images
        clf = classifier().fit(X, y, X_val=X[:4], y_val=y[:4])
        clf.explain(X)
        clf.refit_last_layer(X, y)
        learning = [note for note in notes if note[0]]
        assert learning == 4 * 2 * [(True, True, torch.bfloat16)]
        others = [note for note in notes if not note[0]]
        assert len(others) > 8
        assert set(others) == {(False, False, torch.float32)}

    def test_float32_never_is(self, images, notes):
        X, y = images
        classifier(precision="float32").fit(X, y, X_val=X[:4], y_val=y[:4])
        assert {(is_autocast, dtype) for _, is_autocast, dtype in notes} == {(False, torch.float32)}
        dtypes = set()

        def note(module, _, output):
            if isinstance(module, nn.Conv2d):
                dtypes.add(output.dtype)

        with register_module_forward_hook(note):
            classifier(backbone="auto", precision="float32", augment=None).fit(X, y)
        assert dtypes == {torch.float32}

    @pytest.mark.parametrize("precision", ["bfloat16", "float32"])
    def test_kept_maps_are_float32_and_what_comes_after_them_is_not(self, images, notes, precision):
        latents = []

        def note(module, inputs, output):
            if isinstance(module, nn.Sigmoid):  # at the end of the add-on layers
                latents.append((torch.is_grad_enabled(), output.dtype))

        epochs = {"pretraining_epochs": 0, "joint_epochs": 0}
        with register_module_forward_hook(note):
            classifier(augment=None, precision=precision, **epochs).fit(*images)
        assert {(learns, dtype) for learns, _, dtype in notes} == {(False, torch.float32)}
        assert {dtype for learns, dtype in latents if learns} == {getattr(torch, precision)}
        assert {dtype for learns, dtype in latents if not learns} == {torch.float32}

    def test_state_and_results_are_in_float32_and_float64(self, images):
        X, y = images
        clf = classifier().fit(X, y)
        dtypes = {value.dtype for value in clf.state_["network"].values()}
        assert dtypes == {np.dtype("float32")}
        assert clf.prototypes_.dtype == np.float32
        assert clf.transform(X).dtype == clf.decision_function(X).dtype == np.float64

    @pytest.mark.parametrize("similarity", ["log", "cosine"])
    @pytest.mark.parametrize("prototype_size", [(1, 1), (2, 3)])
    def test_prototypes_are_exactly_their_patches(self, images, similarity, prototype_size):
        X, y = images
        changes = {"similarity": similarity, "prototype_size": prototype_size}
        clf = classifier(n_pooled_patches=1, **changes).fit(X, y)
        assert clf.prototype_distances_.tolist() == 6 * [0.0]
        own = clf.transform(X[clf.prototype_sample_indices_]).diagonal()
        best = {"log": math.log(1 / 1e-4), "cosine": 1.0}[similarity]
        np.testing.assert_allclose(own, best, rtol=1e-14)

    def test_an_autocast_of_the_callers_changes_nothing(self, images):
        """It would keep weights in bfloat16 from one step to the next."""
        expected = classifier().fit(*images)
        with torch.autocast("cpu", torch.bfloat16):
            clf = classifier().fit(*images)
        assert_same_bits(clf, expected)

    def test_it_makes_a_difference_and_the_same_one_twice(self, images):
        X, y = images
        # Prototypes start at patches, where the log similarity tells what is left by rounding.
        one, other, single = (
            classifier(precision=name, similarity="linear").fit(X, y)
            for name in ("bfloat16", "bfloat16", "float32")
        )
        assert_same_bits(one, other)
        assert np.array_equal(one.decision_function(X), other.decision_function(X))
        losses, others = np.array(one.loss_curve_), np.array(single.loss_curve_)
        assert (losses != others).all()
        # A significand of eight bits: a rounding is of at most 0.4 %. Projections may differ.
        np.testing.assert_allclose(losses[:2], others[:2], rtol=0.004)


class TestStep:
    """A training step as the network sees it."""

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_distances_are_those_of_its_patches_in_float32(self, similarity):
        network, _ = Architecture(
            Watched(), (6, 5, 1), 3, (0, 0, 1, 1, 2, 2), 5, (1, 1), similarity
        ).build()
        images = torch.rand(7, 1, 6, 5, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            maps = network.backbone(images)
            patches = network.raw_patches(maps)
            distances, logits = network(maps)
        assert maps.dtype == patches.dtype == torch.bfloat16
        assert distances.dtype == logits.dtype == torch.float32
        expected = functional.squared_distances(
            network.comparable(patches.float()), network.comparable(network.prototypes.flatten(1))
        ).amin(2)
        assert torch.equal(distances, expected)
        similarities = SIMILARITIES[similarity].function(expected)
        assert torch.equal(logits, similarities @ network.head.float().T)

    def test_gradients_of_all_parts_are_float32(self):
        network, _ = Architecture(
            Watched(), (6, 5, 1), 3, (0, 0, 1, 1, 2, 2), 5, (1, 1), "log"
        ).build()
        images = torch.rand(7, 1, 6, 5, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            _, logits = network(network.backbone(images))
        logits.square().sum().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert all((gradient != 0).any() for gradient in gradients)
