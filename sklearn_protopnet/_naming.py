"""What a fit leaves on the estimator: what training found, under the names of its attributes."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

from sklearn_protopnet._last_layer._function import warn_unless_converged
from sklearn_protopnet._training import (
    UNPROJECTED,
    HistoryRow,
    LastLayerTask,
    TrainedNetwork,
    TrainingTask,
    similarity_quantiles,
)


def name_network(estimator: Any, task: TrainingTask, trained: TrainedNetwork) -> None:
    """Keep what training found, in NumPy arrays and plain values; a cache may map its own."""
    training, field = trained.training, trained.receptive_field
    projection = training.projection
    is_patch = projection.images != UNPROJECTED
    classes = trained.state["prototype_classes"]
    if not is_patch.all():
        missing = estimator.classes_[np.unique(classes[~is_patch])]
        warnings.warn(
            f"No training image of classes {missing.tolist()} has a positive weight: their "
            "prototypes stay as they were drawn and are no patches of images.",
            stacklevel=4,
        )
    images = task.images.source.images
    rows = np.where(is_patch, task.images.members.rows[projection.images], UNPROJECTED)
    boxes = field.boxes(
        np.where(is_patch, projection.positions, 0), task.architecture.prototype_size
    )
    pixels = images.read(rows)
    estimator.prototypes_ = np.array(trained.state["prototypes"])
    estimator.prototype_classes_ = estimator.classes_[classes]
    estimator.prototype_sample_indices_ = rows
    estimator.prototype_boxes_ = images.original_boxes(rows, boxes) * is_patch[:, None]
    estimator.prototype_images_ = pixels * is_patch[:, None, None, None].astype(pixels.dtype)
    estimator.prototype_image_sizes_ = images.original_sizes(rows) * is_patch[:, None]
    estimator.prototype_distances_ = np.array(training.source_distances)
    estimator.similarity_quantiles_ = similarity_quantiles(training.last_layer.training, classes)
    estimator.history_ = [asdict(row) for row in training.history]
    epochs = [row for row in training.history if row.stage not in {"projection", "last_layer"}]
    estimator.n_iter_ = len(epochs)
    estimator.loss_curve_ = [row.loss for row in epochs]
    estimator.state_ = {
        "architecture": task.architecture.plain_values(),
        "network": {name: np.array(value) for name, value in trained.state.items()},
        "standardization": asdict(task.images.source.standardization),
        "receptive_field": asdict(field),
    }


def solve_last_layer(
    estimator: Any, task: LastLayerTask, l1_weight: float, l2_weight: float
) -> HistoryRow:
    """Solve for the last layer and keep it; a network with the last one is dropped."""
    last_layer, row = task.solve(float(l1_weight), float(l2_weight))
    warn_unless_converged(last_layer, stacklevel=5)
    estimator.coef_ = last_layer.coef
    estimator.last_layer_gap_ = last_layer.gap
    estimator.l1_weight_, estimator.l2_weight_ = float(l1_weight), float(l2_weight)
    estimator.history_ = [*estimator.history_, asdict(row)]
    estimator.state_ = {
        **estimator.state_,
        "network": {**estimator.state_["network"], "head": estimator.coef_.copy()},
    }
    estimator.__dict__.pop("_network", None)
    return row
