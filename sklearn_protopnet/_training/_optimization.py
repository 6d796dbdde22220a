"""Optimization: the parts that a stage moves, at its rates, and the best of their states."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from sklearn_protopnet._compat import BatchNorm
from sklearn_protopnet._network import LinearHead, PrototypeNetwork
from sklearn_protopnet._training._stages import GradientStage, Settings


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
        self._optimizers: dict[str, Adam] = {}

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
        for module in self.network.backbone.modules():
            if isinstance(module, BatchNorm) and self._keeps_statistics(module):
                module.eval()

    def _keeps_statistics(self, norm: nn.Module) -> bool:
        own = [id(parameter) for parameter in norm.parameters()]
        is_frozen = bool(own) and self._trainable.isdisjoint(own)  # by the user
        return self.settings.freeze_statistics or is_frozen

    def optimizer(self, stage: GradientStage) -> Adam:
        """Give a stage its optimizer; its rounds go on with the same one."""
        if stage.name not in self._optimizers:
            groups = [self._parameter_group(*item) for item in stage.learning_rates.items()]
            self._optimizers[stage.name] = Adam(groups)
        return self._optimizers[stage.name]

    def forget_optimizer(self, stage: GradientStage) -> None:
        """Let go of what only further rounds of a stage would need."""
        self._optimizers.pop(stage.name, None)

    def optimizer_states(self) -> dict[str, Any]:
        """Give the states of the stages' optimizers."""
        return {name: each.state_dict() for name, each in self._optimizers.items()}

    def average(self, stage: GradientStage) -> WeightAverage:
        """Begin an average of the parts that a stage moves, statistics included."""
        tensors: list[Tensor] = []
        for name in stage.learning_rates:
            part = self._parts[name]
            tensors += (
                part.state_dict().values() if isinstance(part, nn.Module) else [part.detach()]
            )
        return WeightAverage([tensor for tensor in tensors if tensor.is_floating_point()])

    def _parameter_group(self, name: str, rate: float) -> dict[str, Any]:
        part = self._parts[name]
        if isinstance(part, nn.Module):
            parameters = list(part.parameters())
            return {"params": parameters, "lr": rate, "weight_decay": self.settings.weight_decay}
        return {"params": [part], "lr": rate}  # the paper decays no prototype


class Adam(torch.optim.Adam):
    """Adam on parameters as they lie in memory.

    Weights of networks whose maps have their channels last do not lie in the order of their
    indices. torch's fast implementation would copy them to and fro: a step of 2.4 million weights
    took 28 ms and not 10.

    A step is made with what `gradients` has given before it.

    Parameters
    ----------
    groups : list of dict
        As torch's own takes them, of leaves.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.parameters: list[Tensor] = [each for group in groups for each in group["params"]]
        views = [
            {**group, "params": [_in_memory(each.detach(), each) for each in group["params"]]}
            for group in groups
        ]
        is_fast = all(
            view.is_contiguous() and view.is_floating_point()
            for group in views
            for view in group["params"]
        )
        super().__init__(views, fused=is_fast)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        super().zero_grad(set_to_none)

    def gradients(self) -> list[Tensor]:
        """Take the gradients of those parameters that have any, as they lie in memory."""
        views = [each for group in self.param_groups for each in group["params"]]
        for view, parameter in zip(views, self.parameters, strict=True):
            gradient = parameter.grad
            view.grad = None if gradient is None else _in_memory(gradient, parameter).contiguous()
        return [view.grad for view in views if view.grad is not None]


def _in_memory(tensor: Tensor, parameter: Tensor) -> Tensor:
    """View a tensor of a parameter as that lies in memory, with its channels last if they are."""
    is_last = parameter.dim() >= 4 and not parameter.is_contiguous()
    is_last = is_last and parameter.movedim(1, -1).is_contiguous()
    return tensor.movedim(1, -1) if is_last else tensor


class WeightAverage:
    """Average of parameters and statistics over the steps of a descent, the later the more.

    At constant rates the last step is noise around a better point. Step s counts in proportion to
    ``s (s + 1) (s + 2)``: however many there are, half of the weight is on the last sixth of them.

    Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization" (ICML 2013), section
    4: polynomial-decay averaging.

    Parameters
    ----------
    now : list of Tensor
        What steps move, in place.
    """

    ORDER: Final = 3
    """The paper's eta."""

    def __init__(self, now: list[Tensor]) -> None:
        self.now = now
        self.mean = [tensor.clone() for tensor in now]
        self.n_steps = 0

    def update(self) -> None:
        """Take in the state after a step."""
        self.n_steps += 1
        share = (self.ORDER + 1) / (self.n_steps + self.ORDER)
        for mean, now in zip(self.mean, self.now, strict=True):
            mean.lerp_(now, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let what steps move be the average for a while."""
        last = [tensor.clone() for tensor in self.now]
        self.put()
        yield
        for now, kept in zip(self.now, last, strict=True):
            now.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Give all that it is."""
        return {"mean": self.mean, "n_steps": self.n_steps}

    def load(self, state: dict[str, Any]) -> None:
        """Be what another one was."""
        self.n_steps = state["n_steps"]
        for mean, kept in zip(self.mean, state["mean"], strict=True):
            mean.copy_(kept)

    def put(self) -> None:
        """Let what steps move be the average."""
        for now, mean in zip(self.now, self.mean, strict=True):
            now.copy_(mean)


class BestState:
    """The best state of a module, and whether it is time to go back to it."""

    def __init__(self, module: nn.Module, patience: int | None) -> None:
        self.module = module
        self.patience = patience
        self.score, self.age = -math.inf, 0
        self.best: dict[str, Tensor] = {}

    def state(self) -> dict[str, Any]:
        """Give all that it is."""
        return {"score": self.score, "age": self.age, "best": self.best}

    def load(self, state: dict[str, Any]) -> None:
        """Be what another one was."""
        self.score, self.age, self.best = state["score"], state["age"], state["best"]

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
            self.best = copy.deepcopy(self.module.state_dict())

    def restore(self) -> None:
        """Put the best state back; without patience there is none."""
        if self.best:
            self.module.load_state_dict(self.best)
