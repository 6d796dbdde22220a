"""What becomes of a similarity if one side of a box changes.

Shapes: Q queries, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from sklearn_protopnet._network import PrototypeNetwork
from sklearn_protopnet.inspection._attribution import (
    LARGEST_PASS,
    Queries,
    blurred,
    gradient_of,
    indicators,
    patch_similarities,
)

ATTACK_RANGE: Final = 0.1
"""An attack changes a pixel by so much at most, in standard deviations of the training pixels."""

ATTACK_STEP: Final = 0.01
ATTACK_STEPS: Final = 20
"""Range, step and number of steps are those of the code that Sacha et al. published."""


@torch.no_grad()
def box_effects(
    network: PrototypeNetwork, image: Tensor, queries: Queries, boxes: Tensor
) -> Tensor:
    """Blur all pixels outside of a box, or all inside, and measure what the similarity becomes.

    Parameters
    ----------
    network : PrototypeNetwork
        In ``eval()`` mode.
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    boxes : int64 Tensor of shape (Q, 4)
        A box for each query, ``y0, y1, x0, x1``, half-open.

    Returns
    -------
    float64 Tensor of shape (Q, 2)
        Without what is outside, and without what is inside.
    """
    baseline = blurred(image)
    effects = []
    for some, inside in _parts(image, queries, boxes):
        variants = [torch.where(inside, image, baseline), torch.where(inside, baseline, image)]
        effects.append(torch.stack([_own(network, each, some) for each in variants], dim=1))
    return torch.cat(effects)


def attack_effects(
    network: PrototypeNetwork, image: Tensor, queries: Queries, boxes: Tensor
) -> Tensor:
    """Change the pixels outside of a box a bit, so that the similarity falls most.

    Projected descent along the gradient's signs, from a random start near the image, after Sacha
    et al. (AAAI 2024). Theirs protects the boxes of all prototypes of a class at once, ten pixels
    wider, and lowers the largest similarity of all patches; here one box is protected, as it is,
    and the similarity of one patch is lowered, which is what the box explains. Pixels outside of
    the receptive field stay as they are: they do not count.

    Parameters
    ----------
    network : PrototypeNetwork
        In ``eval()`` mode.
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    boxes : int64 Tensor of shape (Q, 4)
        A box for each query, ``y0, y1, x0, x1``, half-open.

    Returns
    -------
    float64 Tensor of shape (Q, 2)
        The similarity before, and the smallest one on the way.
    """
    random = torch.Generator().manual_seed(0)
    effects = []
    for some, inside in _parts(image, queries, boxes):
        counts = indicators(some.boxes, image.shape[2:]).bool()[:, None] & ~inside
        start = 2 * torch.rand(len(some), *image.shape[1:], generator=random) - 1
        changes = (ATTACK_RANGE * start).to(image) * counts  # (q, C, H, W)
        with torch.no_grad():
            found = [_own(network, image.repeat(len(some), 1, 1, 1), some)]
        for _ in range(ATTACK_STEPS):
            with torch.enable_grad():
                similarities = _own(network, image + changes.requires_grad_(), some)
                gradient = gradient_of(similarities.sum(), changes)
            found.append(similarities.detach())
            steps = ATTACK_STEP * gradient.sign() * counts
            changes = (changes.detach() - steps).clamp(-ATTACK_RANGE, ATTACK_RANGE)
        with torch.no_grad():
            found.append(_own(network, image + changes, some))
        effects.append(torch.stack([found[0], torch.stack(found).amin(0)], dim=1))
    return torch.cat(effects)


def _parts(image: Tensor, queries: Queries, boxes: Tensor) -> Iterator[tuple[Queries, Tensor]]:
    """Yield queries, as many as fit into a pass, and the insides of their boxes (q, 1, H, W)."""
    size = max(1, LARGEST_PASS // (2 * image[0, 0].numel()))
    inside = indicators(boxes, image.shape[2:]).bool()[:, None]  # (Q, 1, H, W)
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        some = Queries(queries.prototypes[part], queries.positions[part], queries.boxes[part])
        yield some, inside[part]


def _own(network: PrototypeNetwork, variants: Tensor, queries: Queries) -> Tensor:
    """Similarity (q,) of each query in the variant (q, C, H, W) that is its own."""
    return patch_similarities(network, variants, queries).diagonal()
