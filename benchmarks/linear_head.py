"""Training of a plain linear head, and its backbone, which the benchmarks compare with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from sklearn_protopnet._network import FewCellProducts


def train(
    network: Callable[[Tensor], Tensor],
    read: Callable[[Tensor], Tensor],
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    n_epochs: int,
    batch_size: int,
    precision: torch.dtype = torch.float32,
    loss_of: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    convolutions: Callable[[], AbstractContextManager[object]] = FewCellProducts,
    after_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Train for some epochs, with rates that go down along a cosine.

    Parameters
    ----------
    network : callable
        Gives the logits of images.
    read : callable
        Gives the images at positions (N,).
    labels : Tensor of shape (n,)
    optimizer : Optimizer
    n_epochs, batch_size : int
    precision : torch.dtype
        Of forward passes.
    loss_of : callable
        Takes logits and labels.
    convolutions : callable
        Gives the context of forward passes; the package's by default.
    after_epoch : callable
    """
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(labels)).split(batch_size):
            autocast = torch.autocast("cpu", precision, enabled=precision != torch.float32)
            with autocast, convolutions():
                logits = network(read(batch))
            loss = loss_of(logits.float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        after_epoch()
