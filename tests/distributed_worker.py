"""What each of two processes does in `test_distributed.py`, which starts it with ``torchrun``."""

import pickle
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from quick import QUICK
from test_callbacks import Silent
from torch import distributed, nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._ranks import Ranks, share_statistics, unshare_statistics
from sklearn_protopnet.editing import PrototypeEditor

STILL = {**QUICK, "pretraining_epochs": 0, "warmup_epochs": 0, "joint_epochs": 0}
SLOW = {
    **QUICK,
    "pretraining_epochs": 2,
    "warmup_epochs": 2,
    "joint_epochs": 3,
    "projection_interval": 2,
    "learning_rate": 1e-5,
    "similarity": "linear",
    "precision": "float32",  # bfloat16 has more rounding, where a processor has it
}
USUAL = {
    "n_prototypes_per_class": 3,
    "prototype_depth": 32,
    "pretraining_epochs": 20,
    "warmup_epochs": 4,
    "joint_epochs": 10,
    "random_state": 0,
}
FITS = {
    "still": STILL,
    "slow": SLOW,
    "augmented": {**SLOW, "augment": "no_flip"},
    "stopped": {**SLOW, "similarity": "log", "early_stopping": True, "n_iter_no_change": 1},
    "frozen": {
        **SLOW,
        "backbone_learning_rate": 0.0,
        "pretraining_epochs": 0,
    },
    "usual": USUAL,
}
"""Fits whose results are compared with those of one process.

Most have the linear similarity: at a prototype's own patch, the log makes much of rounding."""


class Stop(Silent):
    """Wants the training to end after its first epoch, in one process only."""

    def __init__(self, rank):
        self.rank = rank

    def on_fit_task_end(self, estimator, context):
        is_here = distributed.get_rank() == self.rank
        return is_here and context.task_name in {"epoch", "pretraining"}


class Press(Silent):
    """Presses Ctrl-C at the end of the third epoch, in one process only."""

    def __init__(self, rank):
        self.rank, self.n_left = rank, 3

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.n_left -= 1
            if self.n_left == 0 and distributed.get_rank() == self.rank:
                signal.raise_signal(signal.SIGINT)


def layer_and_batch(n_dims):
    """Draw a layer, a batch of so many dimensions, and factors of a sum over what comes out."""
    torch.manual_seed(0)
    classes = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    layer = classes[n_dims](3)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    batch = torch.randn(7, 3, *range(4, 2 + n_dims))
    return layer, batch, torch.randn_like(batch)


def normalisation(n_dims):
    """Give what a layer does to a batch of which this process has a part, and its gradients."""
    layer, batch, factors = layer_and_batch(n_dims)
    own_class = type(layer)
    ranks = Ranks.now(torch.device("cpu"))
    rows = ranks.part(np.arange(7))
    share_statistics(layer, ranks)
    assert type(layer) is not own_class
    own = batch[rows].clone().requires_grad_()
    output = layer(own)
    (factors[rows] * output).sum().backward()
    ranks.add_up([layer.weight.grad, layer.bias.grad])
    unshare_statistics(layer)
    assert type(layer) is own_class
    arrays = {
        "output": output,
        "gradient": own.grad,
        "weight": layer.weight.grad,
        "bias": layer.bias.grad,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }
    return {name: value.detach().numpy() for name, value in arrays.items()}


def trained_on(X, y):
    """Train on from an edited classifier."""
    clf = ProtoPNetClassifier(**{**SLOW, "similarity": "log", "warm_start": True}).fit(X, y)
    edited = PrototypeEditor(clf, X, y).forbid(0).require(2, min_weight=1.0).classifier_
    return edited.fit(X, y)


def error_of(clf, X, y):
    try:
        clf.fit(X, y)
    except ValueError as error:
        return str(error)
    return None


def drawn_next(X, y):
    """Say what a random state that was given draws after a fit."""
    random_state = np.random.RandomState(0)
    ProtoPNetClassifier(**{**STILL, "random_state": random_state}).fit(X, y)
    return random_state.randint(1000)


def main(folder):
    """Fit, and leave what comes of it in the folder."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    data = np.load(folder / "data.npz")
    X, y = data["X"], data["y"]
    found = {name: ProtoPNetClassifier(**settings).fit(X, y) for name, settings in FITS.items()}
    found["edited"] = trained_on(X, y)
    found["normalisation"] = {n_dims: normalisation(n_dims) for n_dims in (2, 3, 4, 5)}
    drawn = {**QUICK, "random_state": None}
    found["drawn"] = ProtoPNetClassifier(**drawn).fit(X, y)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    images = X.reshape(-1, 8, 8)
    found["drawn next"] = drawn_next(X, y)
    found["module"] = ProtoPNetClassifier(**SLOW, backbone=module).fit(images, y)
    states = {"checkpoint": folder / "states", "checkpoint_interval": 0.0}
    places = {"memory": str(folder / "memory"), **states}
    found["kept"] = ProtoPNetClassifier(**SLOW, **places).fit(X, y)
    found["cached"] = ProtoPNetClassifier(**SLOW, **places).fit(X, y)
    found["files"] = len(list((folder / "states").iterdir()))
    found["cut"] = ProtoPNetClassifier(**SLOW).set_callbacks(Stop(1)).fit(X, y).set_callbacks()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pressed = ProtoPNetClassifier(**SLOW, **states).set_callbacks(Press(1))
        found["pressed"] = pressed.fit(X, y).n_iter_
    found["warnings"] = [str(each.message) for each in caught]
    distributed.barrier()
    found["states"] = len(list((folder / "states").iterdir()))
    distributed.barrier()
    found["resumed"] = pressed.set_callbacks().fit(X, y)
    found["few"] = ProtoPNetClassifier(**SLOW).fit(X[:2], [0, 1])
    others = y if rank == 0 else y[::-1]
    different = {
        "similarity": "log" if rank == 0 else "cosine",
        "n_pooled_patches": 1 + rank,
        "augment": None if rank == 0 else "no_flip",
        "n_prototypes_per_class": 2 + rank,
        "l1_weight": 1e-3 * (1 + rank),
    }
    found["different"] = {
        name: error_of(ProtoPNetClassifier(**{**SLOW, name: value}), X, y)
        for name, value in different.items()
    }
    frozen = {**SLOW, "pretraining_epochs": 0, "backbone_learning_rate": 0.0, "backbone": module}
    maps = str(folder / "maps")
    found["frozen module"] = ProtoPNetClassifier(**frozen, memory=maps).fit(images, y)
    fresh = {**SLOW, "pretraining_epochs": 0, "backbone": module}
    found["fresh module"] = ProtoPNetClassifier(**fresh).fit(images, y)
    found["others"] = error_of(ProtoPNetClassifier(**SLOW), X, others)
    (folder / f"rank{rank}").write_bytes(pickle.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
