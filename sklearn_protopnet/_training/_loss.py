"""The objective of stage 1, as pure functions.

Shapes: N images, P prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Costs:
    """The three costs of a batch, each a weighted mean over its images."""

    cross_entropy: Tensor
    cluster: Tensor
    separation: Tensor

    def total(self, cluster_weight: float, separation_weight: float) -> Tensor:
        """``CrsEnt + lambda1 Clst + lambda2 Sep`` (Chen et al. 2019, section 2.2)."""
        return (
            self.cross_entropy + cluster_weight * self.cluster + separation_weight * self.separation
        )


def costs(
    distances: Tensor,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    prototype_classes: Tensor,
) -> Costs:
    """Cross-entropy, cluster and separation costs (Chen et al. 2019, section 2.2).

    ``Clst`` is the mean distance from an image to the nearest prototype of its own class,
    ``Sep`` minus the mean distance to the nearest prototype of any other class.

    Parameters
    ----------
    distances : Tensor of shape (N, P)
        Squared, of each prototype to the nearest patch.
    logits : Tensor of shape (N, K)
    labels : int64 Tensor of shape (N,)
    weights : Tensor of shape (N,)
        Sample weights, of mean 1 over the training set.
    prototype_classes : int64 Tensor of shape (P,)

    Returns
    -------
    Costs
    """
    own = prototype_classes == labels[:, None]  # (N, P)
    to_own = distances.masked_fill(~own, torch.inf).amin(1)  # (N,)
    to_others = distances.masked_fill(own, torch.inf).amin(1)  # (N,)
    return Costs(
        cross_entropy=weighted_cross_entropy(logits, labels, weights),
        cluster=(weights * to_own).mean(),
        separation=-(weights * to_others).mean(),
    )


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of logits (N, K): the objective of the pretraining."""
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # (N,)
    return (weights * losses).mean()
