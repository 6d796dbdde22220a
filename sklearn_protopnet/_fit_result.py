"""The attributes that a fit gives to the estimator, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True)
class FitResult:
    """The fitted attributes, which `ProtoPNetClassifier` documents, less their underscores.

    A fit leaves all of them but those that may be None.
    """

    feature_names_in: NDArray[Any] | None
    n_features_in: int
    image_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    backbone: nn.Module | None
    classes: NDArray[Any]
    prototypes: NDArray[np.float32]
    prototype_classes: NDArray[Any]
    prototype_sample_indices: NDArray[np.int64]
    prototype_boxes: NDArray[np.int64]
    prototype_images: NDArray[Any]
    prototype_image_sizes: NDArray[np.int64]
    prototype_distances: NDArray[np.float64]
    prototype_names: NDArray[np.str_]
    similarity_quantiles: NDArray[np.float64]
    coef: NDArray[np.float64]
    last_layer_gap: float
    l1_weight: float
    l2_weight: float
    history: list[dict[str, Any]]
    edits: list[dict[str, Any]]
    n_iter: int
    loss_curve: list[float]
    state: dict[str, Any]

    def attributes(self, estimator: Any) -> dict[str, Any]:
        """Give the attributes under their names; None where only an earlier fit had left one."""
        found = {f"{name}_": value for name, value in vars(self).items()}
        return {
            name: value
            for name, value in found.items()
            if value is not None or name in vars(estimator)
        }

    def publish(self, estimator: Any) -> None:
        """Let an estimator have them all at once.

        Other threads, and whoever goes on after a Ctrl-C, would see parts of two fits.
        """
        found = self.attributes(estimator)
        vars(estimator).update(found)
        for name in [name for name, value in found.items() if value is None]:
            vars(estimator).pop(name)


FITTED: Final = frozenset(
    f"{each.name}_" for each in fields(FitResult) if not str(each.type).endswith("| None")
)
"""Every fitted classifier has these attributes."""
