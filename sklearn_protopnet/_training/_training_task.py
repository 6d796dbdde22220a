"""Everything that a trained network depends on, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sklearn_protopnet._images import Dataset, Transform
from sklearn_protopnet._network import Architecture
from sklearn_protopnet._training._cache_key import digest_of
from sklearn_protopnet._training._stages import Settings
from sklearn_protopnet._training._start import Start


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a trained network depends on."""

    architecture: Architecture
    settings: Settings
    training: Dataset
    validation: Dataset | None
    augment: str | Transform | None
    """Name of what varies the training images, or a callable that does."""
    seed: int
    device: torch.device
    precision: torch.dtype
    """Of the gradient stages."""
    start: Start | None = None
    """What the training goes on from, with its joint epochs."""

    def key(self) -> str:
        """Digest all that the trained network depends on.

        Raises
        ------
        ValueError
            If the backbone or `augment` is an object that cannot be pickled.
        """
        penalties = [self.settings.l1_weight, self.settings.l2_weight]
        return digest_of(
            task=self,
            weights=self.architecture.weights_key(),
            penalties=penalties if self.settings.needs_last_layers else None,
        )

    def shared_digest(self) -> str:
        """Digest what processes that train together must have in common.

        A backbone or an `augment` that cannot be pickled is left out.
        """
        settings = self.settings
        try:
            key = self.key()
        except ValueError:
            key = digest_of(training=self.training, validation=self.validation, settings=settings)
        return digest_of(key=key, penalties=[settings.l1_weight, settings.l2_weight])
