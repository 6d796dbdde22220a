"""The key of a training: all that its network depends on, and nothing else."""

import copy
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
from sklearn_protopnet._network import Architecture
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


def labelled(pixels=None, labels=None, weights=None):
    if pixels is None:
        pixels = np.arange(96).reshape(6, 4, 4, 1)
    labels = np.arange(6) % 2 if labels is None else labels
    weights = np.ones(6) if weights is None else weights
    images = ArrayImages(pixels)
    members = canonical_training_set(images.survey.digests, labels, weights)
    standard = Standardization.of(images.survey, members.rows, members.weights)
    return LabelledImages(ImageSource(images, standard), members)


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

    def test_the_key_is_the_same_in_another_process(self):
        code = (
            "from test_training_task import Backbone, task\n"
            "print(task(backbone=Backbone()).key(), task().key())"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": "12345"},  # sets are in another order there
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert printed == f"{task(backbone=Backbone()).key()} {task().key()}\n"

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
        with pytest.raises(ValueError, match=r"memory needs a backbone that can be pickled.*Backb"):
            task(backbone=module).key()
