"""The stages of a training, as data.

A fit is a list of stages. Whatever a stage does not name is frozen and in ``eval()``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PRETRAINING_EPOCHS: Final = (15, 40)
"""A pretraining whose length is not given has between so many epochs."""

TRAINED_BACKBONE_RATE: Final = 1e-4
"""The paper's rate for convolutions that are trained already."""

PRETRAINING_STEPS: Final = 320
"""It takes so many steps, within these bounds. On 60 digits, which are one batch, 15 epochs cost 5
points of accuracy (docs/user_guide/accuracy.rst)."""


@dataclass(frozen=True)
class GradientStage:
    """Epochs of stochastic gradient descent (Adam) on some of the parts."""

    name: str
    epochs: int
    learning_rates: dict[str, float]
    """The parts that move, with their rates: of ``"backbone"``, ``"add_on"``, ``"prototypes"``,
    and ``"linear_head"``, which is none of the fitted network's."""
    is_last: bool = True
    """Whether this is the stage's last round, after which the best network is put back."""
    may_stop_early: bool = True
    """Whether validation scores may end the stage."""

    @property
    def is_pretraining(self) -> bool:
        """Whether a linear head takes the place of the prototypes."""
        return "prototypes" not in self.learning_rates

    @property
    def rates(self) -> dict[str, float]:
        """Those of its rows in the history: of what is new, and of the backbone."""
        of_new = self.learning_rates["linear_head" if self.is_pretraining else "prototypes"]
        of_backbone = self.learning_rates.get("backbone", 0.0)
        return {"learning_rate": of_new, "backbone_learning_rate": of_backbone}


@dataclass(frozen=True)
class InitializationStage:
    """Prototypes are put at patches of images, in the mode of the stage after it."""

    moving: tuple[str, ...]
    """The parts that move in the stage after it."""
    name: str = "initialization"


@dataclass(frozen=True)
class ProjectionStage:
    """Every prototype becomes the nearest training patch of its class."""

    name: str = "projection"


@dataclass(frozen=True)
class LastLayerStage:
    """The last layer is solved for."""

    is_last: bool = True
    """Whether this is the stage's last round."""
    name: str = "last_layer"


Stage = GradientStage | InitializationStage | ProjectionStage | LastLayerStage


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a training, as in the estimator's constructor."""

    pretraining_epochs: int
    warmup_epochs: int
    joint_epochs: int
    projection_interval: int | None
    """Joint epochs of a round; None: one round has them all."""
    learning_rate: float
    backbone_learning_rate: float
    weight_decay: float
    batch_size: int
    cluster_weight: float
    separation_weight: float
    linear_head_weight: float
    l1_weight: float
    l2_weight: float
    is_trained: bool
    """Whether the backbone's weights are taken to be trained."""
    freeze_statistics: bool
    """Whether the backbone's batch normalisation keeps the statistics that it came with."""
    is_warm_start: bool
    """Whether joint epochs come at once, since the network has been fitted."""
    has_forbidden: bool
    """Whether there are prototypes that must not stay at their patches."""
    patience: int | None
    """Epochs of a stage without a better validation score after which to stop; None: never."""

    def rounds(self) -> list[list[Stage]]:
        """Give the stages of each round, the last of which are a projection and a last layer."""
        rounds: list[list[Stage]] = [[]]
        for stage in self._stages():
            rounds[-1].append(stage)
            if isinstance(stage, LastLayerStage) and not stage.is_last:
                rounds.append([])
        return rounds

    def _stages(self) -> Iterator[Stage]:
        """Yield pretraining, warm-up, then rounds of joint epochs, projection, last layer."""
        rate = self.learning_rate
        linear_head = {"linear_head": rate}
        new_parts = {"add_on": rate, "prototypes": rate}
        backbone = {"backbone": self.backbone_learning_rate} if self.backbone_learning_rate else {}
        if backbone and self.linear_head_weight:
            new_parts |= linear_head
        all_parts = {**backbone, **new_parts}
        if self.pretraining_epochs:
            pretrained = {"backbone": rate, **linear_head}
            yield GradientStage("pretraining", self.pretraining_epochs, pretrained)
        first = new_parts if self.warmup_epochs else all_parts if self.joint_epochs else ()
        if not self.is_warm_start:
            yield InitializationStage(tuple(first))
        if self.has_forbidden and self.joint_epochs:
            yield ProjectionStage()
        if self.warmup_epochs:
            yield GradientStage("warmup", self.warmup_epochs, new_parts, may_stop_early=False)
        for start in range(0, max(1, self.joint_epochs), self.round_epochs):
            epochs = min(self.round_epochs, self.joint_epochs - start)
            is_last = start + epochs == self.joint_epochs
            if epochs:
                yield GradientStage("joint", epochs, all_parts, is_last)
            yield ProjectionStage()
            yield LastLayerStage(is_last)

    @property
    def round_epochs(self) -> int:
        """Joint epochs of a round, the last of which may have fewer."""
        return self.projection_interval or max(1, self.joint_epochs)

    @property
    def is_backbone_frozen(self) -> bool:
        """Whether no stage moves the backbone."""
        is_joint = self.joint_epochs > 0 and self.backbone_learning_rate > 0
        return not (self.pretraining_epochs or is_joint)

    @property
    def lacks_statistics(self) -> bool:
        """Whether a warm-up finds batch normalisation that has seen no image, and joint epochs do.

        The backbone's maps would become others as soon as these begin.
        """
        has_some = self.is_trained or self.pretraining_epochs or self.is_backbone_frozen
        return self.warmup_epochs > 0 and not has_some

    @property
    def needs_last_layers(self) -> bool:
        """Whether last layers are solved for between epochs, which then depend on its penalties."""
        return self.joint_epochs > self.round_epochs or self.patience is not None

    @property
    def n_epochs(self) -> int:
        """Epochs of all gradient stages together."""
        return self.pretraining_epochs + self.warmup_epochs + self.joint_epochs


def count_batches(n_images: int, batch_size: int) -> int:
    """Count an epoch's batches: of one image only if there is one, which has no statistics."""
    return min(math.ceil(n_images / batch_size), max(1, n_images // 2))


def usual_pretraining(n_images: int, batch_size: int) -> int:
    """Epochs of a pretraining whose length is not given: more of them for fewer images."""
    least, most = PRETRAINING_EPOCHS
    wanted = math.ceil(PRETRAINING_STEPS / count_batches(n_images, batch_size))
    return min(max(wanted, least), most)
