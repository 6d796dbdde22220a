"""The prototype layer's mathematics as pure functions.

Shapes: N images, D channels of depth, H x W feature map, H1 x W1 prototype, P prototypes,
L = (H - H1 + 1) (W - W1 + 1) patches of an image, K = D H1 W1 numbers in a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def check_maps(maps: Any, images: Tensor, depth: int | None = None) -> None:
    """Check what a backbone returns: a module may do as it likes in any call.

    Parameters
    ----------
    maps : Tensor of shape (N, F, H, W), if all is well
    images : Tensor of shape (N, C, H0, W0)
    depth : int or None
        F, where it is known.

    Raises
    ------
    ValueError
        If they are no such maps.
    """
    problem = _mismatch(maps, images, depth)
    if problem:
        raise ValueError(
            "The backbone must map float32 images of shape (n, channels, height, width) to float32 "
            f"feature maps of shape (n, depth, height, width) on the same device, got {problem} "
            f"for images of shape {tuple(images.shape)}."
        )


def _mismatch(maps: Any, images: Tensor, depth: int | None) -> str:
    """Say what is wrong with feature maps; nothing if they are such."""
    if not isinstance(maps, Tensor):
        return f"a {type(maps).__name__}"
    if maps.layout != torch.strided:
        return f"maps in {maps.layout}"
    if maps.dim() != 4 or maps.shape[0] != images.shape[0] or 0 in maps.shape:
        return f"shape {tuple(maps.shape)}"
    if depth not in {None, maps.shape[1]}:
        return f"shape {tuple(maps.shape)} after depth {depth}"
    if maps.dtype not in {torch.float32, _autocast_dtype(images)}:
        return str(maps.dtype).removeprefix("torch.")
    return f"maps on {maps.device}" if maps.device != images.device else ""


def _autocast_dtype(images: Tensor) -> torch.dtype:
    """Give the dtype that autocast may turn maps into; none but float32 where it is off."""
    device = images.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.float32


def extract_patches(features: Tensor, prototype_size: tuple[int, int]) -> Tensor:
    """Cut every H1 x W1 patch out of a feature map, row by row.

    Parameters
    ----------
    features : Tensor of shape (N, D, H, W)
    prototype_size : (int, int)
        (H1, W1), at most (H, W).

    Returns
    -------
    Tensor of shape (N, L, K)
        The flattened patches; patch ``i * (W - W1 + 1) + j`` starts at row i, column j.
    """
    if prototype_size == (1, 1):
        return features.flatten(2).transpose(1, 2)  # (N, L, D)
    return nn.functional.unfold(features, prototype_size).transpose(1, 2)  # (N, L, K)


def patch_grid(map_size: Iterable[int], prototype_size: tuple[int, int]) -> tuple[int, int]:
    """Count the rows and the columns of patches of H1 x W1 cells in a map of H x W."""
    rows, columns = (cells - side + 1 for cells, side in zip(map_size, prototype_size, strict=True))
    return rows, columns


def squared_distances(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Squared L2 distance of every patch to every prototype, in its expanded form.

    ``|z|^2 - 2 z.p + |p|^2`` is one matrix product. Its rounding error is about
    ``|z|^2`` times the machine's epsilon, clipped at 0: harmless in a training step, not where
    a distance near 0 is reported; see `nearest_patches` for that.

    Parameters
    ----------
    patches : Tensor of shape (N, L, K)
    prototypes : Tensor of shape (P, K)

    Returns
    -------
    Tensor of shape (N, P, L)
    """
    products = prototypes @ patches.transpose(1, 2)  # (N, P, L)
    patch_norms = patches.square().sum(2)  # (N, L)
    prototype_norms = prototypes.square().sum(1)  # (P,)
    expanded = patch_norms[:, None, :] - 2 * products + prototype_norms[:, None]
    return expanded.clamp_min(0)


def nearest_patches(
    patches: Tensor, prototypes: Tensor, comparable: Callable[[Tensor], Tensor], n_nearest: int
) -> tuple[Tensor, Tensor]:
    """Each prototype's nearest patches in each image, with their distances, to report.

    In the expanded form and in float64 distances are off by some ``K 2e-16 |z|^2``; those that this
    may hide are measured in the direct form, ``sum (z - p)^2``. So a patch that equals its
    prototype is at distance exactly 0. With float32 a projected prototype scored 9.19 on its own
    patch instead of 9.2103, and scores moved with the size of the batch.

    Parameters
    ----------
    patches : Tensor of shape (N, L, K)
    prototypes : Tensor of shape (P, K)
    comparable : callable
        `as_it_is` or `to_unit_length`: what to do to vectors before they are compared.
    n_nearest : int
        k, how many patches of each image; at most L.

    Returns
    -------
    distances : float64 Tensor of shape (N, P, k)
        The nearest first.
    positions : int64 Tensor of shape (N, P, k)
        Indices of those patches among the L patches.
    """
    patches, prototypes = patches.double(), prototypes.double()
    vectors, wanted = comparable(patches), comparable(prototypes)
    distances = squared_distances(vectors, wanted)  # (N, P, L)
    norms = vectors.square().sum(2).amax(1)[:, None] + wanted.square().sum(1)  # (N, P)
    rounding = patches.shape[2] * torch.finfo(torch.float64).eps * norms  # (N, P)
    may_be_equal = distances <= rounding[:, :, None]  # (N, P, L)
    for p in may_be_equal.any(2).any(0).nonzero()[:, 0]:
        n, patch = may_be_equal[:, p].nonzero(as_tuple=True)
        # Both sides in one memory layout: the last bits of a norm depend on it.
        equals = comparable(patches[n, patch]) - comparable(prototypes[p].repeat(len(n), 1))
        distances[n, p, patch] = equals.square().sum(1)
    if n_nearest == 1:
        nearest, positions = distances.min(2, keepdim=True)  # the first one of those that tie
    else:
        nearest, positions = distances.topk(n_nearest, dim=2, largest=False)  # (N, P, k)
    return nearest, positions


def pooled_distances(distances: Tensor, n_pooled: int) -> Tensor:
    """Distances (N, P, L) of the nearest patches only, (N, P, k); for a training step."""
    if n_pooled == 1:
        return distances.amin(2, keepdim=True)  # a third of the time that topk takes
    return distances.topk(n_pooled, dim=2, largest=False).values


def as_it_is(vectors: Tensor) -> Tensor:
    """Leave vectors alone."""
    return vectors


def to_unit_length(vectors: Tensor) -> Tensor:
    """Scale vectors along the last axis to length 1; a zero vector stays zero."""
    return nn.functional.normalize(vectors, dim=-1)
