"""A training as a function of plain data, so that its result can be cached.

The result depends on the task, not on the penalties of a last layer that comes after it: a grid
over those trains the network once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet._images import Dataset, Transform
from sklearn_protopnet._network import (
    Architecture,
    ReceptiveField,
    seeded_draws,
)
from sklearn_protopnet._threads import GLOBAL_DRAWS
from sklearn_protopnet._training import _result_cache
from sklearn_protopnet._training._cache_key import digest_of
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._last_layer import LastLayerTask
from sklearn_protopnet._training._projection import NO_SOURCE, Projection
from sklearn_protopnet._training._stages import Settings
from sklearn_protopnet._training._trainer import Trainer


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a trained network depends on."""

    architecture: Architecture
    settings: Settings
    training: Dataset
    validation: Dataset | None
    augment: str | Transform | None
    """Name of what varies the training images, or a callable that does."""
    seed: int
    device: torch.device
    precision: torch.dtype
    """Of the gradient stages."""

    def key(self) -> str:
        """Digest all that the trained network depends on.

        Raises
        ------
        ValueError
            If the backbone or `augment` is an object that cannot be pickled.
        """
        penalties = [self.settings.l1_weight, self.settings.l2_weight]
        return digest_of(
            task=self,
            weights=self.architecture.weights_key(),
            penalties=penalties if self.settings.has_rounds else None,
        )


@dataclass(frozen=True)
class TrainedNetwork:
    """What a task leads to, in arrays and plain values."""

    prototypes: NDArray[np.float32]
    """(P, D, H1, W1)"""
    prototype_classes: NDArray[np.int64]
    """(P,) class indices."""
    projection: Projection
    """Sources are positions in the training set."""
    source_distances: NDArray[np.float64]
    """(P,) distance of each prototype to its source patch, measured after the projection."""
    layers: dict[str, NDArray[Any]]
    """Parameters and statistics of the other layers, but of a backbone that is a module."""
    backbone: nn.Module | None
    """The trained backbone, where it is a module."""
    receptive_field: ReceptiveField
    history: list[HistoryRow]
    loss_curve: list[float]
    """Objective in every epoch."""
    last_layer: LastLayerTask
    """The last layer is left to solve for."""


@dataclass(frozen=True)
class PrototypeSources:
    """Training images that prototypes are patches of."""

    rows: NDArray[np.int64]
    """(P,) rows of the user's X, `NO_SOURCE` of prototypes that are no patch."""
    boxes: NDArray[np.int64]
    """(P, 4) receptive fields of the patches in pixels of the images as they were given."""
    images: NDArray[Any]
    """(P, H, W, C) as the network takes them, but not standardised; zeros for none."""
    sizes: NDArray[np.int64]
    """(P, 2) height and width of the images as they were given."""


def prototype_sources(task: TrainingTask, trained: TrainedNetwork) -> PrototypeSources:
    """Find the training images that prototypes are patches of."""
    projection, images = trained.projection, task.training.source.images
    is_patch = projection.images != NO_SOURCE
    rows = np.where(is_patch, task.training.rows[projection.images], NO_SOURCE)
    boxes = trained.receptive_field.boxes(
        np.where(is_patch, projection.positions, 0), task.architecture.prototype_size
    )
    pixels = images.read(rows)
    return PrototypeSources(
        rows=rows,
        boxes=images.original_boxes(rows, boxes) * is_patch[:, None],
        images=pixels * is_patch[:, None, None, None].astype(pixels.dtype),
        sizes=images.original_sizes(rows) * is_patch[:, None],
    )


def train_network(
    task: TrainingTask, memory: Memory, on_row: Callable[[HistoryRow], None]
) -> TrainedNetwork:
    """Train a network and project its prototypes, or take the result from a cache.

    Parameters
    ----------
    task : TrainingTask
    memory : joblib.Memory
        Where trained networks are cached, and maps of a backbone that is never trained.
    on_row : callable
        Called with every row of the history, if there is something to do.

    Returns
    -------
    TrainedNetwork

    Raises
    ------
    ValueError
        If there is a cache, and the backbone or `augment` is an object that cannot be pickled.

    Warns
    -----
    UserWarning
        If a cached result is damaged: it is computed again.
    """
    key = "" if memory.location is None else task.key()
    trained: TrainedNetwork = _result_cache.cached(
        memory, _result_cache.network, key, lambda: _train(task, memory, on_row)
    )
    return trained


def _train(
    task: TrainingTask, memory: Memory, on_row: Callable[[HistoryRow], None]
) -> TrainedNetwork:
    network, field = task.architecture.build(task.seed)
    network.to(task.device)
    with _module_draws(task):
        training = Trainer(
            network,
            task.training,
            task.settings,
            torch.Generator().manual_seed(task.seed),
            validation=task.validation,
            augment=task.augment,
            precision=task.precision,
            memory=memory if task.settings.is_backbone_frozen else Memory(None, verbose=0),
            on_row=on_row,
        ).run()
    is_module = isinstance(task.architecture.backbone, nn.Module)
    layers: dict[str, nn.Module] = {"add_on": network.add_on}
    if not is_module:
        layers = {"backbone": network.backbone, **layers}
    return TrainedNetwork(
        prototypes=_array(network.prototypes),
        prototype_classes=_array(network.prototype_classes),
        projection=training.projection,
        source_distances=training.source_distances,
        layers={
            f"{name}.{key}": _array(value)
            for name, layer in layers.items()
            for key, value in layer.state_dict().items()
        },
        backbone=network.backbone.cpu().eval().requires_grad_(False) if is_module else None,
        receptive_field=field,
        history=training.history,
        loss_curve=training.loss_curve,
        last_layer=training.last_layer,
    )


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy(), order="C")


@contextmanager
def _module_draws(task: TrainingTask) -> Iterator[None]:
    """Dropout draws from global state, and only modules of the user's may hold one.

    They train one after the other, if in threads of one process.
    """
    if isinstance(task.architecture.backbone, nn.Module):
        with GLOBAL_DRAWS, seeded_draws(task.seed, task.device):
            yield
    else:
        yield
