"""The paper's procedure in plain PyTorch, which the benchmarks of speed compare with.

It does what the original code does, without its figures and logs: float32, features recomputed
in every epoch, the expanded distance by convolutions, a projection that loops over prototypes on
the CPU, 20 passes of the whole network for the last layer. Nothing is slower than it must be for
that: what is frozen gets no gradient, costs without one are not computed. As in the original, batch
normalisation works with the statistics of the batch in the warm-up, too.

Shapes: N images of a batch, P prototypes, K classes, D depth, H x W feature map.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

BATCH_SIZE = 80
EPSILON = 1e-4
WEIGHT_DECAY = 1e-3
CLUSTER_WEIGHT, SEPARATION_WEIGHT, L1_WEIGHT = 0.8, 0.08, 1e-4
LAST_LAYER_PASSES, LAST_LAYER_RATE = 20, 1e-4
DECAY_INTERVAL, DECAY_FACTOR = 5, 0.1


@dataclass(frozen=True)
class Rates:
    """Adam's rates in stage 1; those of the paper unless stated."""

    backbone: float = 1e-4
    new_parts: float = 3e-3
    """Add-on layers and prototypes."""


class Stopwatch:
    """Seconds of a training, by its phases and up to its tests, which do not count.

    Parameters
    ----------
    test : callable
        Gives the accuracy on images that are looked at on the way.
    """

    def __init__(self, test: Callable[[nn.Module], float]) -> None:
        self.test = test
        self.seconds: dict[str, float] = {}
        self.curve: list[tuple[float, float]] = []
        """Seconds, and the accuracy after them."""
        self.start = time.perf_counter()

    @property
    def now(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what happens to a phase."""
        start = self.now
        yield
        self.seconds[name] = self.now - start

    def look(self, network: nn.Module) -> None:
        """Test a network, out of time, in the modes that its modules are in."""
        seconds = self.now
        modes = {module: module.training for module in network.modules()}
        self.curve.append((seconds, self.test(network)))
        for module, is_training in modes.items():
            module.training = is_training
        self.start = time.perf_counter() - seconds


@dataclass(frozen=True)
class Fit:
    """What a training gave, and what it took."""

    accuracy: float
    seconds: dict[str, float]
    """Of phases, and ``total``."""
    curve: list[tuple[float, float]]
    """Seconds, and the accuracy after them on the images for the way."""


class PaperNetwork(nn.Module):
    """ResNet-18 with random weights, add-on layers, 1x1 prototypes, linear head.

    Parameters
    ----------
    n_classes : int
    n_prototypes_per_class : int
    depth : int
        D.
    """

    ones: Tensor
    own: Tensor

    def __init__(self, n_classes: int, n_prototypes_per_class: int = 10, depth: int = 128) -> None:
        super().__init__()
        self.backbone = resnet18_without_head()
        self.add_on = nn.Sequential(
            nn.Conv2d(512, depth, 1), nn.ReLU(), nn.Conv2d(depth, depth, 1), nn.Sigmoid()
        )
        for layer in self.add_on[::2]:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        n_prototypes = n_classes * n_prototypes_per_class
        self.prototypes = nn.Parameter(torch.rand(n_prototypes, depth, 1, 1))
        self.head = nn.Linear(n_prototypes, n_classes, bias=False)
        owners = torch.arange(n_prototypes) // n_prototypes_per_class  # (P,)
        self.register_buffer("ones", torch.ones(n_prototypes, depth, 1, 1))
        self.register_buffer("own", torch.arange(n_classes)[:, None] == owners)  # (K, P)
        self.head.weight.data.copy_(torch.where(self.own, 1.0, -0.5))

    def features(self, images: Tensor) -> Tensor:
        """Latent maps (N, D, H, W)."""
        return self.add_on(self.backbone(images))

    def distances(self, features: Tensor) -> Tensor:
        """Squared distance of every patch to every prototype, (N, P, H, W)."""
        return convolution_distances(features, self.prototypes, self.ones)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and distances of the nearest patches (N, P)."""
        nearest = nearest_distances(self.distances(self.features(images)))
        return self.head(log_similarity(nearest)), nearest


def resnet18_without_head() -> nn.Sequential:
    """ResNet-18 with random weights from the global generator, up to its last feature map."""
    layers = resnet18(weights=None).named_children()
    return nn.Sequential(*(layer for name, layer in layers if name not in {"avgpool", "fc"}))


def convolution_distances(features: Tensor, prototypes: Tensor, ones: Tensor) -> Tensor:
    """``|z|^2 - 2 z.p + |p|^2`` as the original code computes it, with two convolutions.

    Parameters
    ----------
    features : Tensor of shape (N, D, H, W)
    prototypes : Tensor of shape (P, D, 1, 1)
    ones : Tensor of shape (P, D, 1, 1) or (1, D, 1, 1)
        Sums the squares of a patch: once for every prototype in the original code.

    Returns
    -------
    Tensor of shape (N, P, H, W)
    """
    patch_norms = nn.functional.conv2d(features.square(), ones)
    products = nn.functional.conv2d(features, prototypes)  # (N, P, H, W)
    prototype_norms = prototypes.square().sum((1, 2, 3))[:, None, None]  # (P, 1, 1)
    return torch.relu(patch_norms + (prototype_norms - 2 * products))


def nearest_distances(distances: Tensor) -> Tensor:
    """Smallest distance in every map: (N, P, H, W) to (N, P), by pooling as in the original."""
    return -nn.functional.max_pool2d(-distances, distances.shape[2:]).flatten(1)


def log_similarity(distances: Tensor) -> Tensor:
    """``log((d + 1) / (d + eps))``."""
    return torch.log((distances + 1) / (distances + EPSILON))


def fit(
    X: Tensor,
    y: Tensor,
    *,
    test: Callable[[nn.Module], float],
    look: Callable[[nn.Module], float],
    warmup_epochs: int = 5,
    joint_epochs: int = 10,
    rates: Rates | None = None,
    seed: int = 0,
) -> Fit:
    """Warm-up, joint epochs, one projection, last layer.

    Parameters
    ----------
    X : float32 Tensor of shape (n, 3, height, width)
        Standardised images.
    y : int64 Tensor of shape (n,)
        Classes from 0 to K - 1.
    test, look : callable
        Give the accuracy of a network at the end, and on the way after every epoch and phase.
    warmup_epochs, joint_epochs : int
    rates : Rates, default=None
        None is the paper's.
    seed : int
        Of weights, prototypes and the order of batches; seeds torch's global generator.

    Returns
    -------
    Fit
    """
    watch, rates = Stopwatch(look), rates or Rates()
    torch.manual_seed(seed)
    network = PaperNetwork(int(y.max()) + 1)
    frozen = Rates(backbone=0, new_parts=rates.new_parts)
    with watch.phase("warmup"):
        _train(network, X, y, warmup_epochs, frozen, watch)
    with watch.phase("joint"):
        _train(network, X, y, joint_epochs, rates, watch)
    with watch.phase("projection"):
        _project(network, X, y)
        watch.look(network)
    with watch.phase("last_layer"):
        _train_last_layer(network, X, y)
        watch.look(network)
    seconds = {**watch.seconds, "total": watch.now}
    return Fit(test(network), seconds, watch.curve)


@torch.no_grad()
def evaluate(network: nn.Module, X: Tensor, y: Tensor) -> float:
    """Accuracy of a network whose output, or the first of whose outputs, is logits."""
    network.eval()
    n_correct = 0
    for images, labels in zip(X.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True):
        output = network(images)
        logits = output[0] if isinstance(output, tuple) else output
        n_correct += int((logits.argmax(1) == labels).sum())
    return n_correct / len(y)


def _shuffled_batches(size: int) -> tuple[Tensor, ...]:
    return torch.randperm(size).split(BATCH_SIZE)


def _train(
    network: PaperNetwork, X: Tensor, y: Tensor, epochs: int, rates: Rates, watch: Stopwatch
) -> None:
    """Stage 1; a backbone with rate 0 gets no gradient."""
    network.train()
    network.backbone.requires_grad_(rates.backbone > 0)
    network.head.requires_grad_(False)
    decayed = [{"params": network.add_on.parameters(), "lr": rates.new_parts}]
    if rates.backbone:
        decayed.append({"params": network.backbone.parameters(), "lr": rates.backbone})
    groups = [{**group, "weight_decay": WEIGHT_DECAY} for group in decayed]
    optimizer = torch.optim.Adam([*groups, {"params": network.prototypes, "lr": rates.new_parts}])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, DECAY_INTERVAL, DECAY_FACTOR)
    for _ in range(epochs):
        for batch in _shuffled_batches(len(X)):
            labels = y[batch]
            logits, distances = network(X[batch])
            own = network.own[labels]  # (N, P)
            cluster = distances.masked_fill(~own, torch.inf).amin(1).mean()
            separation = distances.masked_fill(own, torch.inf).amin(1).mean()
            loss = nn.functional.cross_entropy(logits, labels)
            loss = loss + CLUSTER_WEIGHT * cluster - SEPARATION_WEIGHT * separation
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        watch.look(network)


@torch.no_grad()
def _project(network: PaperNetwork, X: Tensor, y: Tensor) -> None:
    """Stage 2: every prototype becomes the nearest patch among the images of its class."""
    network.eval()
    owners = network.own.int().argmax(0).numpy()  # (P,)
    smallest = np.full(len(owners), np.inf)
    nearest = network.prototypes.numpy().copy()  # (P, D, 1, 1)
    for images, labels in zip(X.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True):
        features = network.features(images)
        distances = network.distances(features).numpy()  # (N, P, H, W)
        features = features.numpy()
        members = {k: np.flatnonzero(labels == k) for k in labels.unique().tolist()}
        for p, owner in enumerate(owners):
            if owner not in members:
                continue
            own = distances[members[owner], p]  # (images of the class, H, W)
            if own.min() < smallest[p]:
                smallest[p] = own.min()
                image, row, column = np.unravel_index(own.argmin(), own.shape)
                patch = features[members[owner][image], :, row, column]
                nearest[p] = patch[:, None, None]
    network.prototypes.copy_(torch.from_numpy(nearest))


def _train_last_layer(network: PaperNetwork, X: Tensor, y: Tensor) -> None:
    """Stage 3: passes of the whole network, of which the head alone learns."""
    network.eval().requires_grad_(False)
    weight = network.head.weight.requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=LAST_LAYER_RATE)
    for _ in range(LAST_LAYER_PASSES):
        for batch in _shuffled_batches(len(X)):
            logits, _ = network(X[batch])
            loss = nn.functional.cross_entropy(logits, y[batch])
            loss = loss + L1_WEIGHT * weight[~network.own].abs().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
