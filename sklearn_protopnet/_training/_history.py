"""The record of a training: one row per stage and epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NAN: Final = float("nan")


@dataclass(frozen=True)
class HistoryRow:
    """What one epoch, projection or last layer did; NaN where a column does not apply."""

    round: int
    """Counts projections, from 1; a warm-up belongs to round 1."""
    stage: str
    epoch: int
    """Counts gradient epochs, from 1; a projection belongs to the epoch before it."""
    seconds: float
    loss: float = NAN
    """Objective of the stage: stage 1's weighted sum, or that of the last layer."""
    cross_entropy: float = NAN
    cluster: float = NAN
    separation: float = NAN
    linear_head: float = NAN
    """Cross-entropy of the linear head that learns beside the prototypes."""
    forgetting: float = NAN
    remembering: float = NAN
    """Costs of patches that are forbidden or required."""
    accuracy_before: float = NAN
    """Training accuracy before a projection or a last layer."""
    accuracy: float = NAN
    """Training accuracy: during an epoch, or after a projection or a last layer."""
    validation_accuracy: float = NAN
    gap: float = NAN
    """Certified bound on the last layer's distance from its optimum."""
    learning_rate: float = NAN
    backbone_learning_rate: float = NAN
    """Those of the epoch; the backbone's is 0 while it is frozen."""
