"""A network's evidence for any number of images, chunk by chunk.

Shapes: n images, N of them in a chunk, P prototypes, K classes, L patches of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._network._prototype_network import PrototypeNetwork

Chunk = tuple[NDArray[np.int64], Tensor]
"""Positions (N,), and images or maps of which the first N are meant; the rest fills the chunk."""


@dataclass(frozen=True)
class Evidence:
    """What the network finds in images; losses, tables and pictures are made of it."""

    distances: NDArray[np.float64]
    """(n, P) squared distance between each prototype and its nearest patch."""
    similarities: NDArray[np.float64]
    """(n, P)"""
    logits: NDArray[np.float64]
    """(n, K)"""
    positions: NDArray[np.int64]
    """(n, P) number of the patch that is nearest to the prototype."""

    def __getitem__(self, part: slice) -> Evidence:
        return Evidence(*(array[part] for array in vars(self).values()))


@torch.no_grad()
def backbone_maps(network: PrototypeNetwork, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks of backbone maps of chunks of images, with the network in ``eval()``."""
    network.eval()
    for index, images in chunks:
        yield index, network.backbone(images.to(network.prototypes.device))


@torch.no_grad()
def latent_patches(network: PrototypeNetwork, maps: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks of raw patches (N or more, L, D1), with the network in ``eval()``."""
    network.eval()
    for index, chunk in maps:
        yield index, network.raw_patches(chunk.to(network.prototypes.device))


def evidence_of(
    network: PrototypeNetwork, patches: Tensor, n_images: int, coef: NDArray[np.float64]
) -> Evidence:
    """Compare the raw patches of a chunk, of which the first ``n_images`` are meant.

    Parameters
    ----------
    network : PrototypeNetwork
    patches : Tensor of shape (N or more, L, D1)
    n_images : int
    coef : float64 array of shape (K, P)
        Weights of the last layer.
    """
    distances, similarities, positions = (
        values[:n_images].cpu().numpy() for values in network.compare(patches)
    )
    # One sum for each logit: those of a matrix product may depend on the other images.
    logits = np.vecdot(similarities[:, None], coef)  # (N, K)
    return Evidence(distances, similarities, logits, positions)


def chunks_of_evidence(
    network: PrototypeNetwork, maps: Iterable[Chunk], coef: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], Evidence]]:
    """Yield the positions (N,) and the evidence of every chunk of backbone maps."""
    for index, patches in latent_patches(network, maps):
        yield index, evidence_of(network, patches, len(index), coef)
