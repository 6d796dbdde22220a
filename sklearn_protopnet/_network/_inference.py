"""A network's evidence for any number of images, chunk by chunk.

Shapes: N images of a chunk, P prototypes, K classes, L patches of an image.
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
class Inspection:
    """Evidence as arrays; one row per image."""

    index: NDArray[np.int64]
    """(N,) positions of the images, one after the other."""
    distances: NDArray[np.float64]
    """(N, P)"""
    similarities: NDArray[np.float64]
    """(N, P)"""
    logits: NDArray[np.float64]
    """(N, K)"""
    positions: NDArray[np.int64]
    """(N, P) number of the patch that is nearest to the prototype."""


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


def inspect_patches(
    network: PrototypeNetwork, index: NDArray[np.int64], patches: Tensor
) -> Inspection:
    """Evidence of a chunk of raw patches, of which the first N belong to positions (N,)."""
    evidence, positions = network.inspect(patches)
    arrays = (evidence.distances, evidence.similarities, evidence.logits, positions)
    return Inspection(index, *(array[: len(index)].cpu().numpy() for array in arrays))


def inspect_maps(network: PrototypeNetwork, maps: Iterable[Chunk]) -> Iterator[Inspection]:
    """Yield the evidence of every chunk of backbone maps."""
    for index, patches in latent_patches(network, maps):
        yield inspect_patches(network, index, patches)
