"""How a stage moves parameters, and how it finds back to the best ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


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
