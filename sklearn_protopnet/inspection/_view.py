"""A fitted classifier's network, looking at images: where all inspection begins.

Shapes: n images, P prototypes, Q of them that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._network import (
    METHODS,
    Chunk,
    PrototypeNetwork,
    Queries,
    ReceptiveField,
    box_effects,
    inspect_maps,
    working_conditions,
)
from sklearn_protopnet.inspection._boxes import BOX_RULES, receptive_field_kinds


@dataclass(frozen=True)
class Located:
    """Where the parts of one image are that prototypes are compared with."""

    maps: NDArray[np.float32]
    """(Q, H, W) in pixels of the network."""
    boxes: NDArray[np.int64]
    """(Q, 4) in pixels of the image as it was given."""
    kinds: NDArray[Any]
    """(Q,) what the boxes are."""
    deltas: NDArray[np.float64]
    """(Q,) by how much a map misses the sum that it should have; NaN where there is no such."""
    effects: NDArray[np.float64]
    """(Q, 2) similarity without what is outside of the box, and without what is inside; NaN where
    nobody asked."""


@dataclass(frozen=True)
class View:
    """A network and images."""

    network: PrototypeNetwork
    """In ``eval()`` mode, on its device."""
    source: ImageSource
    field: ReceptiveField
    maps: Callable[[NDArray[np.int64]], Iterator[Chunk]]
    """Gives the backbone's maps of rows of the source."""
    is_tiny: bool

    @property
    def rows(self) -> NDArray[np.int64]:
        """All rows of the source, (n,)."""
        return np.arange(len(self.source))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of the images as they were given, (n, 2)."""
        return self.source.images.original_sizes(self.rows)

    def arrays(self, *names: str) -> list[NDArray[Any]]:
        """Fields of `Inspection` for all images."""
        # In place: a part kept of every chunk, between tensors that are freed, would leave holes in
        # the memory that the next ones do not fit into.
        found: dict[str, NDArray[Any]] = {}
        with working_conditions(tiny=self.is_tiny):
            for seen in inspect_maps(self.network, self.maps(self.rows)):
                for name in names:
                    part: NDArray[Any] = getattr(seen, name)
                    if name not in found:
                        found[name] = np.empty((len(self.source), *part.shape[1:]), part.dtype)
                    found[name][seen.index] = part
        return [found[name] for name in names]

    def similarity_maps(self) -> NDArray[np.float64]:
        """Similarity of every patch to every prototype, (n, P, h, w)."""
        return self._seen(self.network.similarity_maps)

    def similarities_at(
        self, prototypes: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Similarity of the same patches (Q,) of every image to prototypes (Q,); (n, Q)."""
        device = self.network.prototypes.device
        chosen, places = (torch.from_numpy(each).to(device) for each in (prototypes, positions))
        return self._seen(
            lambda maps: self.network.similarities_at(
                self.network.raw_patches(maps), chosen, places
            )
        )

    @torch.no_grad()
    def _seen(self, look: Callable[[torch.Tensor], torch.Tensor]) -> NDArray[np.float64]:
        """Gather what a look at the maps of all images gives, (n, ...)."""
        device = self.network.prototypes.device
        with working_conditions(tiny=self.is_tiny):
            parts = [
                look(maps.to(device))[: len(index)].cpu().numpy()
                for index, maps in self.maps(self.rows)
            ]
        return np.concatenate(parts)

    def receptive_fields(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], Any]:
        """Find the pixels that patches depend on.

        Parameters
        ----------
        positions : int64 array of shape (n, ...)
            Numbers of patches.

        Returns
        -------
        boxes : int64 array of shape (n, ..., 4)
            In pixels of the images as they were given.
        kinds : object array of shape (n, ...)
        """
        boxes = self.source.images.original_boxes(self.rows, self._fields(positions))
        return boxes, receptive_field_kinds(boxes, self.sizes)

    def located(
        self,
        localizer: str,
        positions: NDArray[np.int64],
        wanted: Sequence[NDArray[np.int64]],
        *,
        with_effects: bool = False,
    ) -> Iterator[Located]:
        """Find, image by image, where the patches are that prototypes are compared with.

        Parameters
        ----------
        localizer : str
            One of `LOCALIZERS`.
        positions : int64 array of shape (n, P)
            The patch of each image that is compared with each prototype.
        wanted : sequence of int64 arrays of shape (Q,)
            The prototypes that are asked for in each image.
        with_effects : bool
            Whether to see what the boxes do, for two more passes a box.

        Yields
        ------
        Located
            For one image after the other.
        """
        for index, images in self.source.chunks(self.rows):
            with working_conditions(tiny=self.is_tiny):
                located = [
                    self._located(
                        localizer, images[j : j + 1], row, positions[row], wanted[row], with_effects
                    )
                    for j, row in enumerate(index.tolist())
                ]
            yield from located

    def _located(  # noqa: PLR0917 - private
        self,
        localizer: str,
        image: torch.Tensor,
        row: int,
        positions: NDArray[np.int64],
        prototypes: NDArray[np.int64],
        with_effects: bool,
    ) -> Located:
        if len(prototypes) == 0:
            none = np.empty((0, *image.shape[2:]), np.float32)
            return Located(
                none, np.empty((0, 4), np.int64), np.empty(0, object), np.empty(0), np.empty((0, 2))
            )
        chosen = positions[prototypes]  # (Q,)
        fields = self._fields(chosen)  # (Q, 4)
        device = self.network.prototypes.device
        image = image.to(device)
        queries = Queries(
            *(torch.from_numpy(part).to(device) for part in (prototypes, chosen, fields))
        )
        found = METHODS[localizer](self.network, image, queries)
        maps = found.maps.detach().float().cpu().numpy()  # (Q, H, W)
        boxes, has_box = _boxes_of(localizer, maps, fields)
        deltas, effects = np.full(len(maps), np.nan), np.full((len(maps), 2), np.nan)
        if found.deltas is not None:
            deltas[:] = found.deltas.cpu().numpy()
        if with_effects:
            seen = box_effects(self.network, image, queries, torch.from_numpy(boxes).to(device))
            effects[:] = seen.cpu().numpy()
        images, rows = self.source.images, np.array([row])
        original = images.original_boxes(rows, boxes[None])[0]
        kinds = receptive_field_kinds(original[None], images.original_sizes(rows))[0]
        kinds[has_box] = localizer
        return Located(maps, original, kinds, deltas, effects)

    def _fields(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Receptive fields of patches, in pixels of the network."""
        return self.field.boxes(positions, self.network.prototype_size)


def _boxes_of(
    localizer: str, maps: NDArray[np.float32], fields: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes (Q, 4) of maps, or receptive fields where a map has none; and which have one."""
    rule = BOX_RULES.get(localizer)
    found = [None if rule is None else rule(each) for each in maps]
    boxes = np.array([f if box is None else box for f, box in zip(fields, found, strict=True)])
    return boxes, np.array([box is not None for box in found])
