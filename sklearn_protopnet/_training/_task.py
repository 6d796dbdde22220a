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

from sklearn_protopnet._images import Transform
from sklearn_protopnet._network import (
    Architecture,
    ReceptiveField,
    seeded_draws,
)
from sklearn_protopnet._threads import GLOBAL_DRAWS
from sklearn_protopnet._training._cache_key import (
    callable_digest,
    digest_bytes,
    digest_of,
    module_digest,
)
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._labelled_images import LabelledImages
from sklearn_protopnet._training._last_layer import LastLayerTask
from sklearn_protopnet._training._projection import UNPROJECTED, Projection
from sklearn_protopnet._training._stages import GradientStage, LastLayerStage, Settings, Stage
from sklearn_protopnet._training._trainer import Trainer


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a trained network depends on."""

    architecture: Architecture
    settings: Settings
    images: LabelledImages
    validation: LabelledImages | None
    augment: str | Transform | None
    """Name of what varies the training images, or a callable that does."""
    seed: int
    device: torch.device
    precision: torch.dtype
    """Of the gradient stages."""

    def key(self) -> str:
        """Digest all that the trained network depends on, and nothing else.

        Raises
        ------
        ValueError
            If the backbone is a module that cannot be pickled.
        """
        backbone, standard = self.architecture.backbone, self.images.source.standardization
        return digest_of(
            architecture=[
                v
                for k, v in vars(self.architecture).items()
                if k != "weights" and not isinstance(v, nn.Module)
            ],
            module=module_digest(backbone) if isinstance(backbone, nn.Module) else None,
            weights=self.architecture.weights_key(),
            augment=callable_digest("augment", self.augment)
            if callable(self.augment)
            else self.augment,
            stages=[self._influence(stage) for stage in self.settings.stages()],
            batch_size=self.settings.batch_size,
            weight_decay=self.settings.weight_decay,
            cluster_weight=self.settings.cluster_weight,
            separation_weight=self.settings.separation_weight,
            freeze_statistics=self.settings.freeze_statistics,
            patience=self.settings.patience,
            images=_images_digest(self.images),
            standardization=[standard.mean.tolist(), standard.scale.tolist()],
            validation=self.validation and _images_digest(self.validation),
            seed=self.seed,
            device=str(self.device),
            precision=str(self.precision),
            # Of equal numbers, bytes are rounded when they vary, and a callable sees the dtype.
            dtype=None if self.augment is None else str(self.images.source.images.dtype),
        )

    def _influence(self, stage: Stage) -> list[Any]:
        """Say what of a stage influences the network; a last layer at the end does not."""
        if isinstance(stage, GradientStage):
            rates = [stage.decay(epoch) for epoch in range(self.settings.n_epochs)]
            return [stage.name, stage.epochs, stage.learning_rates, rates]
        if isinstance(stage, LastLayerStage) and not stage.is_last:
            return [stage.name, self.settings.l1_weight, self.settings.l2_weight]
        return [stage.name]


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
    last_layer: LastLayerTask
    """The last layer is left to solve for."""

    @property
    def epochs(self) -> list[HistoryRow]:
        """Rows of the history that are epochs of gradients."""
        return [row for row in self.history if row.stage not in {"projection", "last_layer"}]


@dataclass(frozen=True)
class PrototypeSources:
    """Training images that prototypes are patches of."""

    rows: NDArray[np.int64]
    """(P,) rows of the user's X, `UNPROJECTED` of prototypes that are no patch."""
    boxes: NDArray[np.int64]
    """(P, 4) receptive fields of the patches in pixels of the images as they were given."""
    images: NDArray[Any]
    """(P, H, W, C) as the network takes them, but not standardised; zeros for none."""
    sizes: NDArray[np.int64]
    """(P, 2) height and width of the images as they were given."""


def prototype_sources(task: TrainingTask, trained: TrainedNetwork) -> PrototypeSources:
    """Find the training images that prototypes are patches of."""
    projection, images = trained.projection, task.images.source.images
    is_patch = projection.images != UNPROJECTED
    rows = np.where(is_patch, task.images.members.rows[projection.images], UNPROJECTED)
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
    key: str,  # noqa: ARG001 - by which joblib knows the task
    task: TrainingTask,
    memory: Memory,
    on_row: Callable[[HistoryRow], None],
) -> TrainedNetwork:
    """Train a network and project its prototypes.

    Parameters
    ----------
    key : str
        The task's, where the result is cached.
    task : TrainingTask
    memory : joblib.Memory
        Where maps of a backbone that does not move are cached.
    on_row : callable
        Called with every row of the history.

    Returns
    -------
    TrainedNetwork
    """
    network, field = task.architecture.build(task.seed)
    network.to(task.device)
    with _module_draws(task):
        training = Trainer(
            network,
            task.images,
            task.settings,
            torch.Generator().manual_seed(task.seed),
            validation=task.validation,
            augment=task.augment,
            precision=task.precision,
            memory=memory if task.settings.is_backbone_frozen else Memory(None, verbose=0),
            on_row=on_row,
        ).run()
    is_module = isinstance(task.architecture.backbone, nn.Module)
    layers = (
        {"add_on": network.add_on}
        if is_module
        else {
            "backbone": network.backbone,
            "add_on": network.add_on,
        }
    )
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


def _images_digest(images: LabelledImages) -> str:
    """Digest images in the order of the set, with their labels and weights."""
    members = images.members
    arrays = (images.source.images.survey.digests[members.rows], members.labels, members.weights)
    return digest_bytes(*(array.tobytes() for array in arrays))
