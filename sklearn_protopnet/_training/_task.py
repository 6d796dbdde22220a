"""A training as a function of plain data, so that its result can be cached.

The result depends on the task, not on the penalties of a last layer that comes after it: a grid
over those trains the network once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet._images import Images
from sklearn_protopnet._network import (
    ReceptiveField,
    claimed_device,
    copied,
    seeded_draws,
)
from sklearn_protopnet._ranks import Ranks, share_statistics, unshare_statistics
from sklearn_protopnet._threads import GLOBAL_DRAWS
from sklearn_protopnet._training import _result_cache
from sklearn_protopnet._training._checkpoint import Checkpoint
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._last_layer import LastLayerTask
from sklearn_protopnet._training._observer import Observer
from sklearn_protopnet._training._projection import NO_SOURCE, Projection
from sklearn_protopnet._training._run import TrainingRun
from sklearn_protopnet._training._trainer import Trainer, Training
from sklearn_protopnet._training._training_task import TrainingTask


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
    linear_head: dict[str, NDArray[np.float32]]
    """Weights and bias of what has learned beside the prototypes."""
    backbone: nn.Module | None
    """The trained backbone, where it is a module."""
    receptive_field: ReceptiveField
    history: list[HistoryRow]
    loss_curve: list[float]
    """Objective in every epoch."""
    last_layer: LastLayerTask
    """The last layer is left to solve for."""
    interrupted_in: tuple[str, int] | None
    """The gradient stage, and the number of the epoch, in which Ctrl-C came."""


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
    projection = trained.projection
    is_patch = projection.images != NO_SOURCE
    boxes = trained.receptive_field.boxes(
        np.where(is_patch, projection.positions, 0), task.architecture.prototype_size
    )
    rows = np.where(is_patch, task.training.rows[projection.images], NO_SOURCE)
    return sources_in(task.training.source.images, rows, boxes)


def sources_in(
    images: Images, rows: NDArray[np.int64], boxes: NDArray[np.int64]
) -> PrototypeSources:
    """Say what patches of images are.

    Parameters
    ----------
    images : Images
    rows : int64 array of shape (P,)
        Which images, `NO_SOURCE` of none.
    boxes : int64 array of shape (P, 4)
        Receptive fields of the patches in pixels of the network.
    """
    is_patch = rows != NO_SOURCE
    pixels = images.read(rows)
    return PrototypeSources(
        rows=rows,
        boxes=images.original_boxes(rows, boxes) * is_patch[:, None],
        images=pixels * is_patch[:, None, None, None].astype(pixels.dtype),
        sizes=images.original_sizes(rows) * is_patch[:, None],
    )


def train_network(
    task: TrainingTask,
    memory: Memory,
    checkpoint: Checkpoint,
    observer: Observer[TrainedNetwork],
) -> TrainedNetwork:
    """Train a network and project its prototypes, or take the result from a cache.

    Parameters
    ----------
    task : TrainingTask
    memory : joblib.Memory
        Where trained networks are cached, and maps of a backbone that is never trained.
    checkpoint : Checkpoint
        Where the training goes on from, if there is something, and is kept meanwhile.
    observer : Observer

    Returns
    -------
    TrainedNetwork

    Raises
    ------
    ValueError
        If there is a cache, and the backbone or `augment` is an object that cannot be pickled; if
        processes that train together have other tasks.
    KeyboardInterrupt
        At the second Ctrl-C, or at the first that comes outside of a gradient stage.

    Warns
    -----
    UserWarning
        If a cached result or a checkpoint is damaged.
    """
    ranks = Ranks.now(task.device)
    if len(set(ranks.gather(task.shared_digest() if ranks.size > 1 else ""))) > 1:
        raise ValueError(
            "Processes that train together must be given the same images, labels, weights and "
            "parameters, got others."
        )
    key = "" if memory.location is None else task.key()
    kind = _result_cache.network
    found: TrainedNetwork | None = ranks.from_first(partial(_result_cache.find, memory, kind, key))
    if found is not None:
        observer.skip(task.settings.n_epochs)
        return found
    trained, is_cut_short = _train(task, memory, checkpoint, observer, ranks)
    if ranks.is_first and not is_cut_short:
        _result_cache.keep(memory, kind, key, trained)
    return trained


def _train(
    task: TrainingTask,
    memory: Memory,
    checkpoint: Checkpoint,
    observer: Observer[TrainedNetwork],
    ranks: Ranks,
) -> tuple[TrainedNetwork, bool]:
    """Train a network, and say whether something was left out."""
    network, field = task.architecture.build(task.seed)
    share_statistics(network, ranks)
    with claimed_device(task.device, ranks) as device, _module_draws(task, device):
        network.to(device)
        frozen_maps = memory if task.settings.is_backbone_frozen else Memory(None, verbose=0)
        generator = torch.Generator().manual_seed(task.seed)
        trainer = Trainer(network, task, generator, memory=frozen_maps, ranks=ranks)
        if task.start is not None:
            task.start.put_into(network, trainer.linear_head)
        run = TrainingRun(trainer, _InArrays(observer, task, field), checkpoint)
        trained = _trained_network(task, field, run.run(), run.interrupted_in)
    return trained, run.is_cut_short


class _InArrays:
    """Tells an observer of a training, with results in arrays."""

    def __init__(
        self, observer: Observer[TrainedNetwork], task: TrainingTask, field: ReceptiveField
    ) -> None:
        self._observer, self._task, self._field = observer, task, field
        self.begin, self.skip = observer.begin, observer.skip

    def end(self, row: HistoryRow | None, conclude: Callable[[], Training]) -> bool:
        return self._observer.end(
            row, lambda: _trained_network(self._task, self._field, conclude(), None)
        )


def _trained_network(
    task: TrainingTask,
    field: ReceptiveField,
    training: Training,
    interrupted_in: tuple[str, int] | None,
) -> TrainedNetwork:
    """Put what a training leaves into arrays."""
    network = training.network
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
        linear_head={
            name: _array(value) for name, value in training.linear_head.state_dict().items()
        },
        backbone=_at_rest(network.backbone) if is_module else None,
        receptive_field=field,
        history=training.history,
        loss_curve=training.loss_curve,
        last_layer=training.last_layer,
        interrupted_in=interrupted_in,
    )


def _at_rest(backbone: nn.Module) -> nn.Module:
    """Copy a module that may be in training."""
    at_rest = copied(backbone).cpu().eval().requires_grad_(False)
    unshare_statistics(at_rest)
    return at_rest


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy(), order="C")


@contextmanager
def _module_draws(task: TrainingTask, device: torch.device) -> Iterator[None]:
    """Dropout draws from global state, and only modules of the user's may hold one.

    They train one after the other, if in threads of one process.
    """
    if isinstance(task.architecture.backbone, nn.Module):
        with GLOBAL_DRAWS, seeded_draws(task.seed, device):
            yield
    else:
        yield
