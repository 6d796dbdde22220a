"""The objective of stage 1, as pure functions.

Shapes: N images, P prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Costs:
    """The costs of a batch, each a weighted mean over its images; NaN where there is none."""

    cross_entropy: Tensor
    cluster: Tensor
    separation: Tensor
    linear_head: Tensor
    """Cross-entropy of a linear head that learns beside the prototypes."""

    def total(
        self, cluster_weight: float, separation_weight: float, linear_head_weight: float
    ) -> Tensor:
        """``CrsEnt + lambda1 Clst + lambda2 Sep`` (Chen et al. 2019, section 2.2).

        And the cost of the linear head, unless its weight is 0.
        """
        loss = (
            self.cross_entropy + cluster_weight * self.cluster + separation_weight * self.separation
        )
        return loss + linear_head_weight * self.linear_head if linear_head_weight else loss


def costs(
    distances: Tensor,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    prototype_classes: Tensor,
    linear_logits: Tensor | None = None,
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
    linear_logits : Tensor of shape (N, K), default=None
        Of a linear head that learns beside the prototypes.

    Returns
    -------
    Costs
    """
    own = prototype_classes == labels[:, None]  # (N, P)
    to_own = distances.masked_fill(~own, torch.inf).amin(1)  # (N,)
    to_others = distances.masked_fill(own, torch.inf).amin(1)  # (N,)
    cross_entropy = weighted_cross_entropy(logits, labels, weights)
    return Costs(
        cross_entropy=cross_entropy,
        cluster=(weights * to_own).mean(),
        separation=-(weights * to_others).mean(),
        linear_head=(
            torch.full_like(cross_entropy, torch.nan)
            if linear_logits is None
            else weighted_cross_entropy(linear_logits, labels, weights)
        ),
    )


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of logits (N, K): the objective of the pretraining."""
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # (N,)
    return (weights * losses).mean()
