"""Stage 2, the projection: every prototype becomes a patch of a training image.

Shapes: q patches, p prototypes, D1 = D H1 W1 numbers in a patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sklearn_protopnet._network import Chunk, PrototypeNetwork, functional
from sklearn_protopnet._ranks import Ranks

NO_SOURCE: Final = -1
"""A prototype whose class has no training patch has this source."""


@dataclass(frozen=True)
class Projection:
    """Where each prototype comes from."""

    images: NDArray[np.int64]
    """(P,) training image, `NO_SOURCE` where the class had no patch."""
    positions: NDArray[np.int64]
    """(P,) patch of that image, `NO_SOURCE` likewise."""


class Refused(NamedTuple):
    """Patches that no prototype of a class may become."""

    label: int
    """The class."""
    vector: Tensor
    """(D1,) what they are like, raw, in float64."""
    radius: float
    """At this distance from it, others begin."""


@dataclass(frozen=True)
class _Patches:
    """Latent patches and where they come from."""

    vectors: Tensor  # (q, D1)
    origins: Tensor  # (q, 2) image and position

    def __getitem__(self, index: Tensor) -> _Patches:
        return _Patches(self.vectors[index], self.origins[index])

    def __add__(self, other: _Patches) -> _Patches:
        return _Patches(
            torch.cat([self.vectors, other.vectors]), torch.cat([self.origins, other.origins])
        )


class Projector:
    """Finds the patches nearest to a network's prototypes in a stream of feature maps.

    It keeps, for each prototype, only as many candidates as its class has prototypes, so the
    memory does not depend on the number of images. The best assignment needs no other: the other
    prototypes leave one of them free. Patches are distinct when their latent
    values are: two blank corners are one patch.

    Parameters
    ----------
    network : PrototypeNetwork
    refused : sequence of Refused, default=()
    pinned : mapping of int to (int, int), default=None
        Image and patch at which prototypes stay.
    """

    def __init__(
        self,
        network: PrototypeNetwork,
        refused: Sequence[Refused] = (),
        pinned: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        self.network = network
        self.refused, self.pinned = refused, pinned or {}
        self.candidates: dict[int, _Patches] = {}
        self.kept_patches: dict[int, Tensor] = {}
        self.usual: dict[int, NDArray[np.float64]] = {}

    @torch.no_grad()
    def add(self, patches: Tensor, images: Tensor, labels: Tensor) -> None:
        """Take in raw patches (N, L, D1) with the numbers and the labels (N,) of their images."""
        positions = torch.arange(patches.shape[1], device=images.device)
        for label in torch.unique(labels).tolist():
            of_class = labels == label  # (N,)
            origins = torch.cartesian_prod(images[of_class], positions)  # (N' L, 2)
            found = self._permitted(_Patches(patches[of_class].flatten(0, 1), origins), label)
            if label in self.candidates:
                found = self.candidates[label] + found
            self.candidates[label] = self._prune(_first_of_each(found), label)
        for prototype, (image, position) in self.pinned.items():
            for row in torch.nonzero(images == image)[:, 0].tolist():
                self.kept_patches[prototype] = patches[row, position]

    def _permitted(self, patches: _Patches, label: int) -> _Patches:
        """Leave out what is refused."""
        refused = [each for each in self.refused if each.label == label]
        if not refused:
            return patches
        radii = torch.tensor([each.radius for each in refused], dtype=torch.float64)  # (r,)
        away = self._from_refused(patches, label)  # (r, q)
        return patches[(away >= radii.to(away.device)[:, None]).all(0)]

    def _from_refused(self, patches: _Patches, label: int) -> Tensor:
        """Distances of patches from those that are refused to a class, (r, q)."""
        comparable = self.network.comparable
        wanted = torch.stack([each.vector for each in self.refused if each.label == label])
        vectors = comparable(patches.vectors.double())
        return functional.squared_distances(vectors[None], comparable(wanted))[0]

    def gather(self, ranks: Ranks) -> None:
        """Take in what the projectors of other processes have found in their images."""
        if ranks.size == 1:
            return
        parts = ranks.gather((self.candidates, self.kept_patches))
        self.candidates = {}
        for candidates, kept_patches in parts:
            self.kept_patches |= kept_patches
            for label, found in candidates.items():
                patches = found
                if label in self.candidates:
                    patches = self.candidates[label] + found
                # In the order in which one projector of all images would have seen them.
                image, position = patches.origins.cpu().T.numpy()
                patches = patches[torch.from_numpy(np.lexsort((position, image)))]
                self.candidates[label] = self._prune(_first_of_each(patches), label)

    @torch.no_grad()
    def compare(self, patches: Iterable[Chunk], labels: NDArray[np.int64], ranks: Ranks) -> None:
        """Note how similar images of other classes are to candidates, where some are refused.

        Parameters
        ----------
        patches : iterable of Chunk
            Raw patches (N, L, D1) of this process's images, which have all been taken in.
        labels : int64 array of shape (n,)
            Of all images.
        ranks : Ranks
        """
        classes = {each.label for each in self.refused if self._has_candidates(each.label)}
        found: dict[int, list[NDArray[np.float64]]] = {label: [] for label in classes}
        network = self.network
        for index, chunk in patches if classes else ():
            for label in classes:
                others = chunk[torch.from_numpy(labels[index] != label).to(chunk.device)]
                if not len(others):
                    continue
                distances, _ = functional.nearest_patches(
                    others,
                    self.candidates[label].vectors,
                    network.comparable,
                    network.n_pooled_patches,
                )  # (N', q, k)
                found[label].append(network.similarity(distances).mean(2).cpu().numpy())
        parts = ranks.gather(found)
        for label in classes:
            every = np.concatenate([each for part in parts for each in part[label]])  # (n', q)
            self.usual[label] = np.median(every, axis=0)

    def _has_candidates(self, label: int) -> bool:
        return label in self.candidates and len(self.candidates[label].vectors) > 0

    def _unlike(self, patches: _Patches, label: int, n_wanted: int) -> _Patches:
        """Leave out candidates to which a refused patch would make other classes more similar.

        They are more similar to it than the median image of the other classes is to them. So many
        as are wanted remain, if there are.
        """
        if label not in self.usual:
            return patches
        similarities = self.network.similarity(self._from_refused(patches, label))  # (r, q)
        excess = similarities.amax(0).cpu().numpy() - self.usual[label]
        kept = np.argsort(excess, kind="stable")[: max(n_wanted, int((excess <= 0).sum()))]
        return patches[torch.from_numpy(np.sort(kept)).to(patches.vectors.device)]

    def _prune(self, patches: _Patches, label: int) -> _Patches:
        """Keep the patches that are among the k nearest of some of the class's k prototypes."""
        distances = self._distances(patches, label)  # (p, q)
        k = min(distances.shape)
        nearest = distances.topk(k, dim=1, largest=False).indices
        return patches[torch.unique(nearest)]

    def _distances(self, patches: _Patches, label: int) -> Tensor:
        network = self.network
        own = network.prototypes.flatten(1)[network.prototype_classes == label]
        prototypes = network.comparable(own.double())  # (p, D1)
        vectors = network.comparable(patches.vectors.double())  # (q, D1)
        return functional.squared_distances(vectors[None], prototypes)[0]  # (p, q)

    @torch.no_grad()
    def replace_prototypes(self) -> Projection:
        """Replace the prototypes by their patches and say where those come from.

        Within a class no patch is taken twice while there are others, and the sum of the
        distances from prototypes to their patches is the smallest that there is. Those that are
        pinned become their own patches.

        Raises
        ------
        ValueError
            If all patches of a class are refused.
        """
        prototypes = self.network.prototypes
        sources = np.full((len(prototypes), 2), NO_SOURCE, dtype=np.int64)
        for label in torch.unique(self.network.prototype_classes).tolist():
            members = torch.nonzero(self.network.prototype_classes == label)[:, 0]
            if label not in self.candidates:
                continue
            patches = self.candidates[label]
            if not len(patches.vectors):
                raise ValueError(
                    "Every class must have patches that are unlike those that are forbidden, class "
                    f"{label} (counted from 0) has none."
                )
            patches = self._unlike(patches, label, len(members))
            distances = self._distances(patches, label)
            is_free = torch.ones_like(members, dtype=torch.bool)
            for i, prototype in enumerate(members.tolist()):
                if prototype in self.kept_patches:
                    kept = self.kept_patches[prototype]
                    prototypes[prototype] = kept.view(prototypes.shape[1:])
                    sources[prototype] = self.pinned[prototype]
                    is_free[i] = False
                    is_other = (patches.vectors != kept).any(1)
                    if is_other.any():
                        patches, distances = patches[is_other], distances[:, is_other]
            members = members[is_free]
            if not len(members):
                continue
            chosen = _assign(distances[is_free].cpu().numpy())
            picked = patches[torch.from_numpy(chosen).to(prototypes.device)]
            prototypes[members] = picked.vectors.view(-1, *prototypes.shape[1:])
            sources[members.cpu().numpy()] = picked.origins.cpu().numpy()
        return Projection(images=sources[:, 0], positions=sources[:, 1])


def _first_of_each(patches: _Patches) -> _Patches:
    """Drop patches that repeat an earlier one bit for bit; keep the order."""
    if not len(patches.vectors):
        return patches
    rows = np.ascontiguousarray(patches.vectors.cpu().numpy())
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    first = np.sort(np.unique(as_bytes, return_index=True)[1])
    return patches[torch.from_numpy(first).to(patches.vectors.device)]


def _assign(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Join rows to different columns at the least sum of distances; (p, q) -> (p,)."""
    chosen: NDArray[np.int64] = distances.argmin(
        1
    )  # fewer patches than prototypes: the rest take the nearest
    rows, columns = linear_sum_assignment(distances)
    chosen[rows] = columns
    return chosen
