"""One training, from a random network to projected prototypes and all but their last layer.

Shapes: n training images, P prototypes, N images of a batch, L patches of an image,
D1 = D H1 W1 numbers in a patch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sklearn_protopnet._images import Dataset, Transform
from sklearn_protopnet._network import (
    LinearHead,
    PrototypeNetwork,
    chunks_of_evidence,
    evidence_of,
    latent_patches,
)
from sklearn_protopnet._training._epochs import GradientEpochs
from sklearn_protopnet._training._feature_cache import FeatureCache
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._initialization import (
    draw_images,
    initial_prototypes,
    standardize_latents,
)
from sklearn_protopnet._training._last_layer import LastLayerTask, dataset_similarities
from sklearn_protopnet._training._optimization import BestState, Parts
from sklearn_protopnet._training._projection import Projection, Projector
from sklearn_protopnet._training._stages import (
    GradientStage,
    InitializationStage,
    LastLayerStage,
    ProjectionStage,
    Settings,
    Stage,
    count_batches,
)


@dataclass(frozen=True)
class Training:
    """What a training leaves beside the network itself."""

    projection: Projection
    """Sources are positions in the training set."""
    source_distances: NDArray[np.float64]
    """(P,) distance of each prototype to its source patch, measured after the projection."""
    history: list[HistoryRow]
    loss_curve: list[float]
    """Objective in every epoch."""
    last_layer: LastLayerTask
    """What is left to do."""


class Trainer:
    """Runs the stages of `Settings` on a network.

    Parameters
    ----------
    network : PrototypeNetwork
        Trained in place.
    dataset : Dataset
        Training images.
    settings : Settings
    generator : torch.Generator
        Draws initial prototypes and the order of the batches.
    validation : Dataset or None
        Images to score after every epoch.
    augment : str, callable or None
        What varies the images of a gradient stage.
    precision : torch.dtype
        Of the gradient stages.
    memory : joblib.Memory
        Where maps of a backbone that does not move are cached.
    on_row : callable
        Called with every `HistoryRow`.
    """

    def __init__(
        self,
        network: PrototypeNetwork,
        dataset: Dataset,
        settings: Settings,
        generator: torch.Generator,
        *,
        validation: Dataset | None,
        augment: str | Transform | None,
        precision: torch.dtype,
        memory: Memory,
        on_row: Callable[[HistoryRow], None],
    ) -> None:
        self.network = network
        self.dataset = dataset
        self.settings = settings
        self.generator = generator
        self.device = network.prototypes.device
        self.features = FeatureCache(network, dataset.source, dataset.rows, memory)
        self.feature_caches = [self.features]
        self.validation: tuple[Dataset, FeatureCache] | None = None
        if validation is not None:
            features = FeatureCache(network, validation.source, validation.rows, memory)
            self.validation = validation, features
            self.feature_caches.append(features)
        self.on_row = on_row
        self.history: list[HistoryRow] = []
        self.loss_curve: list[float] = []
        self.round, self.epoch = 1, 0
        self.preparation = 0.0  # seconds of what has no row of its own: they go to the next row
        self.linear_head = LinearHead(network.backbone_channels, len(network.head), generator).to(
            self.device
        )
        self.pretrained = nn.Sequential(network.backbone, self.linear_head)
        self.parts = Parts(network, self.linear_head, settings)
        self.epochs = GradientEpochs(
            self.parts, dataset, self.features, generator, augment=augment, precision=precision
        )
        self.best_pretrained = BestState(self.pretrained, settings.patience)
        self.best = BestState(network, settings.patience)

    def run(self) -> Training:
        """Run every stage but the last one, which solves for the last layer."""
        for stage in self.settings.stages():
            if isinstance(stage, GradientStage):
                self._descend(stage)
            elif isinstance(stage, InitializationStage):
                self._initialize(stage)
            elif isinstance(stage, ProjectionStage):
                projection = self._project(stage)
            else:
                last_layer, distances = self._last_layer_task(stage, projection)
                if stage.is_last or self.best.is_stale:
                    break
                self._solve_last_layer(last_layer)
        return Training(projection, distances, self.history, self.loss_curve, last_layer)

    def _begin(self, moving: Collection[str]) -> None:
        """Freeze all parts but these; keep the maps of a backbone that is frozen.

        A gradient stage of augmented images does not ask for those of the plain ones.
        """
        self.parts.freeze_all_but(moving)
        is_augmented = bool(moving) and self.epochs.is_augmented
        for features in self.feature_caches:
            if self.parts.is_backbone_moving:
                features.clear()
            elif features is not self.features or not is_augmented:
                features.fill()

    @torch.no_grad()
    def _initialize(self, stage: InitializationStage) -> None:
        """Fit latent space and prototypes to images, in the mode of the stage after."""
        start = time.perf_counter()
        if self.settings.lacks_statistics:
            order = torch.randperm(len(self.dataset), generator=self.generator).numpy()
            update_bn(map(self._images, self._batches(order)), self.network.backbone)
        self._begin(stage.moving)
        labels, prototypes = self.dataset.labels, self.network.prototypes
        drawn = draw_images(labels, self.generator)
        standardize_latents(self.network, drawn, self._read)
        chosen = initial_prototypes(self.network, labels, drawn, self._read, self.generator)
        prototypes.copy_(chosen.view_as(prototypes))
        self.preparation = time.perf_counter() - start

    def _read(self, index: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield batches of plain training images: positions, maps (N, F, H, W)."""
        for batch in self._batches(index):
            if self.parts.is_backbone_moving:
                yield batch, self.network.feature_maps(self._images(batch))
            else:
                yield batch, self.features.batch(batch)

    def _batches(self, index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return np.array_split(index, count_batches(len(index), self.settings.batch_size))

    def _images(self, batch: NDArray[np.int64]) -> Tensor:
        """Read plain training images at these positions."""
        return self.dataset.source.batch(self.dataset.rows[batch]).to(self.device)

    def _descend(self, stage: GradientStage) -> None:
        """Run a stage's epochs until the validation score is stale; then take the best state."""
        best = self.best_pretrained if stage.is_pretraining else self.best
        average = self.parts.average(stage)
        for _ in range(stage.epochs):
            start = time.perf_counter()
            self.epoch += 1
            self._begin(stage.learning_rates)
            loss, *parts, accuracy = self.epochs.run(stage, self.epoch, average)
            self.loss_curve.append(loss)
            with average.in_place():
                score = self._validate(stage)
                if stage.may_stop_early:
                    best.update(score)
            seconds = time.perf_counter() - start
            self._record(stage, seconds, loss, *parts, accuracy=accuracy, validation_accuracy=score)
            if best.is_stale:
                break
        average.put()
        if best.is_stale or stage.is_last:
            best.restore()

    def _project(self, stage: ProjectionStage) -> Projection:
        """Stage 2; one pass also gives the accuracy before it."""
        start = time.perf_counter()
        self._begin(())
        projector = Projector(self.network)
        predicted = np.empty(len(self.dataset), dtype=np.int64)
        for index, patches in latent_patches(self.network, self.features.chunks()):
            if not patches.isfinite().all():  # after the last step there was no loss to check
                raise ValueError(
                    f"Features must stay finite; some are not in stage {stage.name!r}, after epoch "
                    f"{self.epoch}. Lower learning rates or weights of the costs may help."
                )
            evidence = evidence_of(self.network, patches, self._coef)
            predicted[index] = evidence.logits.argmax(1)
            labels = torch.from_numpy(self.dataset.labels[index]).to(self.device)
            projector.add(patches, torch.from_numpy(index).to(self.device), labels)
        before = self.dataset.accuracy(predicted)
        projection = projector.replace_prototypes()
        self._record(stage, time.perf_counter() - start, accuracy_before=before)
        return projection

    def _last_layer_task(
        self, stage: LastLayerStage, projection: Projection
    ) -> tuple[LastLayerTask, NDArray[np.float64]]:
        """Compute the similarities for stage 3, and each prototype's distance to its source."""
        start = time.perf_counter()
        network = self.network
        training, distances = dataset_similarities(
            network, self.features.chunks(), self.dataset, projection.images
        )
        validation = None
        if self.validation is not None:
            dataset, features = self.validation
            validation, _ = dataset_similarities(network, features.chunks(), dataset)
        task = LastLayerTask(
            network.prototype_classes.cpu().numpy(),
            self._coef.copy(),
            training,
            validation,
            HistoryRow(self.round, stage.name, self.epoch, time.perf_counter() - start),
        )
        return task, distances

    def _solve_last_layer(self, task: LastLayerTask) -> None:
        """Stage 3, between two rounds."""
        last_layer, row = task.solve(self.settings.l1_weight, self.settings.l2_weight)
        self.network.head.copy_(torch.from_numpy(last_layer.coef))
        self._append(row)
        self.round += 1

    @torch.no_grad()
    def _validate(self, stage: GradientStage) -> float:
        """Accuracy on the validation images; NaN without any."""
        if self.validation is None:
            return math.nan
        dataset, features = self.validation
        predicted = np.empty(len(dataset), dtype=np.int64)
        if stage.is_pretraining:
            self.pretrained.eval()
            for index, maps in features.chunks():
                predicted[index] = self.linear_head(maps)[: len(index)].argmax(1).cpu().numpy()
        else:
            chunks = chunks_of_evidence(self.network, features.chunks(), self._coef)
            for index, evidence in chunks:
                predicted[index] = evidence.logits.argmax(1)
        return dataset.accuracy(predicted)

    @property
    def _coef(self) -> NDArray[np.float64]:
        """Weights of the last layer, (K, P)."""
        coef: NDArray[np.float64] = self.network.head.cpu().numpy()
        return coef

    def _record(self, stage: Stage, seconds: float, *losses: float, **figures: float) -> None:
        seconds, self.preparation = seconds + self.preparation, 0.0
        self._append(HistoryRow(self.round, stage.name, self.epoch, seconds, *losses, **figures))

    def _append(self, row: HistoryRow) -> None:
        self.history.append(row)
        self.on_row(row)
