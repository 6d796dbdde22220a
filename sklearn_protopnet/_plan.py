"""What the parameters of a classifier ask of a training, and where its state is kept meanwhile."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

from torch import nn

from sklearn_protopnet._fit import Earlier
from sklearn_protopnet._network import Architecture, resolve_device, resolve_precision
from sklearn_protopnet._training import (
    TRAINED_BACKBONE_RATE,
    Checkpoint,
    Settings,
    TrainingTask,
    usual_pretraining,
)
from sklearn_protopnet._validation import TrainingData


def training_task(
    parameters: Any, data: TrainingData, image_shape: tuple[int, int, int], earlier: Earlier
) -> TrainingTask:
    """Say all that a training depends on.

    Parameters
    ----------
    parameters : ProtoPNetClassifier
        Of which nothing else is read.
    data : TrainingData
    image_shape : (int, int, int)
        Height, width and channels of the images that the network takes.
    earlier : Earlier
        What the last fit has left.

    Raises
    ------
    ValueError
        If `prototype_size` is no such pair, or a warm start would need other classes, images or
        another network.
    """
    n_classes, per_class = len(data.classes), int(parameters.n_prototypes_per_class)
    owners = earlier.prototype_classes(n_classes, per_class)
    architecture = _architecture(parameters, image_shape, n_classes, owners)
    device = resolve_device(parameters.device)
    return TrainingTask(
        architecture,
        _settings(parameters, len(data.training), earlier),
        data.training,
        data.validation,
        parameters.augment,
        data.seed,
        device,
        resolve_precision(parameters.precision, device, is_small=architecture.is_small),
        earlier.start(architecture, data.classes),
    )


def checkpoint_of(parameters: Any, task: TrainingTask) -> Checkpoint:
    """Say where the state of a training is kept, if it is.

    Raises
    ------
    ValueError
        If `checkpoint` is an empty name, or `random_state` no integer.
    """
    if parameters.checkpoint is None:
        return Checkpoint(None, "", 0.0)
    if not os.fspath(parameters.checkpoint):
        raise ValueError("checkpoint must name a directory, got an empty name.")
    is_reproducible = isinstance(parameters.random_state, Integral)
    if not is_reproducible:
        raise ValueError(
            "checkpoint needs an integer random_state, since another seed is another training, got "
            f"{parameters.random_state!r}."
        )
    return Checkpoint(parameters.checkpoint, task.key(), parameters.checkpoint_interval)


def _architecture(
    parameters: Any, image_shape: tuple[int, int, int], n_classes: int, owners: tuple[int, ...]
) -> Architecture:
    size = tuple(parameters.prototype_size)
    if len(size) != 2 or not all(isinstance(n, Integral) and int(n) > 0 for n in size):
        raise ValueError(
            "prototype_size must be (height, width) in positive integers, got "
            f"{parameters.prototype_size!r}."
        )
    return Architecture(
        backbone=parameters.backbone,
        image_shape=image_shape,
        n_classes=n_classes,
        prototype_classes=owners,
        prototype_depth=int(parameters.prototype_depth),
        prototype_size=(int(size[0]), int(size[1])),
        similarity=parameters.similarity,
        n_pooled_patches=int(parameters.n_pooled_patches),
        feature_stride=parameters.feature_stride and int(parameters.feature_stride),
        weights=parameters.weights,
    )


def _settings(parameters: Any, n_images: int, earlier: Earlier) -> Settings:
    is_warm_start = earlier.is_warm_start
    is_trained = isinstance(parameters.backbone, nn.Module) or parameters.weights is not None
    pretraining_epochs = parameters.pretraining_epochs
    if pretraining_epochs == "auto":
        usual = usual_pretraining(n_images, parameters.batch_size)
        pretraining_epochs = 0 if is_trained else usual
    backbone_rate = parameters.backbone_learning_rate
    if backbone_rate == "auto":
        backbone_rate = TRAINED_BACKBONE_RATE if is_trained else parameters.learning_rate
    joint_epochs = int(parameters.joint_epochs)
    interval = parameters.projection_interval and int(parameters.projection_interval)
    return Settings(
        pretraining_epochs=0 if is_warm_start else int(pretraining_epochs),
        warmup_epochs=0 if is_warm_start else int(parameters.warmup_epochs),
        joint_epochs=joint_epochs,
        projection_interval=interval if interval and interval < joint_epochs else None,
        learning_rate=float(parameters.learning_rate),
        backbone_learning_rate=float(backbone_rate),
        weight_decay=float(parameters.weight_decay),
        batch_size=int(parameters.batch_size),
        cluster_weight=float(parameters.cluster_weight),
        separation_weight=float(parameters.separation_weight),
        linear_head_weight=float(parameters.linear_head_weight),
        l1_weight=float(parameters.l1_weight),
        l2_weight=float(parameters.l2_weight),
        is_trained=is_trained,
        freeze_statistics=parameters.weights is not None,
        is_warm_start=is_warm_start,
        has_forbidden=earlier.has_forbidden,
        patience=int(parameters.n_iter_no_change) if parameters.early_stopping else None,
    )
