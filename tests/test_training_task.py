"""The key of a training: all that its network depends on, and nothing else."""

import copy
import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from sklearn_protopnet._images import ArrayImages, ImageSource, Standardization
from sklearn_protopnet._network import Architecture, _weights
from sklearn_protopnet._training import (
    LabelledImages,
    Settings,
    TrainingTask,
    canonical_training_set,
)

SETTINGS = Settings(
    pretraining_epochs=1,
    warmup_epochs=2,
    joint_epochs=4,
    projection_interval=4,
    learning_rate=1e-3,
    backbone_learning_rate=1e-4,
    decay_factor=0.1,
    decay_interval=3,
    weight_decay=1e-3,
    batch_size=10,
    cluster_weight=0.8,
    separation_weight=0.08,
    l1_weight=1e-4,
    l2_weight=1e-3,
    freeze_statistics=False,
    patience=None,
)
ARCHITECTURE = Architecture("auto", (4, 4, 1), 2, 2, 8, (1, 1), "log")


class Backbone(nn.Module):
    def __init__(self, rate=0.5):
        super().__init__()
        self.rate = rate
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(rate))

    def extra_repr(self):
        return "kind" if self.rate in {"one", "two", "three", "four"} else ""


def brighter(image, by=0.5, *, at_most=1.0):
    return (image + by).clamp(max=at_most)


def brightened(by):
    """A function that encloses a value."""

    def change(image):
        return image + by

    return change


class Brighten:
    """A callable with an attribute, and methods that may be given in its place."""

    limit = 1.0

    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return self.plainly(image)

    def plainly(self, image):
        return (image + self.by).clamp(max=self.limit)


CHANGES = (brighter, brightened(0.5), Brighten(0.5), Brighten(0.5).plainly, v2.GaussianBlur(3))
"""Callables of every kind."""


def of_body(body, kind="def apply(image): return {}"):
    """A function of another text, under the same name."""
    space = {}
    exec(kind.format(body), space)
    return space["apply"]


def labelled(pixels=None, labels=None, weights=None):
    if pixels is None:
        pixels = np.arange(96).reshape(6, 4, 4, 1)
    labels = np.arange(6) % 2 if labels is None else labels
    weights = np.ones(6) if weights is None else weights
    images = ArrayImages(pixels)
    members = canonical_training_set(images.survey.digests, labels, weights)
    standard = Standardization.of(images.survey, members.rows, members.weights)
    return LabelledImages(ImageSource(images, standard), members)


def standardized_otherwise():
    """The images of `labelled`, standardised as published weights expect bytes."""
    images = labelled()
    standard = Standardization(np.array([127.0]), np.array([128.0]))
    return LabelledImages(ImageSource(images.source.images, standard), images.members)


def task(**changes):
    """A task with other settings, architecture or fields."""
    fields = {
        "images": labelled(),
        "validation": None,
        "augment": None,
        "seed": 0,
        "device": torch.device("cpu"),
        "precision": torch.float32,
    }
    architecture = {k: changes.pop(k) for k in list(changes) if k in vars(ARCHITECTURE)}
    settings = {k: changes.pop(k) for k in list(changes) if k in vars(SETTINGS)}
    return TrainingTask(
        architecture=replace(ARCHITECTURE, **architecture),
        settings=replace(SETTINGS, **settings),
        **{**fields, **changes},
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"pretraining_epochs": 2},
        {"warmup_epochs": 1},
        {"joint_epochs": 3},
        {"projection_interval": 2},
        {"learning_rate": 2e-3},
        {"backbone_learning_rate": 0.0},
        {"decay_factor": 0.2},
        {"decay_interval": 2},
        {"weight_decay": 0.0},
        {"batch_size": 11},
        {"cluster_weight": 0.7},
        {"separation_weight": 0.0},
        {"freeze_statistics": True},
        {"patience": 3},
        {"augment": "paper"},
        {"augment": v2.GaussianBlur(3)},
        {"precision": torch.bfloat16},
        {"backbone": "resnet18"},
        {"backbone": nn.Conv2d(1, 3, 3)},
        {"weights": "imagenet"},
        {"feature_stride": 2},
        {"n_prototypes_per_class": 3},
        {"prototype_depth": 9},
        {"prototype_size": (2, 1)},
        {"similarity": "linear"},
        {"seed": 1},
        {"device": torch.device("meta")},
        {"validation": labelled()},
        {"images": labelled(pixels=np.arange(96)[::-1].reshape(6, 4, 4, 1))},
        {"images": labelled(labels=np.array([0, 1, 0, 1, 1, 1]))},
        {"images": standardized_otherwise()},
        {"images": labelled(weights=np.array([1, 1, 1, 1, 1, 2.0]))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_influences_the_network_is_in_the_key(changes):
    assert task(**changes).key() != task().key()


@pytest.mark.parametrize(
    "changes",
    [
        {"l1_weight": 0.5},
        {"l2_weight": 0.5},
        {"projection_interval": 100},  # one round either way
        {"decay_interval": np.int64(3)},
        {"learning_rate": np.float64(1e-3)},
        {"images": labelled(pixels=np.arange(96.0, dtype=np.float32).reshape(6, 4, 4, 1))},
        {"images": labelled(weights=np.full(6, 7.0))},
    ],
    ids=str,
)
def test_nothing_else_is_in_the_key(changes):
    assert task(**changes).key() == task().key()


@pytest.mark.parametrize("augment", ["paper", brighter])
def test_what_varies_images_may_look_at_their_dtype(augment):
    """Bytes are rounded when they are turned, and floats are not."""
    pixels = np.arange(96).reshape(6, 4, 4, 1)
    dtypes = (np.uint8, np.int64, np.float32, np.float64)
    sets = [labelled(pixels.astype(dtype)) for dtype in dtypes]
    assert len({task(images=images, augment=augment).key() for images in sets}) == len(dtypes)
    assert len({task(images=images).key() for images in sets}) == 1


def test_the_order_of_rows_is_not_in_the_key():
    order = np.array([3, 1, 5, 0, 2, 4])
    shuffled = labelled(np.arange(96).reshape(6, 4, 4, 1)[order], (np.arange(6) % 2)[order])
    assert task(images=shuffled).key() == task().key()


@pytest.mark.parametrize("name", ["l1_weight", "l2_weight"])
def test_between_two_rounds_the_last_layer_counts(name):
    rounds = {"projection_interval": 2}
    assert task(**rounds, **{name: 0.5}).key() != task(**rounds).key()


def test_without_pretraining_a_rate_may_not_matter():
    still = {"pretraining_epochs": 0, "warmup_epochs": 0, "joint_epochs": 0}
    assert task(**still, learning_rate=1.0).key() == task(**still).key()


class TestModules:
    def test_copies_have_one_key(self):
        module = Backbone()
        assert task(backbone=module).key() == task(backbone=copy.deepcopy(module)).key()

    def test_parameters_statistics_and_attributes_are_in_the_key(self):
        key = task(backbone=Backbone()).key()
        modules = [Backbone() for _ in range(4)]
        with torch.no_grad():
            modules[0].layers[0].weight[0, 0, 0, 0] += 1e-6
            modules[1].layers[1].running_mean += 1
        modules[2].layers[0].weight.requires_grad_(False)
        modules[3].rate = 0.25
        keys = {task(backbone=module).key() for module in modules}
        assert len(keys | {key}) == 5

    def test_parameters_that_are_one_are_in_the_key(self):
        tied, untied = (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)) for _ in "ab")
        untied.load_state_dict(tied.state_dict())
        untied[1].load_state_dict(tied[0].state_dict())
        tied[1].weight, tied[1].bias = tied[0].weight, tied[0].bias
        assert tied.state_dict().keys() == untied.state_dict().keys()
        assert task(backbone=tied).key() != task(backbone=untied).key()

    def test_the_mode_is_not_in_the_key(self):
        module = Backbone()
        key = task(backbone=module).key()
        assert task(backbone=module.eval()).key() == key
        module.train()
        task(backbone=module).key()
        assert all(part.training for part in module.modules())

    def test_the_code_of_a_module_is_in_the_key(self):
        keys = set()
        for body in ("images + 1", "images + 2", "[image.sin() for image in images]"):
            code = f"def forward(self, images):\n    return {body}"
            space = {}
            exec(code, space)
            cls = type("Other", (Backbone,), {**space, "__module__": __name__})
            globals()["Other"] = cls  # for pickle to find it
            keys.add(task(backbone=cls()).key())
        del globals()["Other"]
        assert len(keys) == 3

    def test_half_precision_and_scalars_are_hashed(self):
        module = nn.Conv2d(1, 1, 1).to(torch.bfloat16)
        module.register_buffer("scalar", torch.tensor(3))
        other = copy.deepcopy(module)
        other.scalar += 1
        assert task(backbone=module).key() != task(backbone=other).key()

    def test_a_module_that_cannot_be_pickled_is_named(self):
        module = Backbone()
        module.function = lambda x: x
        message = r"memory needs a value of backbone that can be pickled, got .* from Backbone"
        with pytest.raises(ValueError, match=message):
            task(backbone=module).key()


class TestAugmentations:
    @pytest.mark.parametrize("kind", ["def apply(image): return {}", "apply = lambda image: {}"])
    def test_the_code_of_a_function_is_in_the_key(self, kind):
        bodies = ("image + 1", "image + 2", "image - 1", "image.flip(2)", "image.flip(1)")
        bodies += ("[value.sin() for value in image]", "[value.cos() for value in image]")
        keys = [task(augment=of_body(body, kind)).key() for body in bodies]
        assert len(set(keys)) == len(bodies)
        assert keys == [task(augment=of_body(body, kind)).key() for body in bodies]

    def test_what_a_function_encloses_is_in_the_key(self):
        by = [0.5, 1.0, None, "much", torch.tensor([1.0]), torch.tensor([2.0]), np.ones(2)]
        keys = [task(augment=brightened(value)).key() for value in by]
        assert len(set(keys)) == len(by)
        assert keys == [task(augment=brightened(copy.deepcopy(value))).key() for value in by]

    def test_defaults_are_in_the_key(self):
        keys = set()
        for arguments in ("image, by=1", "image, by=2", "image, *, by=1", "image, *, by=2"):
            kind = f"def apply({arguments}): return {{}}"
            keys.add(task(augment=of_body("image + by", kind)).key())
        assert len(keys) == 4

    def test_arguments_and_code_of_a_partial_function_are_in_the_key(self, monkeypatch):
        functions = [
            functools.partial(brighter, by=1.0),
            functools.partial(brighter, by=2.0),
            functools.partial(brighter, at_most=1.0),
            brighter,
        ]
        keys = {task(augment=function).key() for function in functions}
        assert len(keys) == 4
        assert task(augment=functools.partial(brighter, by=1.0)).key() in keys
        darker = of_body("image - by", "def apply(image, by=0.5): return {}")
        darker.__name__ = darker.__qualname__ = "brighter"
        darker.__module__ = __name__
        monkeypatch.setitem(globals(), "brighter", darker)
        assert task(augment=functools.partial(darker, by=1.0)).key() not in keys

    def test_the_object_of_a_method_is_in_the_key(self):
        keys = {task(augment=Brighten(by).plainly).key() for by in (0.5, 0.5, 1.0)}
        assert len(keys) == 2

    def test_attributes_of_an_object_are_in_the_key(self):
        keys = {task(augment=Brighten(by)).key() for by in (0.5, 0.5, 1.0)}
        assert len(keys) == 2

    @pytest.mark.parametrize(
        "members",
        [
            {"__call__": of_body("image", "def apply(self, image): return {}")},
            {"plainly": of_body("image", "def apply(self, image): return {}")},
            {"helper": of_body("image")},
            {"helper": staticmethod(of_body("image"))},
            {"helper": staticmethod(of_body("image + 1"))},
            {"helper": classmethod(of_body("image"))},
            {"helper": property(of_body("image"))},
            {"limit": 2.0},
            {"limit": "none"},
        ],
        ids=lambda members: f"{next(iter(members))} {type(next(iter(members.values()))).__name__}",
    )
    @pytest.mark.parametrize("make", [lambda cls: cls(1), lambda cls: cls(1).plainly])
    def test_the_code_of_a_class_is_in_the_key(self, monkeypatch, members, make):
        keys = set()
        for changes in ({}, members, {"helper": staticmethod(of_body("image + 2"))}):
            cls = type("Other", (Brighten,), {**changes, "__module__": __name__})
            monkeypatch.setitem(globals(), "Other", cls)  # for pickle to find it
            keys.add(task(augment=make(cls)).key())
        assert len(keys) == 3

    def test_options_of_torchvisions_are_in_the_key(self):
        transforms = [v2.RandomRotation(15), v2.RandomRotation(10), v2.RandomHorizontalFlip()]
        transforms += [
            v2.Compose(transforms),
            v2.RandomChoice(transforms),
            "paper",
            "no_flip",
            None,
        ]
        assert len({task(augment=transform).key() for transform in transforms}) == 8
        assert task(augment=v2.RandomRotation(15)).key() == task(augment=transforms[0]).key()

    def test_one_that_cannot_be_pickled_is_named(self):
        message = r"memory needs a value of augment that can be pickled, got an error from Compose"
        with pytest.raises(ValueError, match=message):
            task(augment=v2.Compose([lambda image: image])).key()


class TestWeights:
    @pytest.fixture
    def path(self, tmp_path):
        torch.save({"weight": torch.ones(3)}, tmp_path / "one.pt")
        return tmp_path / "one.pt"

    def test_a_file_is_known_by_its_content(self, path, tmp_path):
        key = task(weights=str(path)).key()
        assert key != task().key()
        other = tmp_path / "other.pt"
        other.write_bytes(path.read_bytes())
        assert task(weights=str(other)).key() == key
        torch.save({"weight": torch.full((3,), 2.0)}, path)
        assert task(weights=str(path)).key() != key
        assert task(weights=str(other)).key() == key

    def test_a_path_may_be_relative_or_begin_at_home(self, path, monkeypatch):
        key = task(weights=str(path)).key()
        monkeypatch.chdir(path.parent)
        monkeypatch.setenv("HOME", str(path.parent))
        assert task(weights=path.name).key() == task(weights=f"~/{path.name}").key() == key

    def test_published_ones_are_known_by_their_network(self):
        names = ("resnet18", "resnet34", "efficientnet_lite0")
        keys = {task(weights="imagenet", backbone=name).key() for name in names}
        assert len(keys | {task(backbone=name).key() for name in names}) == 6

    def test_another_version_of_their_package_has_another_key(self, monkeypatch):
        efficientnet = {"weights": "imagenet", "backbone": "efficientnet_lite0"}
        real, key = _weights.version, task(**efficientnet).key()
        assert task(**efficientnet).key() == key
        monkeypatch.setattr(_weights, "version", lambda name: f"{real(name)}.1")
        assert task(**efficientnet).key() != key

        def missing(name):
            raise _weights.PackageNotFoundError

        monkeypatch.setattr(_weights, "version", missing)
        assert task(**efficientnet).key() != key

    def test_a_module_with_weights_has_both_in_its_key(self, path, tmp_path):
        keys = {
            task(backbone=backbone, weights=weights).key()
            for backbone in (Backbone(0.5), Backbone(0.25))
            for weights in (None, str(path))
        }
        assert len(keys) == 4


class TestPlainParameters:
    def test_every_stride_has_a_key(self):
        strides = (None, 1, 2, 4)
        assert len({task(feature_stride=stride).key() for stride in strides}) == 4
        assert task(feature_stride=2).key() == task(feature_stride=np.int64(2)).key()

    def test_every_precision_has_a_key(self):
        assert len({task(precision=dtype).key() for dtype in (torch.float32, torch.bfloat16)}) == 2


def keys_of_all_kinds(path):
    return [
        task().key(),
        task(backbone=Backbone()).key(),
        task(weights=str(path), feature_stride=2, precision=torch.bfloat16).key(),
        *(task(augment=change).key() for change in CHANGES),
        task(augment=functools.partial(brighter, by=1.0)).key(),
    ]


def test_keys_are_the_same_in_another_process(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"weight": torch.ones(3)}, path)
    code = (
        "from test_training_task import keys_of_all_kinds\n"
        f"print(*keys_of_all_kinds({str(path)!r}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={"PYTHONHASHSEED": "12345"},  # sets are in another order there
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert printed.split() == keys_of_all_kinds(path)
    assert len(set(printed.split())) == 4 + len(CHANGES)
