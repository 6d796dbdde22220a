"""Epochs of gradient descent: batches of images, augmented, and the losses of their stages.

Shapes: n training images, N images of a batch, F channels of an H x W map, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import Changes, Dataset, Transform, transform_by
from sklearn_protopnet._network import FewCellProducts
from sklearn_protopnet._ranks import Ranks
from sklearn_protopnet._training._feature_cache import FeatureCache
from sklearn_protopnet._training._judged_patches import JudgedPatches
from sklearn_protopnet._training._loss import Costs, costs, weighted_cross_entropy
from sklearn_protopnet._training._optimization import Parts, WeightAverage
from sklearn_protopnet._training._stages import GradientStage, count_batches

LARGEST_SEED: Final = 2**62
"""Seeds of augmentations lie below."""

_Step = tuple[Tensor, Costs, Tensor]
"""It has loss and costs of a batch, and its logits (N, K)."""


class GradientEpochs:
    """Runs epochs that move the parts of a network.

    Parameters
    ----------
    parts : Parts
        Of the network.
    dataset : Dataset
        Training images.
    features : FeatureCache
        Their maps, while the backbone does not move.
    generator : torch.Generator
        Draws the order of the batches, and seeds of augmentations.
    augment : str, callable or None
        What varies the images.
    precision : torch.dtype
    ranks : Ranks
        Processes that have a part of each batch.
    judged : JudgedPatches, default=None
        Patches that cost something.
    """

    def __init__(
        self,
        parts: Parts,
        dataset: Dataset,
        features: FeatureCache,
        generator: torch.Generator,
        *,
        augment: str | Transform | None,
        precision: torch.dtype,
        ranks: Ranks,
        judged: JudgedPatches | None = None,
    ) -> None:
        self.judged = judged
        self.parts, self.network, self.settings = parts, parts.network, parts.settings
        self.dataset, self.features, self.generator = dataset, features, generator
        self.device = parts.network.prototypes.device
        self.ranks = ranks
        self.labels = torch.from_numpy(dataset.labels)  # (n,)
        self.weights = torch.from_numpy(dataset.weights).float()  # (n,)
        source = dataset.source
        self.transform = transform_by(augment, source.images.shape, source.standardization.mean)
        # A cache would outlive the step, and its weights, where the caller has an autocast, too.
        self.autocast = partial(
            torch.autocast,
            self.device.type,
            torch.bfloat16,
            enabled=precision == torch.bfloat16,
            cache_enabled=False,
        )

    @property
    def is_augmented(self) -> bool:
        """Whether images are varied, so that no epoch asks for the maps of plain ones."""
        return self.transform is not None

    def run(
        self,
        stage: GradientStage,
        epoch: int,
        average: WeightAverage,
        is_interrupted: Callable[[], bool],
    ) -> list[float]:
        """Make one pass over the training images, with the parts frozen that do not move.

        Parameters
        ----------
        stage : GradientStage
        epoch : int
            Its number, for the message.
        average : WeightAverage
            Takes in every step.
        is_interrupted : callable
            Asked at every step.

        Returns
        -------
        list of float
            Mean loss, its costs, and the accuracy.

        Raises
        ------
        ValueError
            If the loss of a batch is not finite, or a batch has fewer images than there are
            processes.
        KeyboardInterrupt
            After a step, if the epoch is to end.
        """
        optimizer = self.parts.optimizer(stage)
        step = self._pretraining_step
        if not stage.is_pretraining:
            step = partial(self._prototype_step, with_head="linear_head" in stage.learning_rates)
        sums = torch.zeros(2 + len(fields(Costs)), dtype=torch.float64)
        n_images = len(self.dataset)
        order = torch.randperm(n_images, generator=self.generator).numpy()
        batches = np.array_split(order, count_batches(n_images, self.settings.batch_size))
        if len(batches[-1]) < self.ranks.size:
            raise ValueError(
                f"Batches must have an image for each of {self.ranks.size} processes, got one of "
                f"{len(batches[-1])}."
            )
        own = [self.ranks.part(batch) for batch in batches]
        for batch, part, maps in zip(batches, own, self._feature_batches(own), strict=True):
            labels = self.labels[part].to(self.device)
            weights = self.weights[part].to(self.device)
            share = len(part) / len(batch)
            with self.autocast():
                judged = self._judged_costs(maps[len(part) :], share)
                loss, parts, logits = step(maps[: len(part)], labels, weights, judged)
            optimizer.zero_grad()
            (share * loss).backward()
            accuracy = (weights * (logits.argmax(1) == labels)).mean()
            figures = share * torch.stack([loss, *vars(parts).values(), accuracy]).detach()
            interrupted = torch.full_like(figures[:1], float(is_interrupted()))
            self.ranks.add_up([*optimizer.gradients(), figures, interrupted])
            if not math.isfinite(figures[0].item()):
                raise ValueError(
                    f"The loss must stay finite; it became {figures[0].item()} in stage "
                    f"{stage.name!r}, epoch {epoch}. Lower learning rates or weights of the costs "
                    "may help."
                )
            optimizer.step()
            average.update()
            sums += len(batch) * figures.cpu()
            if interrupted.item():
                raise KeyboardInterrupt
        return [float(value) for value in sums / n_images]

    def _feature_batches(self, batches: list[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield the backbone's maps of an epoch's batches, augmented, with gradients if it moves.

        Every image is augmented from a seed of its own: neither its batch nor the process that
        reads it matters.
        """
        source, rows, more = self.dataset.source, self.dataset.rows, self._judged_images()
        changes = None
        if self.transform is not None:
            seeds = np.zeros(len(source.images), dtype=np.int64)
            drawn = torch.randint(LARGEST_SEED, (len(rows),), generator=self.generator)
            seeds[rows] = drawn.numpy()
            changes = Changes(self.transform, seeds)
        elif not self.parts.is_backbone_moving:
            more = [self.network.feature_maps(images) for images in more]
            for batch in batches:
                yield torch.cat([self.features.batch(batch), *more])
            return
        for images in source.batches([rows[batch] for batch in batches], changes):
            with self.autocast(), FewCellProducts():
                maps = self.network.feature_maps(torch.cat([images.to(self.device), *more]))
            yield maps

    def _judged_images(self) -> list[Tensor]:
        """Give the images that are added to every batch, if there are some."""
        return [] if self.judged is None else [self.judged.images]

    def _judged_costs(self, maps: Tensor, share: float) -> tuple[Tensor, Tensor] | None:
        return None if self.judged is None else self.judged.costs(maps, share)

    def _pretraining_step(
        self, maps: Tensor, labels: Tensor, weights: Tensor, _: tuple[Tensor, Tensor] | None
    ) -> _Step:
        """Compute the loss of the linear head."""
        logits = self.parts.linear_head(maps).float()
        loss = weighted_cross_entropy(logits, labels, weights)
        no_cost = torch.full_like(loss, math.nan)
        return loss, Costs(loss, *[no_cost] * 5), logits

    def _prototype_step(
        self,
        maps: Tensor,
        labels: Tensor,
        weights: Tensor,
        judged: tuple[Tensor, Tensor] | None,
        *,
        with_head: bool,
    ) -> _Step:
        """Compute the loss of the prototypes, and of the linear head where it learns on."""
        distances, logits = self.network(maps)
        parts = costs(
            distances,
            logits,
            labels,
            weights,
            prototype_classes=self.network.prototype_classes,
            linear_logits=self.parts.linear_head(maps).float() if with_head else None,
            judged=judged,
        )
        settings = self.settings
        loss = parts.total(
            settings.cluster_weight,
            settings.separation_weight,
            settings.linear_head_weight if with_head else 0,
        )
        return loss, parts, logits
