"""One training, from a random network to projected prototypes and all but their last layer.

Shapes: n training images, P prototypes, N images of a batch, L patches of an image,
D1 = D H1 W1 numbers in a patch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet._images import Transform
from sklearn_protopnet._network import (
    LinearHead,
    PrototypeNetwork,
    inspect_maps,
    inspect_patches,
    latent_patches,
)
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._initialization import (
    draw_images,
    initial_prototypes,
    standardize_latents,
)
from sklearn_protopnet._training._labelled_images import LabelledImages
from sklearn_protopnet._training._last_layer import LastLayerTask, see
from sklearn_protopnet._training._loss import Costs, costs, weighted_cross_entropy
from sklearn_protopnet._training._optimization import BestState, Optimizer
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
from sklearn_protopnet._training._views import Views

_Step = tuple[Tensor, Costs, Tensor]
"""Loss and costs of a batch, and its logits (N, K)."""


@dataclass(frozen=True)
class Training:
    """What a training leaves beside the network itself."""

    projection: Projection
    """Sources are positions in the training set."""
    source_distances: NDArray[np.float64]
    """(P,) distance of each prototype to its source patch, measured after the projection."""
    history: list[HistoryRow]
    last_layer: LastLayerTask
    """What is left to do."""


class Trainer:
    """Runs the stages of `Settings` on a network.

    Parameters
    ----------
    network : PrototypeNetwork
        Trained in place.
    images : LabelledImages
        Training images.
    settings : Settings
    generator : torch.Generator
        Draws initial prototypes and the order of the batches.
    validation : LabelledImages or None
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
        images: LabelledImages,
        settings: Settings,
        generator: torch.Generator,
        *,
        validation: LabelledImages | None,
        augment: str | Transform | None,
        precision: torch.dtype,
        memory: Memory,
        on_row: Callable[[HistoryRow], None],
    ) -> None:
        self.network = network
        self.images = images
        self.settings = settings
        self.generator = generator
        self.device = network.prototypes.device
        self.views = Views(network, images, validation, augment=augment, memory=memory)
        self.autocast = partial(
            torch.autocast,
            self.device.type,
            torch.bfloat16,
            enabled=precision == torch.bfloat16,
        )
        self.on_row = on_row
        self.labels = torch.from_numpy(images.members.labels)  # (n,)
        self.weights = torch.from_numpy(images.members.weights).float()  # (n,)
        self.history: list[HistoryRow] = []
        self.round, self.epoch = 1, 0
        self.preparation = 0.0  # seconds of what has no row of its own: they go to the next row
        linear_head = LinearHead(network.backbone_channels, len(network.head)).to(self.device)
        self.linear_head = linear_head
        self.pretrained = nn.Sequential(network.backbone, linear_head)
        self.trainable = {id(p) for p in network.parameters() if p.requires_grad}
        self.trainable |= {id(p) for p in linear_head.parameters()}
        self.parts: dict[str, nn.Module | nn.Parameter] = {
            "backbone": network.backbone,
            "add_on": network.add_on,
            "prototypes": network.prototypes,
            "linear_head": linear_head,
        }
        self.optimizers: dict[str, Optimizer] = {}
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
                last_layer, source_distances = self._see_all(stage, projection)
                if stage.is_last or self.best.is_stale:
                    break
                self._solve_last_layer(last_layer)
        return Training(projection, source_distances, self.history, last_layer)

    @torch.no_grad()
    def _initialize(self, stage: InitializationStage) -> None:
        """Fit latent space and prototypes to images, seen as the stage after will see them."""
        start = time.perf_counter()
        self._begin(stage.moving)
        labels, prototypes = self.images.members.labels, self.network.prototypes
        drawn = draw_images(labels, self.generator)
        standardize_latents(self.network, drawn, self._read)
        chosen = initial_prototypes(self.network, labels, drawn, self._read, self.generator)
        prototypes.copy_(chosen.view_as(prototypes))
        self.preparation = time.perf_counter() - start

    def _read(self, index: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield batches of plain training images: positions, maps (N, F, H, W)."""
        for batch in np.array_split(index, count_batches(len(index), self.settings.batch_size)):
            yield batch, self.views.maps_of(batch)

    def _descend(self, stage: GradientStage) -> None:
        """Run a stage's epochs until the validation score is stale; then take the best state."""
        best = self.best_pretrained if stage.is_pretraining else self.best
        for _ in range(stage.epochs):
            start = time.perf_counter()
            self.epoch += 1
            loss, *parts, accuracy = self._run_epoch(stage)
            score = self._validate(stage)
            seconds = time.perf_counter() - start
            self._record(stage, seconds, loss, *parts, accuracy=accuracy, validation_accuracy=score)
            if stage.may_stop_early:
                best.update(score)
            if best.is_stale:
                break
        if best.is_stale or stage.is_last:
            best.restore()

    def _run_epoch(self, stage: GradientStage) -> list[float]:
        """One pass over the training images; mean loss, its three costs, and the accuracy."""
        optimizer = self._optimizer(stage)
        self._begin(stage.learning_rates)
        step = self._pretraining_step if stage.is_pretraining else self._prototype_step
        sums = torch.zeros(5, dtype=torch.float64)
        batches = list(self._batches(len(self.images)))
        for batch, images in zip(batches, self.views.varied(batches, self.generator), strict=True):
            labels = self.labels[batch].to(self.device)
            weights = self.weights[batch].to(self.device)
            with self.autocast():
                if images is None:
                    maps = self.views.maps_of(batch)
                else:
                    maps = self.views.through_backbone(images)
                loss, parts, logits = step(maps, labels, weights)
            self._check_finite(stage, loss)
            optimizer.step(loss)
            accuracy = (weights * (logits.argmax(1) == labels)).mean()
            figures = [loss, parts.cross_entropy, parts.cluster, parts.separation, accuracy]
            sums += len(batch) * torch.stack(figures).detach().cpu()
        optimizer.end_epoch()
        return [float(value) for value in sums / len(self.images)]

    def _pretraining_step(self, maps: Tensor, labels: Tensor, weights: Tensor) -> _Step:
        """Compute the loss of the linear head."""
        logits = self.linear_head(maps).float()
        loss = weighted_cross_entropy(logits, labels, weights)
        no_cost = torch.full_like(loss, math.nan)
        return loss, Costs(loss, no_cost, no_cost), logits

    def _prototype_step(self, maps: Tensor, labels: Tensor, weights: Tensor) -> _Step:
        """Compute the loss of the prototypes."""
        evidence = self.network(maps)
        parts = costs(evidence, labels, weights, self.network.prototype_classes)
        loss = parts.total(self.settings.cluster_weight, self.settings.separation_weight)
        return loss, parts, evidence.logits

    def _project(self, stage: ProjectionStage) -> Projection:
        """Stage 2; one pass also gives the accuracy before it."""
        start = time.perf_counter()
        self._begin(())
        projector = Projector(self.network)
        predicted = np.empty(len(self.images), dtype=np.int64)
        for index, patches in latent_patches(self.network, self.views.training.chunks()):
            if not patches.isfinite().all():  # after the last step there was no loss to look at
                raise ValueError(
                    f"Features must stay finite; some are not in stage {stage.name!r}, after epoch "
                    f"{self.epoch}. Lower learning rates or weights of the costs may help."
                )
            seen = inspect_patches(self.network, index, patches)
            predicted[index] = seen.logits.argmax(1)
            labels = self.labels[index].to(self.device)
            projector.see(patches[: len(index)], torch.from_numpy(index).to(self.device), labels)
        before = self.images.accuracy(predicted)
        projection = projector.replace_prototypes()
        self._record(stage, time.perf_counter() - start, accuracy_before=before)
        return projection

    def _see_all(
        self, stage: LastLayerStage, projection: Projection
    ) -> tuple[LastLayerTask, NDArray[np.float64]]:
        """Compute the similarities for stage 3, and each prototype's distance to its source."""
        start = time.perf_counter()
        network, sources = self.network, projection.images
        training, distances = see(
            network, self.views.training.chunks(), self.images.members, sources
        )
        validation, held_out = None, self.views.validation
        if held_out is not None:
            validation, _ = see(network, held_out.chunks(), held_out.images.members)
        task = LastLayerTask(
            network.prototype_classes.cpu().numpy(),
            network.head.cpu().numpy().copy(),
            training,
            validation,
            HistoryRow(self.round, stage.name, self.epoch, time.perf_counter() - start),
        )
        return task, distances

    def _solve_last_layer(self, task: LastLayerTask) -> None:
        """Stage 3, between two rounds."""
        last_layer, row = task.solve(self.settings.l1_weight, self.settings.l2_weight)
        self.network.head.copy_(torch.from_numpy(last_layer.coef))
        self._note(row)
        self.round += 1

    def _begin(self, moving: Collection[str]) -> None:
        """Freeze all parts but these, and what the user has frozen: no statistics move either.

        While the backbone is frozen and images do not vary, its maps are kept.
        """
        for name, part in self.parts.items():
            parameters = list(part.parameters()) if isinstance(part, nn.Module) else [part]
            for parameter in parameters:
                parameter.requires_grad_(name in moving and id(parameter) in self.trainable)
            if isinstance(part, nn.Module):
                part.train(any(parameter.requires_grad for parameter in parameters))
        if self.settings.freeze_statistics:
            for module in self.network.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        self.views.begin(by_gradients=bool(moving))

    def _optimizer(self, stage: GradientStage) -> Optimizer:
        """Give a stage its optimizer; its rounds go on with the same one."""
        if stage.name not in self.optimizers:
            groups = [self._parameter_group(*item) for item in stage.learning_rates.items()]
            self.optimizers[stage.name] = Optimizer(groups, stage.decay)
        return self.optimizers[stage.name]

    def _parameter_group(self, name: str, rate: float) -> dict[str, Any]:
        part = self.parts[name]
        if isinstance(part, nn.Module):
            parameters = list(part.parameters())
            return {"params": parameters, "lr": rate, "weight_decay": self.settings.weight_decay}
        return {"params": [part], "lr": rate}  # the paper decays no prototype

    def _check_finite(self, stage: GradientStage, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            raise ValueError(
                f"The loss must stay finite; it became {loss.item()} in stage {stage.name!r}, "
                f"epoch {self.epoch}. Lower learning rates or weights of the costs may help."
            )

    @torch.no_grad()
    def _validate(self, stage: Stage) -> float:
        """Accuracy on the validation images; NaN without any."""
        held_out = self.views.validation
        if held_out is None:
            return math.nan
        predicted = np.empty(len(held_out.images), dtype=np.int64)
        if isinstance(stage, GradientStage) and stage.is_pretraining:
            self.pretrained.eval()
            for index, maps in held_out.chunks():
                predicted[index] = self.linear_head(maps)[: len(index)].argmax(1).cpu().numpy()
        else:
            for seen in inspect_maps(self.network, held_out.chunks()):
                predicted[seen.index] = seen.logits.argmax(1)
        return held_out.images.accuracy(predicted)

    def _batches(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Shuffled batches of even size; never of one image, which has no batch statistics."""
        yield from np.array_split(
            self._shuffled(size), count_batches(size, self.settings.batch_size)
        )

    def _shuffled(self, size: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = torch.randperm(size, generator=self.generator).numpy()
        return order

    def _record(self, stage: Stage, seconds: float, *losses: float, **figures: float) -> None:
        seconds, self.preparation = seconds + self.preparation, 0.0
        self._note(HistoryRow(self.round, stage.name, self.epoch, seconds, *losses, **figures))

    def _note(self, row: HistoryRow) -> None:
        self.history.append(row)
        self.on_row(row)
