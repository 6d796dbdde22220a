"""A network's evidence for any number of images, chunk by chunk.

Shapes: n images, N of them in a chunk, P prototypes, K classes, L patches of an image, of which
the k nearest to a prototype are pooled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import fill_up
from sklearn_protopnet._network._prototype_network import PrototypeNetwork

NARROW: Final = 16
FEWEST_CELLS: Final = 2**10
"""Convolutions to fewer channels than this take another way for fewer cells than that, and round
differently: by 1e-6 in feature maps of a size of 1."""

Chunk = tuple[NDArray[np.int64], Tensor]
"""Positions (N,), and images or maps of which the first N are meant; the rest fills the chunk."""


@dataclass(frozen=True)
class Evidence:
    """What the network finds in images; losses, tables and pictures are made of it."""

    similarities: NDArray[np.float64]
    """(n, P) mean similarity between each prototype and its nearest patches."""
    logits: NDArray[np.float64]
    """(n, K)"""
    patch_distances: NDArray[np.float64]
    """(n, P, k) squared distances between each prototype and its nearest patches, ascending."""
    patch_similarities: NDArray[np.float64]
    """(n, P, k) similarities of those patches."""
    patch_positions: NDArray[np.int64]
    """(n, P, k) numbers of those patches."""

    @property
    def distances(self) -> NDArray[np.float64]:
        """Squared distance between each prototype and its nearest patch, (n, P)."""
        return self.patch_distances[:, :, 0]

    @property
    def positions(self) -> NDArray[np.int64]:
        """Number of the patch that is nearest to each prototype, (n, P)."""
        return self.patch_positions[:, :, 0]

    def __getitem__(self, part: slice) -> Evidence:
        return Evidence(*(array[part] for array in vars(self).values()))


@torch.no_grad()
def backbone_maps(network: PrototypeNetwork, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks of backbone maps of chunks of images, with the network in ``eval()``."""
    if any(module.training for module in network.modules()):  # 0.3 ms quicker than to set it anew
        network.eval()
    for index, images in chunks:
        yield index, network.feature_maps(images.to(network.prototypes.device))


@torch.no_grad()
def latent_patches(network: PrototypeNetwork, maps: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield chunks of raw patches (N, L, D1); the add-on layers know no modes.

    What fills a chunk goes: whether an image is compared alone does not matter any more.
    """
    for index, chunk in maps:
        filled = chunk.to(network.prototypes.device)
        if network.prototypes.shape[1] < NARROW:
            filled = fill_up(filled, -(-FEWEST_CELLS // filled[0, 0].numel()))
        yield index, network.raw_patches(filled)[: len(index)]


def evidence_of(network: PrototypeNetwork, patches: Tensor, coef: NDArray[np.float64]) -> Evidence:
    """Compare raw patches with the prototypes.

    Parameters
    ----------
    network : PrototypeNetwork
    patches : Tensor of shape (N, L, D1)
    coef : float64 array of shape (K, P)
        Weights of the last layer.
    """
    distances, patch_similarities, positions = (
        values.cpu().numpy() for values in network.compare(patches)
    )
    similarities = patch_similarities.mean(2)  # (N, P)
    # One sum for each logit: those of a matrix product may depend on the other images.
    logits = np.vecdot(similarities[:, None], coef)  # (N, K)
    return Evidence(similarities, logits, distances, patch_similarities, positions)


def chunks_of_evidence(
    network: PrototypeNetwork, maps: Iterable[Chunk], coef: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], Evidence]]:
    """Yield the positions (N,) and the evidence of every chunk of backbone maps."""
    for index, patches in latent_patches(network, maps):
        yield index, evidence_of(network, patches, coef)
