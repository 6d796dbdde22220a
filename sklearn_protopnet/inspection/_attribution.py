"""Which pixels make a patch of an image similar to a prototype.

Every method gives a map for each *query*: a prototype and the patch of the image that is compared
with it. The patch stays where it is, so that a map explains one number.

Shapes: M variants of one image, Q queries, C channels, H x W pixels, L patches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from sklearn_protopnet._network import PrototypeNetwork
from sklearn_protopnet.inspection._relevance import Propagation, not_zero

STEPS: Final = 16
"""Integrated gradients are taken at so many points on the way from the baseline to the image."""

BLUR: Final = 0.1
"""A baseline is blurred with this standard deviation, in shorter sides of the image."""

ROUNDING: Final = 1e-6
"""A blur that changes pixels by no more, in units of the image's largest, has only rounded them."""

WINDOW_SIDES: Final = (1 / 5, 1 / 3)
"""Occlusion windows have these sides, in sides of the receptive field; each overlaps half of the
next. The small ones tell where; the large ones hold what no small one takes away. Larger ones yet
would leave no small boxes."""

LARGEST_PASS: Final = 2**20
"""The images of one pass have so many pixels at most, unless it is of one image."""


@dataclass(frozen=True)
class Queries:
    """What to explain in one image."""

    prototypes: Tensor
    """(Q,) numbers of prototypes."""
    positions: Tensor
    """(Q,) numbers of the patches that they are compared with."""
    boxes: Tensor
    """(Q, 4) receptive fields of those patches, ``y0, y1, x0, x1``, half-open."""

    def __len__(self) -> int:
        return len(self.prototypes)


@dataclass(frozen=True)
class Attribution:
    """How much each pixel counts."""

    maps: Tensor
    """(Q, H, W)"""
    deltas: Tensor | None = None
    """(Q,) by how much a map's sum misses what it should be, where it should be something."""


def patch_similarities(network: PrototypeNetwork, images: Tensor, queries: Queries) -> Tensor:
    """Similarity of each query's patch in each image; (M, Q), float64, differentiable."""
    patches = network.raw_patches(network.feature_maps(images))  # (M, L, D1)
    return network.similarities_at(patches, queries.prototypes, queries.positions)


def blurred(images: Tensor) -> Tensor:
    """Images without their details, whatever their size; (M, C, H, W).

    Pixels that only rounding would change stay: where nothing goes, no similarity may fall.
    """
    deviation = BLUR * min(images.shape[2:])
    width, height = (
        2 * min(math.ceil(3 * deviation), side - 1) + 1  # reflection needs a smaller border
        for side in (images.shape[3], images.shape[2])
    )
    # One axis after the other: 274 numbers for each pixel of 224 x 224, and not 18,769.
    rows: Tensor = transforms.gaussian_blur(images, [width, 1], [deviation, deviation])
    result: Tensor = transforms.gaussian_blur(rows, [1, height], [deviation, deviation])
    is_same = (result - images).abs() <= ROUNDING * images.abs().amax((1, 2, 3), keepdim=True)
    return torch.where(is_same, images, result)


def integrated_gradients(
    network: PrototypeNetwork, image: Tensor, queries: Queries, n_steps: int = STEPS
) -> Attribution:
    """Integrate gradients from a blurred image to the image (Sundararajan et al. 2017, eq. 1).

    By the midpoint rule. A map adds up to what the similarity gains on the way, but for its
    delta, which is the error of the rule.

    Parameters
    ----------
    network : PrototypeNetwork
        In ``eval()`` mode.
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    n_steps : int, default=STEPS
        Points on the way.
    """
    baseline = blurred(image)
    gradients = image.new_zeros(len(queries), *image.shape[1:])  # (Q, C, H, W)
    points = (torch.arange(n_steps, device=image.device) + 0.5) / n_steps
    for some in points.split(max(1, LARGEST_PASS // image[0, 0].numel())):
        way = baseline + some[:, None, None, None] * (image - baseline)  # (points, C, H, W)
        with torch.enable_grad():
            inputs = way.requires_grad_().clone()  # no leaf: a module may write to it
            similarities = patch_similarities(network, inputs, queries)
            for q, similarity in enumerate(similarities.sum(0)):
                gradients[q] += gradient_of(similarity, way).sum(0) / n_steps
    maps = ((image - baseline) * gradients).sum(1) * indicators(queries.boxes, image.shape[2:])
    with torch.no_grad():
        ends = patch_similarities(network, torch.cat([baseline, image]), queries)  # (2, Q)
    return Attribution(maps, maps.double().sum((1, 2)) - (ends[1] - ends[0]))


def relevance(network: PrototypeNetwork, image: Tensor, queries: Queries) -> Attribution:
    """Propagate the similarity back to the pixels (Gautam et al. 2023).

    It starts at the patch: each of its numbers gets a share that falls with the fourth power of
    its difference from the prototype's. Of a similarity that is not positive, such as a linear
    one, there is nothing to hand back: then relevance is 1 in all.

    The deltas say what became of relevance on its way: about 0 where all layers have rules.

    Parameters
    ----------
    network : PrototypeNetwork
        In ``eval()`` mode.
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    """
    pixels = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        inputs = pixels.clone()  # no leaf: a module may write to it
        with Propagation(inputs):
            patches = network.raw_patches(network.feature_maps(inputs))  # (1, L, D1)
    with torch.no_grad():
        chosen = patches[0, queries.positions]  # (Q, D1)
        wanted = network.comparable(network.prototypes.flatten(1)[queries.prototypes])
        differences = network.comparable(chosen) - wanted
        shares = 1 / (differences.double() ** 4 + 1e-12)
        shares = shares / shares.sum(1, keepdim=True)
        (found,) = network.similarities_at(patches, queries.prototypes, queries.positions)
        start = torch.where(found > 0, found, 1)[:, None] * shares
        ratios = (start / chosen.double().clamp(min=1e-9)).to(patches.dtype)  # R / a, (Q, D1)
        outputs = torch.zeros_like(patches)
    maps = []
    for position, ratio in zip(queries.positions.tolist(), ratios, strict=True):
        outputs[0, position] = ratio
        back = gradient_of(patches, pixels, outputs)
        outputs[0, position] = 0
        maps.append((back * not_zero(pixels.detach()))[0].sum(0))
    inside = torch.stack(maps) * indicators(queries.boxes, image.shape[2:])
    return Attribution(inside, inside.double().sum((1, 2)) - start.sum(1))


@torch.no_grad()
def occlusion(network: PrototypeNetwork, image: Tensor, queries: Queries) -> Attribution:
    """Blur one window after the other: by how much the similarity falls (Zeiler, Fergus 2014).

    Windows lie within the receptive fields and have several sizes. Of each size, a pixel gets the
    mean of those that hold it; a map is the mean of the sizes.

    Parameters
    ----------
    network : PrototypeNetwork
        In ``eval()`` mode.
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    """
    baseline = blurred(image)
    maps = torch.zeros(len(queries), *image.shape[2:], dtype=torch.float64, device=image.device)
    for side in WINDOW_SIDES:
        owners = windows_of(queries.boxes, side)
        drops, counts = torch.zeros_like(maps), torch.zeros_like(maps)
        # Always as many images, and the plain one among them: the last bits depend on the number.
        n_variants = min(max(2, LARGEST_PASS // image[0, 0].numel()), len(owners) + 1)
        variants = image.repeat(n_variants, 1, 1, 1)  # (M, C, H, W)
        for windows in _batches(list(owners), n_variants - 1):
            variants[:] = image
            for variant, (y0, y1, x0, x1) in zip(variants[1:], windows, strict=False):
                variant[:, y0:y1, x0:x1] = baseline[0, :, y0:y1, x0:x1]
            before, *after = patch_similarities(network, variants, queries)  # (Q,) each
            for (y0, y1, x0, x1), similarities in zip(windows, after, strict=False):
                own = owners[y0, y1, x0, x1]
                drops[own, y0:y1, x0:x1] += (before - similarities)[own, None, None]
                counts[own, y0:y1, x0:x1] += 1
        maps += drops / counts.clamp(min=1) / len(WINDOW_SIDES)
    return Attribution(maps)


@torch.no_grad()
def upsampling(network: PrototypeNetwork, image: Tensor, queries: Queries) -> Attribution:
    """Enlarge the map of similarities by cubic interpolation (Chen et al. 2019, section 2.3).

    Parameters
    ----------
    network : PrototypeNetwork
        In ``eval()`` mode.
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    """
    features = network.feature_maps(image)
    similarities = network.similarity_maps(features)[0, queries.prototypes]  # (Q, h, w)
    enlarged = nn.functional.interpolate(
        similarities[:, None], size=image.shape[2:], mode="bicubic", align_corners=False
    )
    return Attribution(enlarged[:, 0])


@torch.no_grad()
def receptive_field(
    network: PrototypeNetwork,  # noqa: ARG001 - as the others
    image: Tensor,
    queries: Queries,
) -> Attribution:
    """Say which pixels count at all: 1 where the patch depends on a pixel, 0 elsewhere.

    Parameters
    ----------
    network : PrototypeNetwork
    image : Tensor of shape (1, C, H, W)
    queries : Queries
    """
    return Attribution(indicators(queries.boxes, image.shape[2:]))


def gradient_of(outputs: Tensor, images: Tensor, weights: Tensor | None = None) -> Tensor:
    """Gradient of outputs with respect to images (M, C, H, W); the graph is kept.

    Raises
    ------
    ValueError
        If there is no way back from the outputs to the images.
    """
    gradient = None
    if outputs.requires_grad:
        (gradient,) = torch.autograd.grad(
            outputs, images, weights, retain_graph=True, allow_unused=True
        )
    if gradient is None:
        raise ValueError(
            "The backbone must pass gradients on for this, and it does not, as within "
            "torch.no_grad(): use 'occlusion' or 'receptive_field', and no 'attack' among "
            "the groups of a report."
        )
    return gradient


Window = tuple[int, int, int, int]
"""``y0, y1, x0, x1``"""


def windows_of(boxes: Tensor, side: float) -> dict[Window, list[int]]:
    """Windows that cover boxes (Q, 4), half of each over the next; and which boxes each is of."""
    owners: dict[Window, list[int]] = {}
    for q, (y0, y1, x0, x1) in enumerate(boxes.tolist()):
        for top, bottom in _steps(y0, y1, side):
            for left, right in _steps(x0, x1, side):
                owners.setdefault((top, bottom, left, right), []).append(q)
    return owners


def _steps(start: int, stop: int, side: float) -> list[tuple[int, int]]:
    length = max(1, round(side * (stop - start)))
    starts = range(start, max(stop - length, start) + 1, max(1, length // 2))
    return [(s, s + length) for s in sorted({*starts, stop - length})]


def _batches(windows: list[Window], size: int) -> Iterator[list[Window]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def indicators(boxes: Tensor, size: torch.Size) -> Tensor:
    """1 inside of boxes (Q, 4), 0 outside; (Q, H, W)."""
    y = torch.arange(size[0], device=boxes.device)[:, None]  # (H, 1)
    x = torch.arange(size[1], device=boxes.device)
    y0, y1, x0, x1 = (boxes[:, i, None, None] for i in range(4))
    return ((y >= y0) & (y < y1) & (x >= x0) & (x < x1)).float()
