"""Where prototypes start: at patches that tell their class.

Shapes: P prototypes, p of them and q candidates of one class, N images of a batch, F channels of
an H x W map, D of the latent one, L patches of an image, D1 = D H1 W1 numbers in a patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._network import PrototypeNetwork, functional

IMAGES_PER_CLASS: Final = 50
"""So many training images of each class are drawn at most."""

CANDIDATES_PER_PROTOTYPE: Final = 20
"""So many patches are drawn for each prototype at least. The best of all that are drawn for a class
keep to one part even more often, but are so much alike that digits lose up to half a point."""

EPSILON: Final = 1e-12
"""Standard deviations below count as this one: what rounding leaves of none."""

MapReader = Callable[[NDArray[np.int64]], Iterator[tuple[NDArray[np.int64], Tensor]]]
"""It reads training images at positions (n,) in batches: positions and maps (N, F, H, W)."""


def draw_images(labels: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
    """Draw some images of every class: positions in the training set."""
    order: NDArray[np.int64] = torch.randperm(len(labels), generator=generator).numpy()
    return np.concatenate(
        [order[labels[order] == label][:IMAGES_PER_CLASS] for label in np.unique(labels)]
    )


@torch.no_grad()
def initial_prototypes(
    network: PrototypeNetwork,
    labels: NDArray[np.int64],
    drawn: NDArray[np.int64],
    read: MapReader,
    generator: torch.Generator,
) -> Tensor:
    """Choose a training patch for each prototype to start at.

    The prototypes of a class take the other classes in turn. Each starts at the one, of patches
    drawn for it from images of its class, that best tells these images from those of the other
    class: see `sensitivity`. The paper draws uniform numbers, which are near to no patch; a patch
    drawn at random is often one that says nothing, and it ends at different parts of different
    images (benchmarks/results.md).

    Parameters
    ----------
    network : PrototypeNetwork
    labels : int64 array of shape (n,)
        Classes of the training images.
    drawn : int64 array of shape (n',)
        Positions of the images that were drawn.
    read : callable
        Gives the backbone's maps of training images.
    generator : torch.Generator

    Returns
    -------
    Tensor of shape (P, D1)
    """
    plans = _plans(network.prototype_classes.cpu().numpy(), labels[drawn], generator)
    asking = {
        label: [i for i, plan in enumerate(plans) if label in plan.own]
        for label in np.unique(labels[drawn])
    }
    candidates: list[list[Tensor]] = [[] for _ in plans]
    for index, maps in read(drawn):
        for label, patches in zip(labels[index], network.raw_patches(maps), strict=True):
            for i in asking[label]:
                order = torch.randperm(len(patches), generator=generator)
                candidates[i].append(patches[order[: plans[i].n_drawn].to(patches.device)])
    choices = [
        _Choice(plan, torch.cat(each), network.comparable)
        for plan, each in zip(plans, candidates, strict=True)
    ]
    for index, maps in read(drawn):
        vectors = network.comparable(network.raw_patches(maps).double())  # (N, L, D1)
        for choice in choices:
            choice.compare(vectors, labels[index])
    prototypes = torch.empty_like(network.prototypes).flatten(1)  # (P, D1)
    for choice in choices:
        prototypes[torch.from_numpy(choice.plan.members)] = choice.conclude()
    return prototypes


class _Plan(NamedTuple):
    """Where the candidates of one class come from, and what they are to be told from."""

    members: NDArray[np.int64]
    """(p,) numbers of the class's prototypes."""
    own: NDArray[np.int64]
    """Classes whose images candidates are drawn from."""
    opponents: NDArray[np.int64]
    """(p,) the class that each prototype is to tell its own from."""
    n_drawn: int
    """Candidates of each image."""


def _plans(
    prototype_classes: NDArray[np.int64], labels: NDArray[np.int64], generator: torch.Generator
) -> list[_Plan]:
    """Plan for each class that has prototypes, given the labels of the drawn images."""
    present, counts = np.unique(labels, return_counts=True)
    plans = []
    for label in np.unique(prototype_classes):
        members = np.flatnonzero(prototype_classes == label)
        is_own = present == label
        own = present[is_own] if is_own.any() else present  # a class without images: from any
        others = present[~is_own] if not is_own.all() else present
        others = others[torch.randperm(len(others), generator=generator).numpy()]
        n_images = counts[np.isin(present, own)].sum()
        n_drawn = math.ceil(CANDIDATES_PER_PROTOTYPE * len(members) / n_images)
        plans.append(_Plan(members, own, np.resize(others, len(members)), n_drawn))
    return plans


class _Choice:
    """Candidates of one class, and how near they come to images.

    Parameters
    ----------
    plan : _Plan
    candidates : Tensor of shape (q, D1)
        Raw patches.
    comparable : callable
        What is done to vectors before they are compared.
    """

    def __init__(
        self, plan: _Plan, candidates: Tensor, comparable: Callable[[Tensor], Tensor]
    ) -> None:
        self.plan = plan
        self.candidates = candidates
        self._wanted = comparable(candidates.double())  # (q, D1)
        self._distances: list[Tensor] = []
        self._labels: list[NDArray[np.int64]] = []

    def compare(self, vectors: Tensor, labels: NDArray[np.int64]) -> None:
        """Note how near candidates come to images, of which comparable patches are given."""
        asked = np.isin(labels, [*self.plan.own, *self.plan.opponents])  # (N,)
        if asked.any():
            chosen = vectors[torch.from_numpy(asked)]
            distances = functional.squared_distances(chosen, self._wanted)
            self._distances.append(distances.amin(2).cpu())  # (N', q)
            self._labels.append(labels[asked])

    def conclude(self) -> Tensor:
        """Give each prototype the best of its candidates that no other one has, (p, D1)."""
        distances, labels = torch.cat(self._distances).numpy(), np.concatenate(self._labels)
        candidates, opponents = self.candidates, self.plan.opponents
        own = distances[np.isin(labels, self.plan.own)]
        drawn_for = np.arange(len(candidates)) % len(opponents)  # (q,)
        free = np.ones(len(candidates), dtype=bool)
        chosen = []
        for i, opponent in enumerate(opponents):
            score = sensitivity(own, distances[labels == opponent])  # (q,)
            mine = free & (drawn_for == i)
            best = int(np.where(mine if mine.any() else free, score, -np.inf).argmax())
            chosen.append(best)
            free &= (candidates != candidates[best]).any(1).cpu().numpy()
            if not free.any():
                free[:] = True
        return candidates[chosen]


def sensitivity(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well a distance tells images of a class from those of another one.

    The difference of the mean distances, in units of the root mean square of their two standard
    deviations: d' for unequal variances (Simpson and Fitter, "What is the best index of
    detectability?", 1973).

    Parameters
    ----------
    own, other : ndarrays of shapes (n_own, q) and (n_other, q)
        Distances of each of q candidates to images of its own class and of another one.

    Returns
    -------
    ndarray of shape (q,)
        The larger, the better; 0 where all distances are equal.
    """
    spread = np.sqrt((own.var(axis=0) + other.var(axis=0)) / 2)
    difference = other.mean(axis=0) - own.mean(axis=0)
    scores: NDArray[np.float64] = difference / np.maximum(spread, EPSILON)
    return scores
