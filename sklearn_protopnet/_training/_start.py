"""What a training goes on from: a network that has been fitted.

Shapes: P prototypes of depth D and H1 x W1 cells, K classes, F channels of the backbone's map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_protopnet._last_layer import Constraints
from sklearn_protopnet._network import LinearHead, PrototypeNetwork
from sklearn_protopnet._training._judged_patches import Judgements


@dataclass(frozen=True)
class Start:
    """A fitted network in arrays."""

    prototypes: NDArray[np.float32]
    """(P, D, H1, W1)"""
    coef: NDArray[np.float64]
    """(K, P)"""
    layers: dict[str, NDArray[Any]]
    """Parameters and statistics of the other layers, but of a backbone that is a module."""
    linear_head: dict[str, NDArray[np.float32]]
    """Weights (K, F) and bias (K,) of what learns beside the prototypes."""
    backbone: nn.Module | None
    """The trained backbone, where it is a module."""
    constraints: Constraints
    """What an editor asked of the last layer."""
    judgements: Judgements
    """Patches that are forbidden, and where required prototypes stay."""

    @torch.no_grad()
    def put_into(self, network: PrototypeNetwork, linear_head: LinearHead) -> None:
        """Let a network of this architecture, and a linear head, be the fitted ones."""
        arrays = {**self.layers, "prototypes": self.prototypes, "head": self.coef}
        arrays["prototype_classes"] = network.prototype_classes.cpu().numpy()
        if self.backbone is not None:
            network.backbone.load_state_dict(self.backbone.state_dict())
            found = network.backbone.state_dict(prefix="backbone.")
            arrays |= {name: value.cpu().numpy() for name, value in found.items()}
        network.load_state_dict(_tensors(arrays))
        linear_head.load_state_dict(_tensors(self.linear_head))


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
