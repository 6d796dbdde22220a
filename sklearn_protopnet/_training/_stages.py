"""The stages of a training, as data.

A fit is a list of stages. Whatever a stage does not name is frozen and in ``eval()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PARTS = ("backbone", "add_on", "prototypes")
"""The parts of the network that gradients may move."""


@dataclass(frozen=True)
class GradientStage:
    """Epochs of stochastic gradient descent (Adam) on some parts of the network."""

    name: str
    epochs: int
    learning_rates: dict[str, float]
    """The parts that move, with their rates at the first epoch."""


@dataclass(frozen=True)
class ProjectionStage:
    """Every prototype becomes the nearest training patch of its class."""

    name: str = "projection"


@dataclass(frozen=True)
class LastLayerStage:
    """The last layer is solved for."""

    name: str = "last_layer"


Stage = GradientStage | ProjectionStage | LastLayerStage


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a training, as in the estimator's constructor."""

    warmup_epochs: int
    joint_epochs: int
    projection_interval: int
    learning_rate: float
    backbone_learning_rate: float
    decay_factor: float
    decay_interval: int
    weight_decay: float
    batch_size: int
    cluster_weight: float
    separation_weight: float
    l1_weight: float
    l2_weight: float
    patience: int | None
    """Joint epochs without a better validation score after which to stop; None: never."""

    def stages(self) -> Iterator[Stage]:
        """Yield a warm-up, then rounds of joint epochs, projection and last layer."""
        new_parts = {"add_on": self.learning_rate, "prototypes": self.learning_rate}
        if self.warmup_epochs:
            yield GradientStage("warmup", self.warmup_epochs, new_parts)
        all_parts = {"backbone": self.backbone_learning_rate, **new_parts}
        for start in range(0, max(1, self.joint_epochs), self.projection_interval):
            epochs = min(self.projection_interval, self.joint_epochs - start)
            if epochs:
                yield GradientStage("joint", epochs, all_parts)
            yield ProjectionStage()
            yield LastLayerStage()

    @property
    def n_epochs(self) -> int:
        """Epochs of all gradient stages together."""
        return self.warmup_epochs + self.joint_epochs
