"""All that a training is between two epochs, as tensors and plain values."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._projection import Projection
from sklearn_protopnet._training._stages import GradientStage
from sklearn_protopnet._training._trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Give all that the rest of a training depends on, beside its task."""
    projection = trainer.projection
    return {
        "network": trainer.network.state_dict(),
        "buffers": _other_buffers(trainer.network),
        "linear_head": trainer.linear_head.state_dict(),
        "optimizers": trainer.parts.optimizer_states(),
        "best_pretrained": trainer.best_pretrained.state(),
        "best": trainer.best.state(),
        "draws": trainer.generator.get_state(),
        "global_draws": _global_draws(trainer),
        "projection": projection
        and {name: torch.from_numpy(value) for name, value in vars(projection).items()},
        "history": [asdict(row) for row in trainer.history],
        "loss_curve": trainer.loss_curve,
        "position": [trainer.round, trainer.epoch, trainer.preparation],
    }


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Have a trainer be what another one of the same task was."""
    trainer.network.load_state_dict(state["network"])
    for path, buffer in state["buffers"].items():
        owner, _, name = path.rpartition(".")
        setattr(trainer.network.get_submodule(owner), name, buffer.to(trainer.device))
    trainer.linear_head.load_state_dict(state["linear_head"])
    stages = {each.name: each for each in chain.from_iterable(trainer.settings.rounds())}
    for name, stage in stages.items():
        if name in state["optimizers"] and isinstance(stage, GradientStage):
            trainer.parts.optimizer(stage).load_state_dict(state["optimizers"][name])
    trainer.best_pretrained.load(state["best_pretrained"])
    trainer.best.load(state["best"])
    trainer.generator.set_state(state["draws"])
    _restore_global_draws(trainer, state["global_draws"])
    if state["projection"] is not None:
        found = {name: value.numpy() for name, value in state["projection"].items()}
        trainer.projection = Projection(**found)
    trainer.history = [HistoryRow(**row) for row in state["history"]]
    trainer.loss_curve = state["loss_curve"]
    trainer.round, trainer.epoch, trainer.preparation = state["position"]


def _other_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Give the buffers of a network that are no part of its state, for a module of the user's."""
    state = network.state_dict()
    return {name: buffer for name, buffer in network.named_buffers() if name not in state}


def _global_draws(trainer: Trainer) -> list[Tensor]:
    """Give the states of torch's global generators, which only a user's module draws from."""
    if trainer.network.backbone_origin is not None:
        return []
    device = trainer.device
    on_cpu = torch.get_rng_state()
    if device.type == "cpu":
        return [on_cpu]
    return [on_cpu, torch.get_device_module(device).get_rng_state(device)]


def _restore_global_draws(trainer: Trainer, draws: list[Tensor]) -> None:
    if draws:
        torch.set_rng_state(draws[0])
    for state in draws[1:]:
        torch.get_device_module(trainer.device).set_rng_state(state, trainer.device)
