"""Train CaBRNet's ProtoPNet; run by `cabrnet_procedure` in CaBRNet's environment.

``python cabrnet_worker.py FOLDER WARMUP_EPOCHS JOINT_EPOCHS BACKBONE_RATE SEED N_ON_THE_WAY``
prints JSON as its last line.

Everything is CaBRNet's own: network, loss, optimisers, `train_epoch` with its projection and its
passes over the last layer. The configuration is the one that it publishes for ProtoPNet on
CUB-200-2011, with its similarity and BatchNorm outside of the compatibility mode (a frozen
BatchNorm stays frozen), a ResNet-18 with random weights, 5 warm-up and 10 joint epochs, batches
of 80, and the projection after the last epoch, once. What its `training_loop` adds to that is
left out, in its favour: checkpoints, tensorboard logs, a second projection, evaluations. Images
are tensors in memory already, and no worker process feeds them: on two cores that is fastest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cabrnet.archs.generic.model import CaBRNet
from cabrnet.core.utils.optimizers import OptimizerManager
from loguru import logger
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZE = 80
DEPTH = 128


def convolution() -> dict[str, Any]:
    """Configure a 1x1 convolution of the add-on layers."""
    return {"type": "Conv2d", "params": {"out_channels": DEPTH, "kernel_size": 1, "bias": True}}


def architecture(n_classes: int) -> dict[str, Any]:
    """CaBRNet's configuration of the network."""
    return {
        "top_arch": {"module": "cabrnet.archs.protopnet.model", "name": "ProtoPNet"},
        "extractor": {
            # "None", not null: that fails in os.path.isfile.
            "backbone": {"arch": "resnet18", "layer": "layer4", "weights": "None"},
            "add_on": {
                "init_mode": "PROTOPNET",
                "conv1": convolution(),
                "act1": {"type": "ReLU"},
                "conv2": convolution(),
                "act2": {"type": "Sigmoid"},
            },
        },
        "similarity": {"name": "ProtoPNetSimilarity"},
        "classifier": {
            "module": "cabrnet.archs.protopnet.decision",
            "name": "ProtoPNetClassifier",
            "params": {
                "num_classes": n_classes,
                "num_features": DEPTH,
                "num_proto_per_class": 10,
                "proto_init_mode": "UNIFORM",
            },
        },
    }


def training(warmup_epochs: int, joint_epochs: int, backbone_rate: float) -> dict[str, Any]:
    """CaBRNet's configuration of the training."""
    n_epochs = warmup_epochs + joint_epochs
    new_parts = {
        "addons": {"lr": 3e-3, "weight_decay": 1e-3},
        "prototypes": {"lr": 3e-3},
    }
    backbone = {"lr": backbone_rate, "weight_decay": 1e-3}
    return {
        "param_groups": {
            "backbone": "extractor.convnet",
            "addons": "extractor.add_on",
            "prototypes": "classifier.prototypes",
            "last_layer": "classifier.last_layer",
        },
        "optimizers": {
            "warmup_optimizer": {"type": "Adam", "groups": new_parts},
            "joint_optimizer": {
                "type": "Adam",
                "groups": {"backbone": backbone, **new_parts},
                "scheduler": {"type": "StepLR", "params": {"step_size": 5, "gamma": 0.1}},
            },
            "last_layer_optimizer": {"type": "Adam", "groups": {"last_layer": {"lr": 1e-4}}},
        },
        "num_epochs": n_epochs,
        "periods": {
            "warmup": {
                "epoch_range": [0, warmup_epochs - 1],
                "freeze": ["backbone", "last_layer"],
                "optimizers": "warmup_optimizer",
            },
            "main_training": {
                "epoch_range": [warmup_epochs, n_epochs - 1],
                "freeze": "last_layer",
                "optimizers": "joint_optimizer",
            },
        },
        "auxiliary_info": {
            "loss_coefficients": {
                "clustering": 0.8,
                "separability": -0.08,
                "regularization": 1e-4,
            },
            "projection_config": {
                "start_epoch": n_epochs - 1,
                "frequency": 10,
                "num_ft_epochs": 20,
            },
        },
    }


class Stopwatch:
    """Adds up the seconds of CaBRNet's methods by the phase that they run in."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.phase = ""

    def time(self, method: Callable[..., Any], phase: str | None = None) -> Callable[..., Any]:
        """Wrap a method; what comes after a projection is the last layer."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = method(*args, **kwargs)
            key = phase or self.phase
            self.seconds[key] = self.seconds.get(key, 0) + time.perf_counter() - start
            if phase == "projection":
                self.phase = "last_layer"
            return result

        return timed


def main(
    folder: str,
    warmup_epochs: int,
    joint_epochs: int,
    backbone_rate: float,
    seed: int,
    n_on_the_way: int,
) -> None:
    """Train, score, print; after every epoch also score so many test images, out of time."""
    logger.remove()
    X, y, X_test, y_test = (
        torch.from_numpy(np.load(Path(folder) / f"{name}.npy"))
        for name in ("X", "y", "X_test", "y_test")
    )
    images = TensorDataset(X, y)
    loaders = {
        "train_set": DataLoader(images, BATCH_SIZE, shuffle=True),
        "projection_set": DataLoader(images, BATCH_SIZE),
        "test_set": DataLoader(TensorDataset(X_test, y_test), BATCH_SIZE),
    }
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = CaBRNet.build_from_config(architecture(int(y.max()) + 1))
    configuration = training(warmup_epochs, joint_epochs, backbone_rate)
    model.register_training_params(configuration)
    optimizers = OptimizerManager.build_from_config(configuration, model)
    few = TensorDataset(X_test[:n_on_the_way], y_test[:n_on_the_way])
    on_the_way = {"test_set": DataLoader(few, BATCH_SIZE)}
    curve: list[tuple[float, float]] = []
    watch = Stopwatch()
    model._train_epoch = watch.time(model._train_epoch)
    model.project = watch.time(model.project, "projection")
    for epoch in range(warmup_epochs + joint_epochs):
        watch.phase = "warmup" if epoch < warmup_epochs else "joint"
        optimizers.freeze(epoch=epoch)
        info = model.train_epoch(loaders, optimizers, device="cpu", epoch_idx=epoch)
        optimizers.scheduler_step(epoch=epoch, metric=info["train_set/accuracy"])
        seconds = time.perf_counter() - start
        found = model.evaluate(on_the_way, device="cpu")
        curve.append((seconds, found["test_set/accuracy"]))
        start = time.perf_counter() - seconds
    watch.seconds["total"] = time.perf_counter() - start
    scores = model.evaluate(loaders, device="cpu")
    found = {
        "seconds": watch.seconds,
        "accuracy": scores["test_set/accuracy"],
        "curve": curve,
        "versions": {"torch": torch.__version__, "threads": torch.get_num_threads()},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    path, warmup, joint, rate, number, few = sys.argv[1:]
    main(path, int(warmup), int(joint), float(rate), int(number), int(few))
