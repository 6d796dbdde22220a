"""Patches that an expert has judged: what a training keeps prototypes away from, and at.

Bontempelli, Teso, Tentori, Giunchiglia and Passerini, "Concept-level Debugging of Part-Prototype
Networks" (ICLR 2023).

Shapes: c patches, q of them forbidden, P prototypes, D1 = D H1 W1 numbers in a patch, n training
images, L patches of an image.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    ranks : Ranks
        Processes of which each adds some of the patches' images to its part of a batch.
    """

    def __init__(
        self,
        network: PrototypeNetwork,
        judgements: Judgements,
        dataset: Dataset,
        ranks: Ranks,
    ) -> None:
        self.network = network
        device, n_forbidden = network.prototypes.device, judgements.n_forbidden
        self._positions = torch.from_numpy(judgements.positions).to(device)
        self._numbers = torch.from_numpy(judgements.prototypes).to(device)
        self._is_forbidden = torch.arange(len(judgements), device=device) < n_forbidden
        source = ImageSource(ArrayImages(judgements.images), dataset.source.standardization)
        self._images = source.batch(np.arange(len(judgements))).to(device)
        self._part = torch.from_numpy(ranks.part(np.arange(len(judgements)))).to(device)
        self.pinned = _places(judgements, dataset)

    @property
    def images(self) -> Tensor:
        """Images (c', C, H, W) that this process adds to its part of every batch.

        They are normalised with the batch. Where they were not, and batch normalisation took its
        statistics as they are, training moved these instead of the prototypes: accuracy fell from
        1.00 to 0.23 in five epochs on images with known parts.
        """
        return self._images[self._part]

    def costs(self, maps: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Forgetting and remembering costs; each 0 where there is no such patch.

        Parameters
        ----------
        maps : Tensor of shape (c', F, H, W)
            Of `images`.
        share : float
            What the loss of this process counts among all.
        """
        network, part = self.network, self._part
        patches = network.raw_patches(maps).float()  # (c', L, D1)
        patches = patches[torch.arange(len(part), device=part.device), self._positions[part]]
        vectors = network.comparable(patches)[:, None]  # (c', 1, D1)
        prototypes = network.comparable(network.prototypes.flatten(1))  # (P, D1)
        similarities = network.similarity((vectors - prototypes).square().sum(2))  # (c', P)
        numbers, is_forbidden = self._numbers[part], self._is_forbidden[part]
        own = network.prototype_classes[numbers][:, None] == network.prototype_classes  # (c', P)
        n_forbidden = int(self._is_forbidden.sum())
        n_required = len(self._numbers) - n_forbidden
        stays = similarities.gather(1, numbers[:, None])[:, 0]  # (c',)
        return (
            forgetting(similarities[is_forbidden], own[is_forbidden], n_forbidden) / share,
            remembering(stays[~is_forbidden], n_required) / share,
        )

    def _seen(self) -> tuple[list[int], Tensor]:
        """Give what is forbidden as predictions see it, and what is seen a step beside it.

        Returns
        -------
        list of v int
            The classes that it is forbidden to.
        Tensor of shape (v, D1)
            Raw latent values.
        """
        network = self.network.eval()
        labels, vectors = [], [torch.zeros(0, network.prototypes[0].numel())]
        for i in torch.nonzero(self._is_forbidden)[:, 0].tolist():
            maps = network.feature_maps(self._images[[i]])
            n_rows, n_columns = functional.patch_grid(maps.shape[2:], network.prototype_size)
            patches = network.raw_patches(maps)[0].unflatten(0, (n_rows, n_columns))
            row, column = divmod(int(self._positions[i]), n_columns)
            beside = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
            vectors.append(patches[beside].flatten(0, 1).cpu())
            label = int(network.prototype_classes[self._numbers[i]])
            labels += [label] * len(vectors[-1])
        return labels, torch.cat(vectors).double().to(network.prototypes.device)

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
        labels, vectors = self._seen()
        nearest = np.zeros((len(dataset), len(labels)))
        for index, chunk in patches if labels else ():
            found = self.network.comparable(chunk.double())
            distances = functional.squared_distances(found, self.network.comparable(vectors))
            nearest[index] = distances.amin(2).cpu().numpy()  # (N, v)
        ranks.add_up_arrays(nearest)
        return [
            Refused(int(label), vector, float(np.median(away[dataset.labels != label])))
            for label, vector, away in zip(labels, vectors, nearest.T, strict=True)
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
