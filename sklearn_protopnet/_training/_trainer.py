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

from sklearn_protopnet._images import Dataset
from sklearn_protopnet._network import (
    Chunk,
    LinearHead,
    PrototypeNetwork,
    chunks_of_evidence,
    copied,
    evidence_of,
    latent_patches,
)
from sklearn_protopnet._ranks import Ranks, share_statistics, unshare_statistics
from sklearn_protopnet._training._epochs import GradientEpochs
from sklearn_protopnet._training._feature_cache import FeatureCache
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._initialization import draw_images, initial_prototypes
from sklearn_protopnet._training._judged_patches import JudgedPatches, permitted_projector
from sklearn_protopnet._training._last_layer import LastLayerTask, dataset_similarities
from sklearn_protopnet._training._optimization import BestState, Parts, WeightAverage
from sklearn_protopnet._training._projection import Projection
from sklearn_protopnet._training._stages import (
    GradientStage,
    InitializationStage,
    LastLayerStage,
    ProjectionStage,
    Stage,
    count_batches,
)
from sklearn_protopnet._training._training_task import TrainingTask


@dataclass(frozen=True)
class Training:
    """What a training leaves."""

    network: PrototypeNetwork
    linear_head: LinearHead
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
    """A network in training: what each kind of stage does to it, and all that it is in between.

    Parameters
    ----------
    network : PrototypeNetwork
        Trained in place.
    task : TrainingTask
    generator : torch.Generator
        Draws initial prototypes and the order of the batches.
    memory : joblib.Memory
        Where maps of a backbone that does not move are cached.
    ranks : Ranks
        Processes that train the network together.
    """

    def __init__(
        self,
        network: PrototypeNetwork,
        task: TrainingTask,
        generator: torch.Generator,
        *,
        memory: Memory,
        ranks: Ranks,
    ) -> None:
        self.network, self.task, self.generator = network, task, generator
        self.memory, self.ranks = memory, ranks
        self.dataset, self.settings = task.training, task.settings
        self.device = network.prototypes.device
        self.features = FeatureCache(network, self.dataset.source, self.dataset.rows, memory)
        self.feature_caches = [self.features]
        self.validation: tuple[Dataset, FeatureCache] | None = None
        if task.validation is not None:
            images = task.validation
            features = FeatureCache(network, images.source, images.rows, memory)
            self.validation = images, features
            self.feature_caches.append(features)
        self.history: list[HistoryRow] = []
        self.loss_curve: list[float] = []
        self.round, self.epoch = 1, 0
        self.preparation = 0.0  # seconds of what has no row of its own: they go to the next row
        self.projection: Projection | None = None
        self.linear_head = LinearHead(network.backbone_channels, len(network.head), generator).to(
            self.device
        )
        self.pretrained = nn.Sequential(network.backbone, self.linear_head)
        self.parts = Parts(network, self.linear_head, self.settings)
        self.judged: JudgedPatches | None = None
        if task.start and task.start.judgements:
            self.judged = JudgedPatches(network, task.start.judgements, self.dataset, ranks)
        self.epochs = GradientEpochs(
            self.parts,
            self.dataset,
            self.features,
            generator,
            augment=task.augment,
            precision=task.precision,
            ranks=ranks,
            judged=self.judged,
        )
        self.best_pretrained = BestState(self.pretrained, self.settings.patience)
        whole = nn.ModuleDict({"network": network, "linear_head": self.linear_head})
        self.best = BestState(whole, self.settings.patience)

    def copy(self) -> Trainer:
        """Give one whose network can be changed while this one stays as it is."""
        network = copied(self.network)
        other = Trainer(network, self.task, torch.Generator(), memory=self.memory, ranks=self.ranks)
        other.linear_head.load_state_dict(self.linear_head.state_dict())
        other.generator.set_state(self.generator.get_state())
        other.history, other.loss_curve = self.history.copy(), self.loss_curve.copy()
        other.round, other.epoch, other.projection = self.round, self.epoch, self.projection
        for features, kept in zip(other.feature_caches, self.feature_caches, strict=True):
            features.take(kept)
        return other

    def _begin(self, moving: Collection[str]) -> None:
        """Freeze all parts but these; keep the maps of a backbone that is frozen.

        A gradient stage of augmented images does not ask for those of the plain ones.
        """
        self.parts.freeze_all_but(moving)
        for features in self.feature_caches:
            if self.parts.is_backbone_moving:
                features.clear()
            elif features is not self.features or not moving:
                features.fill(self.ranks.part(features.positions))
            elif not self.epochs.is_augmented:
                features.fill(features.positions)  # whatever batches may ask for

    @torch.no_grad()
    def initialize(self, stage: InitializationStage) -> None:
        """Let prototypes start at patches of images, in the mode of the stage after."""
        start = time.perf_counter()
        unshare_statistics(self.network)  # here every process sees whole batches
        if self.settings.lacks_statistics:
            order = torch.randperm(len(self.dataset), generator=self.generator).numpy()
            update_bn(map(self._images, self._batches(order)), self.network.backbone)
        self._begin(stage.moving)
        labels, prototypes = self.dataset.labels, self.network.prototypes
        drawn = draw_images(labels, self.generator)
        chosen = initial_prototypes(self.network, labels, drawn, self._read, self.generator)
        prototypes.copy_(chosen.view_as(prototypes))
        share_statistics(self.network, self.ranks)
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

    def descend(
        self,
        stage: GradientStage,
        average: WeightAverage,
        is_interrupted: Callable[[], bool],
        score: Callable[[], float],
    ) -> HistoryRow:
        """Run an epoch of a stage; what is scored is the average over the stage's steps."""
        start = time.perf_counter()
        self.epoch += 1
        self._begin(stage.learning_rates)
        loss, *parts, accuracy = self.epochs.run(stage, self.epoch, average, is_interrupted)
        self.loss_curve.append(loss)
        with average.in_place():
            accuracy_then = score()
            if stage.may_stop_early:
                self.best_of(stage).update(accuracy_then)
        seconds = time.perf_counter() - start
        scores = {"accuracy": accuracy, "validation_accuracy": accuracy_then}
        return self._record(stage, seconds, loss, *parts, **scores, **stage.rates)

    def best_of(self, stage: GradientStage) -> BestState:
        """Give the best state that a stage has come to."""
        return self.best_pretrained if stage.is_pretraining else self.best

    def project(self, stage: ProjectionStage) -> HistoryRow:
        """Stage 2; one pass also gives the accuracy before it."""
        start = time.perf_counter()
        self._begin(())
        found = latent_patches(self.network, self._part(self.features))
        projector = permitted_projector(self.network, self.judged, found, self.dataset, self.ranks)
        predicted = np.zeros(len(self.dataset), dtype=np.int64)
        for index, patches in latent_patches(self.network, self._part(self.features)):
            if not patches.isfinite().all():  # after the last step there was no loss to check
                raise ValueError(
                    f"Features must stay finite; some are not in stage {stage.name!r}, after epoch "
                    f"{self.epoch}. Lower learning rates or weights of the costs may help."
                )
            evidence = evidence_of(self.network, patches, self._coef)
            predicted[index] = evidence.logits.argmax(1)
            labels = torch.from_numpy(self.dataset.labels[index]).to(self.device)
            projector.add(patches, torch.from_numpy(index).to(self.device), labels)
        self.ranks.add_up_arrays(predicted)
        before = self.dataset.accuracy(predicted)
        projector.gather(self.ranks)
        again = latent_patches(self.network, self._part(self.features))
        projector.compare(again, self.dataset.labels, self.ranks)
        self.projection = projector.replace_prototypes()
        return self._record(stage, time.perf_counter() - start, accuracy_before=before)

    def measure(self, stage: LastLayerStage) -> Training:
        """Compute the similarities for stage 3, and each prototype's distance to its source.

        Raises
        ------
        ValueError
            If prototypes have not been projected.
        """
        start = time.perf_counter()
        network, projection = self.network, self.projection
        if projection is None:
            raise ValueError("Prototypes must be projected before a last layer, they are not.")
        training, distances = dataset_similarities(
            network, self._part(self.features), self.dataset, projection.images, self.ranks
        )
        validation = None
        if self.validation is not None:
            dataset, features = self.validation
            validation, _ = dataset_similarities(
                network, self._part(features), dataset, ranks=self.ranks
            )
        last_layer = LastLayerTask(
            network.prototype_classes.cpu().numpy(),
            self._coef.copy(),
            training,
            validation,
            HistoryRow(self.round, stage.name, self.epoch, time.perf_counter() - start),
            None if self.task.start is None else self.task.start.constraints,
        )
        return Training(
            network,
            self.linear_head,
            projection,
            distances,
            self.history.copy(),
            self.loss_curve.copy(),
            last_layer,
        )

    def solve_last_layer(self, task: LastLayerTask) -> HistoryRow:
        """Stage 3, between two rounds."""
        last_layer, row = task.solve(self.settings.l1_weight, self.settings.l2_weight)
        self.network.head.copy_(torch.from_numpy(last_layer.coef))
        self.history.append(row)
        self.round += 1
        return row

    @torch.no_grad()
    def validate(self, stage: GradientStage) -> float:
        """Accuracy of the network on the validation images as it is; NaN without any."""
        if self.validation is None:
            return math.nan
        dataset, features = self.validation
        predicted, part = np.zeros(len(dataset), dtype=np.int64), self._part(features)
        if stage.is_pretraining:
            self.pretrained.eval()
            for index, maps in part:
                predicted[index] = self.linear_head(maps)[: len(index)].argmax(1).cpu().numpy()
        else:
            for index, evidence in chunks_of_evidence(self.network, part, self._coef):
                predicted[index] = evidence.logits.argmax(1)
        self.ranks.add_up_arrays(predicted)
        return dataset.accuracy(predicted)

    def _part(self, features: FeatureCache) -> Iterator[Chunk]:
        """Go through this process's part of maps."""
        return features.chunks(self.ranks.part(features.positions))

    @property
    def _coef(self) -> NDArray[np.float64]:
        """Weights of the last layer, (K, P)."""
        coef: NDArray[np.float64] = self.network.head.cpu().numpy()
        return coef

    def _record(self, stage: Stage, seconds: float, *losses: float, **figures: float) -> HistoryRow:
        seconds, self.preparation = seconds + self.preparation, 0.0
        row = HistoryRow(self.round, stage.name, self.epoch, seconds, *losses, **figures)
        self.history.append(row)
        return row
