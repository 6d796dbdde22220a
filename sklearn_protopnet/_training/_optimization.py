"""Optimization: the parts that a stage moves, at its rates, and the best of their states."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_protopnet._compat import BatchNorm
from sklearn_protopnet._network import LinearHead, PrototypeNetwork
from sklearn_protopnet._training._stages import GradientStage, Settings


class Optimizer:
    """Adam, with rates that a stage's decay multiplies."""

    def __init__(self, groups: list[dict[str, Any]], decay: Callable[[int], float]) -> None:
        self.adam = torch.optim.Adam(groups)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.adam, decay)

    def step(self, loss: Tensor) -> None:
        """Move the parameters down the loss."""
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def end_epoch(self) -> None:
        """Go on to the next epoch's rates."""
        self.schedule.step()


class Parts:
    """The parts of a network that stages freeze and move.

    Parameters
    ----------
    network : PrototypeNetwork
    linear_head : LinearHead
        Of the pretraining.
    settings : Settings
    """

    def __init__(
        self, network: PrototypeNetwork, linear_head: LinearHead, settings: Settings
    ) -> None:
        self.network, self.linear_head, self.settings = network, linear_head, settings
        self._parts: dict[str, nn.Module | nn.Parameter] = {
            "backbone": network.backbone,
            "add_on": network.add_on,
            "prototypes": network.prototypes,
            "linear_head": linear_head,
        }
        self._trainable = {id(p) for p in network.parameters() if p.requires_grad}
        self._trainable |= {id(p) for p in linear_head.parameters()}
        self._optimizers: dict[str, Optimizer] = {}

    @property
    def is_backbone_moving(self) -> bool:
        """Whether the stage moves the backbone."""
        return any(parameter.requires_grad for parameter in self.network.backbone.parameters())

    def freeze_all_but(self, moving: Collection[str]) -> None:
        """Freeze all parts but these, and what the user has frozen: no statistics move either."""
        for name, part in self._parts.items():
            parameters = list(part.parameters()) if isinstance(part, nn.Module) else [part]
            for parameter in parameters:
                parameter.requires_grad_(name in moving and id(parameter) in self._trainable)
            if isinstance(part, nn.Module):
                part.train(any(parameter.requires_grad for parameter in parameters))
        if self.settings.freeze_statistics:
            for module in self.network.backbone.modules():
                if isinstance(module, BatchNorm):
                    module.eval()

    def optimizer(self, stage: GradientStage) -> Optimizer:
        """Give a stage its optimizer; its rounds go on with the same one."""
        if stage.name not in self._optimizers:
            groups = [self._parameter_group(*item) for item in stage.learning_rates.items()]
            self._optimizers[stage.name] = Optimizer(groups, stage.decay)
        return self._optimizers[stage.name]

    def _parameter_group(self, name: str, rate: float) -> dict[str, Any]:
        part = self._parts[name]
        if isinstance(part, nn.Module):
            parameters = list(part.parameters())
            return {"params": parameters, "lr": rate, "weight_decay": self.settings.weight_decay}
        return {"params": [part], "lr": rate}  # the paper decays no prototype


class BestState:
    """The best state of a module, and whether it is time to go back to it."""

    def __init__(self, module: nn.Module, patience: int | None) -> None:
        self.module = module
        self.patience = patience
        self.score, self.age = -math.inf, 0
        self.state: dict[str, Tensor] = {}

    @property
    def is_stale(self) -> bool:
        return self.patience is not None and self.age >= self.patience

    def update(self, score: float) -> None:
        """Take in the score of an epoch."""
        if self.patience is None:
            return
        self.age += 1
        if score > self.score:
            self.score, self.age = score, 0
            self.state = copy.deepcopy(self.module.state_dict())

    def restore(self) -> None:
        """Put the best state back; without patience there is none."""
        if self.state:
            self.module.load_state_dict(self.state)
