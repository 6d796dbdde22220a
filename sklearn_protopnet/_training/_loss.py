"""The objective of stage 1, as pure functions.

Shapes: N images, P prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

FORGETTING_WEIGHT: Final = 1.0
"""With a weight of 1 no prototype was left that follows a spurious square after five epochs, with
0.1 some were, and with 0 half of those that had (two seeds)."""
REMEMBERING_WEIGHT: Final = 0.1
"""The projection puts required prototypes back in any case."""


@dataclass(frozen=True)
class Costs:
    """The costs of a batch, each a weighted mean over its images; NaN where there is none."""

    cross_entropy: Tensor
    cluster: Tensor
    separation: Tensor
    linear_head: Tensor
    """Cross-entropy of a linear head that learns beside the prototypes."""
    forgetting: Tensor
    remembering: Tensor
    """Of patches that an expert has judged."""

    def total(
        self, cluster_weight: float, separation_weight: float, linear_head_weight: float
    ) -> Tensor:
        """``CrsEnt + lambda1 Clst + lambda2 Sep`` (Chen et al. 2019, section 2.2).

        And the cost of the linear head, unless its weight is 0, and those of judged patches, where
        there are some.
        """
        loss = (
            self.cross_entropy + cluster_weight * self.cluster + separation_weight * self.separation
        )
        if linear_head_weight:
            loss = loss + linear_head_weight * self.linear_head
        if not self.forgetting.isnan():
            loss = loss + FORGETTING_WEIGHT * self.forgetting
            loss = loss + REMEMBERING_WEIGHT * self.remembering
        return loss


def costs(
    distances: Tensor,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    prototype_classes: Tensor,
    linear_logits: Tensor | None = None,
    judged: tuple[Tensor, Tensor] | None = None,
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
    judged : (Tensor, Tensor), default=None
        Forgetting and remembering costs.

    Returns
    -------
    Costs
    """
    own = prototype_classes == labels[:, None]  # (N, P)
    to_own = distances.masked_fill(~own, torch.inf).amin(1)  # (N,)
    to_others = distances.masked_fill(own, torch.inf).amin(1)  # (N,)
    cross_entropy = weighted_cross_entropy(logits, labels, weights)
    nothing = torch.full_like(cross_entropy, torch.nan)
    return Costs(
        cross_entropy=cross_entropy,
        cluster=(weights * to_own).mean(),
        separation=-(weights * to_others).mean(),
        linear_head=(
            nothing
            if linear_logits is None
            else weighted_cross_entropy(linear_logits, labels, weights)
        ),
        forgetting=nothing if judged is None else judged[0],
        remembering=nothing if judged is None else judged[1],
    )


def forgetting(similarities: Tensor, own: Tensor, n_patches: int) -> Tensor:
    """Mean over forbidden patches of the largest similarity to a prototype of the class.

    ``l_for`` of Bontempelli et al. (ICLR 2023, section 4), over all forbidden patches.

    Parameters
    ----------
    similarities : Tensor of shape (q, P)
    own : bool Tensor of shape (q, P)
        Whether the patch is forbidden to the prototype's class.
    n_patches : int
        All forbidden patches, of which `similarities` may have some only.

    Returns
    -------
    Tensor
        0 for no patch.
    """
    return similarities.masked_fill(~own, -torch.inf).amax(1).sum() / max(1, n_patches)


def remembering(similarities: Tensor, n_patches: int) -> Tensor:
    """Minus the mean similarity (r,) of required prototypes to their own patches.

    ``l_rem`` of Bontempelli et al. (ICLR 2023, section 4), where a patch is to be remembered by the
    prototype that it is.

    Parameters
    ----------
    similarities : Tensor of shape (r,)
    n_patches : int
        All such patches, of which there may be some only.

    Returns
    -------
    Tensor
        0 for no prototype.
    """
    return -similarities.sum() / max(1, n_patches)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of logits (N, K): the objective of the pretraining."""
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # (N,)
    return (weights * losses).mean()
