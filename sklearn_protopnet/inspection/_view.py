"""A fitted classifier's network, looking at images: where all inspection begins.

Shapes: n images, P prototypes, Q of them that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._network import (
    Chunk,
    PrototypeNetwork,
    ReceptiveField,
    backbone_maps,
    inspect_maps,
    working_conditions,
)
from sklearn_protopnet.inspection._attribution import Queries
from sklearn_protopnet.inspection._boxes import WHOLE, receptive_field_kinds
from sklearn_protopnet.inspection._look import FOUND, Located, Look
from sklearn_protopnet.inspection._noise import NoisySource

Found = TypeVar("Found")


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

    def with_noise(self, seed: int) -> View:
        """Look at the same images with a little noise."""
        noisy = NoisySource(self.source.images, self.source.standardization, seed)
        return replace(
            self,
            source=noisy,
            maps=lambda rows: backbone_maps(self.network, noisy.chunks(rows)),
        )

    def differs_from(self, other: View) -> NDArray[np.bool_]:
        """Say which images differ from those of another view, in any pixel; (n,)."""
        found = np.zeros(len(self.rows), dtype=bool)
        pairs = zip(self.source.chunks(self.rows), other.source.chunks(other.rows), strict=True)
        for (index, images), (_, others) in pairs:
            found[index] = (images != others).flatten(1).any(1)[: len(index)].numpy()
        return found

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of the images as they were given, (n, 2)."""
        return self.source.images.original_sizes(self.rows)

    def arrays(self, *names: str) -> list[NDArray[Any]]:
        """Fields of `Inspection` for all images."""
        with working_conditions(tiny=self.is_tiny):
            return _gathered(
                len(self.rows),
                (
                    (seen.index, [getattr(seen, name) for name in names])
                    for seen in inspect_maps(self.network, self.maps(self.rows))
                ),
            )

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
            (found,) = _gathered(
                len(self.rows),
                (
                    (index, [look(maps.to(device))[: len(index)].cpu().numpy()])
                    for index, maps in self.maps(self.rows)
                ),
            )
        return found

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
        found = self.examined(
            positions, wanted, lambda look: look.located(localizer, with_effects=with_effects)
        )
        for i, located in found:
            yield i, self.as_given(located, localizer, i)

    def examined(
        self,
        positions: NDArray[np.int64],
        wanted: Sequence[NDArray[np.int64]],
        examine: Callable[[Look], Found],
    ) -> Iterator[tuple[int, Found]]:
        """Take a close look, image by image, at the patches that prototypes are compared with.

        Parameters
        ----------
        positions, wanted
            As for `located`.
        examine : callable
            Takes a look.

        Yields
        ------
        i : int
            Position of the image.
        found : object
            What `examine` made of it.
        """
        asked = np.flatnonzero([len(each) > 0 for each in wanted])
        for index, images in self.source.chunks(self.rows[asked]):
            found = []
            with working_conditions(tiny=self.is_tiny), torch.inference_mode(mode=False):
                for i, image in zip(asked[index].tolist(), images, strict=False):
                    queries = self._queries(wanted[i], positions[i, wanted[i]])
                    pixels = image[None].clone().to(queries.boxes.device)
                    found.append((i, examine(Look(self.network, pixels, queries))))
            yield from found

    def as_given(self, located: Located, localizer: str, i: int) -> Located:
        """Bring boxes to pixels of the i-th image as it was given, and say what they are."""
        images, row = self.source.images, self.rows[i : i + 1]
        boxes = images.original_boxes(row, located.boxes[None])
        kinds = receptive_field_kinds(boxes, images.original_sizes(row))[0]
        kinds[(located.kinds == FOUND) & (kinds != WHOLE)] = localizer
        return replace(located, boxes=boxes[0], kinds=kinds)

    def _queries(self, prototypes: NDArray[np.int64], positions: NDArray[np.int64]) -> Queries:
        device = self.network.prototypes.device
        parts = prototypes, positions, self._fields(positions)
        return Queries(*(torch.from_numpy(part).to(device) for part in parts))

    def _fields(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Receptive fields of patches, in pixels of the network."""
        return self.field.boxes(positions, self.network.prototype_size)


def _gathered(
    n_images: int, chunks: Iterable[tuple[NDArray[np.int64], list[NDArray[Any]]]]
) -> list[NDArray[Any]]:
    """Put arrays of chunks of images together, (n, ...) each."""
    # In place: a part kept of every chunk, between tensors that are freed, would leave holes in
    # the memory that the next ones do not fit into.
    found: list[NDArray[Any]] = []
    for index, parts in chunks:
        found = found or [np.empty((n_images, *part.shape[1:]), part.dtype) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[index] = part
    return found
