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
from torch import nn

from sklearn_protopnet._images import Transform
from sklearn_protopnet._network import (
    Architecture,
    PrototypeNetwork,
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
from sklearn_protopnet._training._stages import GradientStage, LastLayerStage, Settings, Stage
from sklearn_protopnet._training._trainer import Trainer, Training


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
            architecture=self.architecture.plain_values(),
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

    training: Training
    receptive_field: ReceptiveField
    state: dict[str, NDArray[Any]]
    """Parameters and statistics of the network, and its prototypes."""
    network: PrototypeNetwork | None
    """None where it comes from a cache, and `state` has to do."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "network": None}


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
    return TrainedNetwork(
        training=training,
        receptive_field=field,
        state={
            name: np.array(value.cpu().numpy(), order="C")
            for name, value in network.state_dict().items()
        },
        network=network,
    )


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
