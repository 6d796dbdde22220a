"""Localizers: how the pixels are found that make a patch similar to a prototype.

To add one, write a function that attributes, and register its record: whatever takes a
`localizer` finds it there. What it does stands in the docstring of `localize`.

Shapes: Q prototypes that are asked for, M variants of an image of H x W pixels and C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._located_boxes import RECEPTIVE_FIELD, WHOLE, LocatedBoxes
from sklearn_protopnet._network import PrototypeNetwork, working_conditions
from sklearn_protopnet.inspection import _attribution as attribution
from sklearn_protopnet.inspection._attribution import LARGEST_PASS, Attribution, Queries, blurred
from sklearn_protopnet.inspection._box_effects import attack_effects, box_effects
from sklearn_protopnet.inspection._boxes import Box, percentile_box, relevance_box

Found = TypeVar("Found")


@dataclass(frozen=True)
class Localizer:
    """A localizer and all that the rest needs to know of it."""

    name: str
    attribute: Callable[[PrototypeNetwork, torch.Tensor, Queries], Attribution]
    """Gives a map for each query. Pixels outside of its receptive field do not count, and a query
    must not know of the others."""
    box: Callable[[NDArray[Any]], Box | None] | None
    """Encloses what counts in a map (H, W), if anything does; None where the receptive field is the
    box."""
    cost: str
    """Passes of the network that it takes, in the words of the docstring of `localize`."""
    description: str
    """Says for the documentation what it does, with its source."""

    @property
    def is_exact(self) -> bool:
        """Whether the box holds all that the patch depends on, and costs no pass."""
        return self.box is None


LOCALIZERS: Final[dict[str, Localizer]] = {
    each.name: each
    for each in (
        Localizer(
            name=RECEPTIVE_FIELD,
            attribute=attribution.receptive_field,
            box=None,
            cost="no further pass",
            description="all pixels that the patch depends on; certain, and the default",
        ),
        Localizer(
            name="integrated_gradients",
            attribute=attribution.integrated_gradients,
            box=relevance_box,
            cost="18 passes for an image, 32 for each prototype",
            description="gradients on the way from a blurred image to the image (Sundararajan et "
            "al. 2017)",
        ),
        Localizer(
            name="occlusion",
            attribute=attribution.occlusion,
            box=relevance_box,
            cost="about 130 passes for each prototype if the receptive field has 18 x 18 pixels or "
            "more; 2 to 250 if less",
            description="by how much the similarity falls if a window is blurred (Zeiler and "
            "Fergus 2014)",
        ),
        Localizer(
            name="prp",
            attribute=attribution.relevance,
            box=relevance_box,
            cost="one pass for an image, about 5 for each prototype",
            description="prototype relevance propagation (Gautam et al. 2023): the similarity is "
            "handed back layer by layer, each time to what made the output larger",
        ),
        Localizer(
            name="upsample",
            attribute=attribution.upsampling,
            box=percentile_box,
            cost="one pass for an image",
            description="the map of similarities, enlarged, with the box of the paper; for "
            "comparison",
        ),
    )
}
"""The registry holds every localizer by its name."""


def check_localizer(localizer: Any) -> None:
    """Check that a localizer is known."""
    if not isinstance(localizer, str) or localizer not in LOCALIZERS:
        raise ValueError(f"localizer must be one of {list(LOCALIZERS)}, got {localizer!r}.")


@dataclass(frozen=True)
class LocalizedPatches:
    """Where the patches of one image are that prototypes are compared with."""

    maps: NDArray[np.float32]
    """(Q, H, W) how much each pixel of the network's counts."""
    input_boxes: NDArray[np.int64]
    """(Q, 4) in the same pixels."""
    located: LocatedBoxes
    """(Q,) boxes in pixels of the image as it was given."""


@dataclass(frozen=True)
class ImageQueries:
    """One image, and the patches of it that prototypes are compared with."""

    network: PrototypeNetwork
    image: torch.Tensor
    """(1, C, H, W)"""
    queries: Queries
    source: ImageSource
    """Of this image only."""

    def localize(self, localizer: str, *, with_effects: bool = False) -> LocalizedPatches:
        """Find maps and boxes.

        Parameters
        ----------
        localizer : str
            A name in `LOCALIZERS`.
        with_effects : bool
            Whether to measure what the boxes do, for two more passes a box.
        """
        record = LOCALIZERS[localizer]
        found = record.attribute(self.network, self.image, self.queries)
        maps = found.maps.detach().float().cpu().numpy()  # (Q, H, W)
        boxes = self.queries.boxes.cpu().numpy().copy()  # (Q, 4)
        by_rule = [None if record.box is None else record.box(each) for each in maps]
        is_found = np.array([box is not None for box in by_rule])  # (Q,)
        for q in np.flatnonzero(is_found):
            boxes[q] = by_rule[q]
        located = LocatedBoxes.of_receptive_fields(
            self.source.original_boxes(boxes[None])[0], self.source.sizes.repeat(len(boxes), 0)
        )
        located.kinds[is_found & (located.kinds != WHOLE)] = localizer
        if found.deltas is not None:
            located.deltas[:] = found.deltas.cpu().numpy()
        if with_effects:
            located.effects[:] = self._of_boxes(box_effects, boxes)
        return LocalizedPatches(maps, boxes, located)

    def attacked(self, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Similarities before and after an attack from outside of boxes (Q, 4); (Q, 2)."""
        return self._of_boxes(attack_effects, boxes)

    def _of_boxes(
        self, effects: Callable[..., torch.Tensor], boxes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        places = torch.from_numpy(boxes).to(self.image.device)
        found: NDArray[np.float64] = (
            effects(self.network, self.image, self.queries, places).cpu().numpy()
        )
        return found

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The image, (H, W, C)."""
        return _pixels_of(self.image)

    @property
    def baseline(self) -> NDArray[np.float32]:
        """What takes the place of pixels that go, (H, W, C)."""
        return _pixels_of(blurred(self.image))

    @torch.no_grad()
    def similarities(self, variants: NDArray[np.float32]) -> NDArray[np.float64]:
        """Similarities of the same patches in variants (M, H, W, C) of the image; (M, Q)."""
        images = torch.from_numpy(variants).permute(0, 3, 1, 2).to(self.image.device)
        parts = [
            attribution.patch_similarities(self.network, some, self.queries).cpu()
            for some in images.split(max(1, LARGEST_PASS // self.image[0, 0].numel()))
        ]
        return torch.cat(parts).numpy()


def _pixels_of(image: torch.Tensor) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = image[0].permute(1, 2, 0).cpu().numpy()
    return pixels


def for_each_image(
    fitted: FittedNetwork,
    source: ImageSource,
    positions: NDArray[np.int64],
    wanted: Sequence[NDArray[np.int64]],
    compute: Callable[[ImageQueries], Found],
) -> Iterator[tuple[int, Found]]:
    """Compute something of the patches that prototypes are compared with, image by image.

    Parameters
    ----------
    fitted : FittedNetwork
    source : ImageSource
        Of n images.
    positions : int64 array of shape (n, P)
        The patch of each image that is compared with each prototype.
    wanted : sequence of n int64 arrays of shape (Q,)
        The prototypes that are asked for in each image. One without any is passed over.
    compute : callable

    Yields
    ------
    i : int
        Position of the image.
    found : object
        What `compute` made of it.
    """
    asked = np.flatnonzero([len(each) > 0 for each in wanted])
    device = fitted.network.prototypes.device
    for index, images in source.chunks(source.rows[asked]):
        found = []
        with working_conditions(tiny=fitted.architecture.is_tiny):
            for i, image in zip(asked[index].tolist(), images, strict=False):
                places = positions[i, wanted[i]]
                parts = wanted[i], places, fitted.input_boxes(places)
                queries = Queries(*(torch.from_numpy(part).to(device) for part in parts))
                pixels = image[None].clone().to(device)
                one = source.part(slice(i, i + 1))
                found.append((i, compute(ImageQueries(fitted.network, pixels, queries, one))))
        yield from found


def located_boxes(
    fitted: FittedNetwork,
    source: ImageSource,
    localizer: str,
    positions: NDArray[np.int64],
    wanted: Callable[[int], NDArray[np.int64]],
    *,
    with_effects: bool = False,
) -> LocatedBoxes:
    """Find boxes; what costs something, of those that are asked for only.

    Parameters
    ----------
    fitted : FittedNetwork
    source : ImageSource
        Of n images.
    localizer : str
        A name in `LOCALIZERS`.
    positions : int64 array of shape (n, P) or (n, P, k)
        The patch, or k of them, of each image that is compared with each prototype.
    wanted : callable
        Gives the prototypes (Q,) that are asked for in an image; called if that matters.
    with_effects : bool
        Whether to measure what the boxes do.

    Returns
    -------
    LocatedBoxes
        Of the shape of positions; receptive fields where nothing was asked for.
    """
    found = fitted.receptive_fields(source, positions)
    if LOCALIZERS[localizer].is_exact and not with_effects:
        return found
    asked = [wanted(i) for i in range(len(positions))]
    for patch in np.ndindex(positions.shape[2:]):  # once for (n, P)
        for i, patches in for_each_image(
            fitted,
            source,
            positions[:, :, *patch],
            asked,
            lambda queries: queries.localize(localizer, with_effects=with_effects),
        ):
            for name, whole in vars(found).items():
                whole[i, asked[i], *patch] = getattr(patches.located, name)
    return found
