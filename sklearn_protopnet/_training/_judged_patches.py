"""Patches that an expert has judged: what a training keeps prototypes away from, and at.

Bontempelli, Teso, Tentori, Giunchiglia and Passerini, "Concept-level Debugging of Part-Prototype
Networks" (ICLR 2023).

Shapes: c patches, q of them forbidden, P prototypes, D1 = D H1 W1 numbers in a patch, n training
images, L patches of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import ArrayImages, Dataset, ImageSource
from sklearn_protopnet._network import Chunk, PrototypeNetwork, functional
from sklearn_protopnet._ranks import Ranks
from sklearn_protopnet._training._loss import forgetting, remembering
from sklearn_protopnet._training._projection import Projector, Refused


@dataclass(frozen=True)
class Judgements:
    """Patches of images that are forbidden, then those where required prototypes stay."""

    images: NDArray[np.generic]
    """(c, H, W, C) as the network takes them, but not standardised."""
    positions: NDArray[np.int64]
    """(c,) which patches."""
    prototypes: NDArray[np.int64]
    """(c,) the prototypes that were these patches when they were judged."""
    n_forbidden: int
    """q"""

    def __len__(self) -> int:
        return len(self.positions)


class JudgedPatches:
    """Judged patches as a network in training sees them.

    Parameters
    ----------
    network : PrototypeNetwork
    judgements : Judgements
    dataset : Dataset
        Training images, among which those of required prototypes must be.
    """

    def __init__(self, network: PrototypeNetwork, judgements: Judgements, dataset: Dataset) -> None:
        self.network = network
        q, device = judgements.n_forbidden, network.prototypes.device
        self._positions = torch.from_numpy(judgements.positions).to(device)
        self._images = ImageSource(
            ArrayImages(judgements.images), dataset.source.standardization
        ).batch(np.arange(len(judgements)))
        numbers = torch.from_numpy(judgements.prototypes).to(device)
        labels = network.prototype_classes[numbers]  # (c,)
        self._labels = labels[:q]
        self._own = labels[:q, None] == network.prototype_classes  # (q, P)
        self._required = numbers[q:]
        self.pinned = _places(judgements, dataset)

    def __len__(self) -> int:
        return len(self._positions)

    def vectors(self) -> Tensor:
        """Latent values (c, D1) of the patches, as predictions see them; differentiable."""
        device = self._positions.device
        with _at_rest(self.network), torch.autocast(device.type, enabled=False):
            maps = self.network.feature_maps(self._images.to(device))
            patches = self.network.raw_patches(maps)  # (c, L, D1)
        return patches[torch.arange(len(self), device=device), self._positions]

    def costs(self) -> tuple[Tensor, Tensor]:
        """Forgetting and remembering costs; each 0 where there is no such patch."""
        network, q = self.network, len(self._labels)
        vectors = network.comparable(self.vectors())[:, None]  # (c, 1, D1)
        prototypes = network.comparable(network.prototypes.flatten(1))  # (P, D1)
        similarities = network.similarity((vectors - prototypes).square().sum(2))  # (c, P)
        stays = similarities[q:].gather(1, self._required[:, None])[:, 0]  # (c - q,)
        return forgetting(similarities[:q], self._own), remembering(stays)

    @torch.no_grad()
    def refused(self, patches: Iterable[Chunk], dataset: Dataset, ranks: Ranks) -> list[Refused]:
        """Say which patches are like forbidden ones, and no prototype of their class may become.

        They are nearer to one than the nearest patch of the median image of the other classes is.

        Parameters
        ----------
        patches : iterable of Chunk
            Raw patches (N, L, D1) of the training images, or of this process's part of them.
        dataset : Dataset
        ranks : Ranks
        """
        q = len(self._labels)
        vectors = self.vectors()[:q].double()
        nearest = np.zeros((len(dataset), q))
        for index, chunk in patches if q else ():
            found = self.network.comparable(chunk.double())
            distances = functional.squared_distances(found, self.network.comparable(vectors))
            nearest[index] = distances.amin(2).cpu().numpy()  # (N, q)
        ranks.add_up_arrays(nearest)
        return [
            Refused(int(label), vector, float(np.median(away[dataset.labels != label])))
            for label, vector, away in zip(self._labels.tolist(), vectors, nearest.T, strict=True)
        ]


def permitted_projector(
    network: PrototypeNetwork,
    judged: JudgedPatches | None,
    patches: Iterable[Chunk],
    dataset: Dataset,
    ranks: Ranks,
) -> Projector:
    """Give what finds the patches that prototypes may become, and leaves some where they are.

    Parameters
    ----------
    network : PrototypeNetwork
    judged : JudgedPatches or None
    patches, dataset, ranks
        As for `JudgedPatches.refused`; not looked at where nothing was judged.
    """
    if judged is None:
        return Projector(network)
    return Projector(network, judged.refused(patches, dataset, ranks), judged.pinned)


def _places(judgements: Judgements, dataset: Dataset) -> dict[int, tuple[int, int]]:
    """Find where required prototypes stay: positions in the training set, and patches there."""
    required = np.arange(judgements.n_forbidden, len(judgements))
    known = {
        digest.tobytes(): position
        for position, digest in enumerate(dataset.source.images.survey.digests[dataset.rows])
    }
    digests = ArrayImages(judgements.images).survey.digests
    places = {}
    for i in required.tolist():
        number = int(judgements.prototypes[i])
        if digests[i].tobytes() not in known:
            raise ValueError(
                "The image that a required prototype is a patch of must be among those to train "
                f"on, that of prototype {number} is not."
            )
        places[number] = known[digests[i].tobytes()], int(judgements.positions[i])
    return places


@contextmanager
def _at_rest(network: PrototypeNetwork) -> Iterator[None]:
    """Let batch normalisation take its statistics as they are, and leave them so."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
