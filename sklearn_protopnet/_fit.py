"""What a fit starts from, and what it finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklearn_protopnet._fit_result import FitResult
from sklearn_protopnet._fitted import FittedClassifier, fitted_network
from sklearn_protopnet._images import Standardization
from sklearn_protopnet._last_layer import Constraints, LastLayer
from sklearn_protopnet._last_layer._function import not_converged
from sklearn_protopnet._network import Architecture
from sklearn_protopnet._training import (
    NO_SOURCE,
    HistoryRow,
    Judgements,
    PrototypeSources,
    Start,
    TrainedNetwork,
    TrainingTask,
    prototype_sources,
    similarity_quantiles,
)
from sklearn_protopnet._validation import class_indices


@dataclass(frozen=True)
class Earlier:
    """What the last fit has left, where a warm start goes on; nothing elsewhere."""

    classifier: FittedClassifier | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_curve: list[float] = field(default_factory=list)
    edits: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, estimator: Any) -> Earlier:
        """Look at a `ProtoPNetClassifier` that is about to be fitted."""
        if not (estimator.warm_start and hasattr(estimator, "state_")):
            return cls()
        return cls(estimator, estimator.history_, estimator.loss_curve_, estimator.edits_)

    @property
    def is_warm_start(self) -> bool:
        """Whether there is something to go on with."""
        return self.classifier is not None

    @property
    def standardization(self) -> Standardization | None:
        """What was done to the pixels."""
        if self.classifier is None:
            return None
        return Standardization(**self.classifier.state_["standardization"])

    @property
    def constraints(self) -> Constraints | None:
        """What an editor asked of the last layer."""
        if self.classifier is None:
            return None
        return Constraints(**self.classifier.state_["constraints"])

    def prototype_classes(self, n_classes: int, n_prototypes_per_class: int) -> tuple[int, ...]:
        """Say which classes, as indices, the prototypes belong to."""
        fitted = self.classifier
        if fitted is None:
            return tuple(np.arange(n_classes).repeat(n_prototypes_per_class).tolist())
        n_before = fitted.state_["n_prototypes_per_class"]
        if n_prototypes_per_class != n_before:
            raise ValueError(
                f"warm_start needs the n_prototypes_per_class of the last fit, {n_before}, got "
                f"{n_prototypes_per_class}."
            )
        return tuple(class_indices(fitted.prototype_classes_, fitted.classes_).tolist())

    def start(self, architecture: Architecture, classes: NDArray[Any]) -> Start | None:
        """Give the network of the last fit, if the next one can go on with it.

        Raises
        ------
        ValueError
            If classes, images or network are others.
        """
        fitted, constraints = self.classifier, self.constraints
        if fitted is None or constraints is None:
            return None
        found = {"image shape": fitted.input_shape_, "classes": fitted.classes_.tolist()}
        asked = {"image shape": architecture.image_shape, "classes": classes.tolist()}
        depth, size = architecture.prototype_depth, architecture.prototype_size
        found |= {"size of prototypes": fitted.prototypes_.shape[1:]}
        asked |= {"size of prototypes": (depth, *size)}
        found |= fitted.state_["architecture"]
        asked |= architecture.plain_values()
        for name, value in asked.items():
            before = found.get(name, "a module")
            if value != before:
                raise ValueError(
                    f"warm_start needs the {name} of the last fit, {before}, got {value}."
                )
        backbone: nn.Module | None = getattr(fitted, "backbone_", None)
        if _structure(backbone) != _structure(architecture.backbone):
            raise ValueError("warm_start needs the backbone of the last fit, got another module.")
        return Start(
            fitted.prototypes_,
            fitted.coef_,
            fitted.state_["network"],
            fitted.state_["linear_head"],
            backbone,
            constraints,
            _judgements(fitted, constraints),
        )

    @property
    def has_forbidden(self) -> bool:
        """Whether an editor was told of patches that no prototype may be."""
        constraints = self.constraints
        return constraints is not None and len(constraints.patch_prototypes) > 0

    @property
    def required_images(self) -> NDArray[Any] | None:
        """Images (r, H, W, C) that required prototypes are patches of."""
        if self.classifier is None or self.constraints is None:
            return None
        return self.classifier.prototype_images_[self.constraints.required]

    def names(self, sources: PrototypeSources) -> NDArray[np.str_]:
        """Give the names of prototypes that are the patches that they were; others have none."""
        fitted = self.classifier
        if fitted is None:
            return np.zeros(len(sources.rows), dtype=np.str_)
        stays = (sources.boxes == fitted.prototype_boxes_).all(1)
        stays &= (sources.images == fitted.prototype_images_).all((1, 2, 3))
        return np.where(stays, fitted.prototype_names_, "")

    def row_after(self, row: HistoryRow) -> dict[str, Any]:
        """Count rounds and epochs of a row on from there."""
        n_rounds = max((each["round"] for each in self.history), default=0)
        n_epochs = len(self.loss_curve)
        return asdict(replace(row, round=row.round + n_rounds, epoch=row.epoch + n_epochs))


def _judgements(fitted: FittedClassifier, constraints: Constraints) -> Judgements:
    """Give the patches that an editor was told of."""
    images, positions = fitted_network(fitted).source_patches(constraints.required)
    numbers = np.concatenate([constraints.patch_prototypes, constraints.required])
    positions = np.concatenate([constraints.patch_positions, positions])
    is_patch = positions != NO_SOURCE
    return Judgements(
        np.concatenate([constraints.patch_images, images])[is_patch],
        positions[is_patch],
        numbers[is_patch],
        len(constraints.patch_prototypes),
    )


def _structure(backbone: object) -> tuple[str, dict[str, torch.Size]]:
    """Say what a module consists of; a name stands for itself."""
    if not isinstance(backbone, nn.Module):
        return "", {}
    return repr(backbone), {name: each.shape for name, each in backbone.state_dict().items()}


@dataclass(frozen=True)
class Fit:
    """A fit at its end."""

    result: FitResult
    row: HistoryRow
    """Of the last layer."""
    warnings: list[Warning]


def finish(
    trained: TrainedNetwork,
    task: TrainingTask,
    classes: NDArray[Any],
    *,
    shapes: dict[str, Any],
    is_resized: bool,
    n_prototypes_per_class: int,
    earlier: Earlier,
) -> Fit:
    """Solve for the last layer of a trained network, and name what was found.

    Parameters
    ----------
    trained : TrainedNetwork
    task : TrainingTask
    classes : ndarray of shape (n_classes,)
        Labels.
    shapes : dict
        What `FitResult` has of the features, and of the shapes of images.
    is_resized : bool
        Whether images are resized before the network takes them.
    n_prototypes_per_class : int
        As the estimator has it.
    earlier : Earlier
    """
    l1_weight, l2_weight = task.settings.l1_weight, task.settings.l2_weight
    last_layer, row = trained.last_layer.solve(l1_weight, l2_weight)
    sources = prototype_sources(task, trained)
    constraints = earlier.constraints or Constraints.none(sources.images)
    result = FitResult(
        **shapes,
        backbone=trained.backbone,
        classes=classes,
        prototypes=trained.prototypes,
        prototype_classes=classes[trained.prototype_classes],
        prototype_sample_indices=sources.rows,
        prototype_boxes=sources.boxes,
        prototype_images=sources.images,
        prototype_image_sizes=sources.sizes,
        prototype_distances=trained.source_distances,
        prototype_names=earlier.names(sources),
        similarity_quantiles=similarity_quantiles(
            trained.last_layer.training, trained.prototype_classes
        ),
        coef=last_layer.coef,
        last_layer_gap=last_layer.gap,
        l1_weight=l1_weight,
        l2_weight=l2_weight,
        history=[*earlier.history, *map(earlier.row_after, (*trained.history, row))],
        edits=earlier.edits,
        n_iter=len(earlier.loss_curve) + len(trained.loss_curve),
        loss_curve=[*earlier.loss_curve, *trained.loss_curve],
        state={
            "architecture": task.architecture.plain_values(),
            "network": trained.layers,
            "linear_head": trained.linear_head,
            "standardization": asdict(task.training.source.standardization),
            "receptive_field": asdict(trained.receptive_field),
            "is_backbone_frozen": task.settings.is_backbone_frozen,
            "is_resized": is_resized,
            "n_prototypes_per_class": n_prototypes_per_class,
            "constraints": vars(constraints),
        },
    )
    return Fit(result, row, _warnings_of(task, trained, last_layer, classes))


def _warnings_of(
    task: TrainingTask, trained: TrainedNetwork, last_layer: LastLayer, classes: NDArray[Any]
) -> list[Warning]:
    """Say what users should know of a fit."""
    found: list[Warning] = []
    missing = trained.prototype_classes[trained.projection.images == NO_SOURCE]
    if len(missing):
        found.append(
            UserWarning(
                f"No training image of classes {classes[np.unique(missing)].tolist()} has a "
                "positive weight: their prototypes stay as they were drawn and are no patches of "
                "images."
            )
        )
    if trained.interrupted_in is not None:
        found.append(
            UserWarning(
                "Training was interrupted in stage {!r}, epoch {}".format(*trained.interrupted_in)
                + f" of {task.settings.n_epochs}: prototypes were "
                "projected, and the last layer solved for, on the best state until then."
            )
        )
    if not last_layer.converged:
        found.append(ConvergenceWarning(not_converged(last_layer)))
    return found
