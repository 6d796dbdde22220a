"""A fitted classifier's network, looking at images: where all inspection begins.

Shapes: n images, P prototypes, Q of them that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

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
from sklearn_protopnet.inspection._boxes import BOX_RULES, WHOLE, receptive_field_kinds


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
    rows: NDArray[np.int64]
    """(n,) rows of the source to look at."""
    is_tiny: bool

    def part(self, part: slice) -> View:
        """Look at some of the images only."""
        return replace(self, rows=self.rows[part])

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
                        found[name] = np.empty((len(self.rows), *part.shape[1:]), part.dtype)
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
    ) -> Iterator[tuple[int, Located]]:
        """Find, image by image, where the patches are that prototypes are compared with.

        Parameters
        ----------
        localizer : str
            One of `LOCALIZERS`.
        positions : int64 array of shape (n, P)
            The patch of each image that is compared with each prototype.
        wanted : sequence of n int64 arrays of shape (Q,)
            The prototypes that are asked for in each image. One without any is not looked at.
        with_effects : bool
            Whether to see what the boxes do, for two more passes a box.

        Yields
        ------
        i : int
            Position of the image.
        found : Located
        """
        asked = np.flatnonzero([len(each) > 0 for each in wanted])
        for index, images in self.source.chunks(self.rows[asked]):
            found = []
            with working_conditions(tiny=self.is_tiny), torch.inference_mode(mode=False):
                for i, image in zip(asked[index].tolist(), images, strict=False):
                    queries = self._queries(wanted[i], positions[i, wanted[i]])
                    look = _Look(
                        self.network, image[None].clone().to(queries.boxes.device), queries
                    )
                    found.append((i, look.located(localizer, with_effects=with_effects)))
            for i, located in found:
                yield i, self._as_given(located, localizer, self.rows[i : i + 1])

    def _queries(self, prototypes: NDArray[np.int64], positions: NDArray[np.int64]) -> Queries:
        device = self.network.prototypes.device
        parts = prototypes, positions, self._fields(positions)
        return Queries(*(torch.from_numpy(part).to(device) for part in parts))

    def _as_given(self, located: Located, localizer: str, row: NDArray[np.int64]) -> Located:
        """Bring boxes to pixels of an image as it was given, and say what they are."""
        images = self.source.images
        boxes = images.original_boxes(row, located.boxes[None])
        kinds = receptive_field_kinds(boxes, images.original_sizes(row))[0]
        kinds[(located.kinds == FOUND) & (kinds != WHOLE)] = localizer
        return replace(located, boxes=boxes[0], kinds=kinds)

    def _fields(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Receptive fields of patches, in pixels of the network."""
        return self.field.boxes(positions, self.network.prototype_size)


FOUND: Final = "found"
"""Kind of a box that a localizer has found, before it gets a name."""


@dataclass(frozen=True)
class _Look:
    """One image and what is asked about it."""

    network: PrototypeNetwork
    image: torch.Tensor
    """(1, C, H, W)"""
    queries: Queries

    def located(self, localizer: str, *, with_effects: bool) -> Located:
        """Find maps and boxes, in pixels of the network."""
        found = METHODS[localizer](self.network, self.image, self.queries)
        maps = found.maps.detach().float().cpu().numpy()  # (Q, H, W)
        rule = BOX_RULES.get(localizer)
        by_rule = [None if rule is None else rule(each) for each in maps]
        boxes = self.queries.boxes.cpu().numpy().copy()
        kinds = np.full(len(boxes), "", dtype=object)
        for q, box in enumerate(by_rule):
            if box is not None:
                boxes[q], kinds[q] = box, FOUND
        deltas, effects = np.full(len(boxes), np.nan), np.full((len(boxes), 2), np.nan)
        if found.deltas is not None:
            deltas[:] = found.deltas.cpu().numpy()
        if with_effects:
            places = torch.from_numpy(boxes).to(self.image.device)
            effects[:] = box_effects(self.network, self.image, self.queries, places).cpu().numpy()
        return Located(maps, boxes, kinds, deltas, effects)
