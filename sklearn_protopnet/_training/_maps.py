"""Backbone maps of a set of images: computed once while the backbone does not move.

Shapes: n images, N of them in a batch, F channels of an H x W map.
"""

from __future__ import annotations

import copy
import errno
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import ImageSource, fill_up
from sklearn_protopnet._network import Chunk, PrototypeNetwork, backbone_maps
from sklearn_protopnet._training._cache_key import (
    callable_digest,
    digest_bytes,
    digest_of,
    state_digest,
)
from sklearn_protopnet._training._labelled_images import LabelledImages

KEPT_IN_MEMORY: Final = 2**27
"""Bytes of maps that are kept in memory; more are kept in a temporary file."""

LARGEST_SHARE: Final = 0.5
"""Share of the free space for temporary files that maps may take; more are not kept."""


class KeptMaps:
    """Maps of all images of a set, in memory or in a temporary file that has no name.

    A file is read, not mapped: mapped pages count as the memory of the process.

    Parameters
    ----------
    n_images : int
    shape : (int, int, int)
        (F, H, W)
    """

    def __init__(self, n_images: int, shape: tuple[int, int, int]) -> None:
        depth, height, width = shape
        self._shape = height, width, depth  # channels last, as they are computed
        self._row_bytes = 4 * depth * height * width
        self._array, self._file = None, None
        if self.fits_in_memory(n_images, shape):
            self._array = np.empty((n_images, *self._shape), np.float32)
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this lives
            weakref.finalize(self, self._file.close)

    @staticmethod
    def fits_in_memory(n_images: int, shape: tuple[int, int, int]) -> bool:
        """Tell whether maps of so many images are kept in memory."""
        return 4 * n_images * math.prod(shape) <= KEPT_IN_MEMORY

    @staticmethod
    def has_room(n_images: int, shape: tuple[int, int, int]) -> bool:
        """Tell whether maps of so many images can be kept."""
        if KeptMaps.fits_in_memory(n_images, shape):
            return True
        free = shutil.disk_usage(tempfile.gettempdir()).free
        return 4 * n_images * math.prod(shape) <= LARGEST_SHARE * free

    def append(self, index: NDArray[np.int64], maps: Tensor) -> None:
        """Take in the maps (N, F, H, W) of the images that come next."""
        values = maps.cpu().permute(0, 2, 3, 1).contiguous().numpy()
        if self._array is not None:
            self._array[index] = values
        elif self._file is not None:
            self._file.write(values.tobytes())
            self._file.flush()  # that there is no room must show here

    def read(self, index: NDArray[np.int64]) -> Tensor:
        """Give the maps (N, F, H, W) of images."""
        if self._array is not None:
            values = self._array[index]
        else:
            values = np.empty((len(index), *self._shape), np.float32)
            assert self._file is not None
            for row, target in zip(index.tolist(), values, strict=True):
                self._file.seek(row * self._row_bytes)
                self._file.readinto(memoryview(target).cast("B"))
        return torch.from_numpy(values).permute(0, 3, 1, 2)


class Maps:
    """Backbone maps of a set of images, kept from `keep` until `drop`.

    Parameters
    ----------
    network : PrototypeNetwork
    images : LabelledImages
    memory : joblib.Memory
        Where maps are cached, if the backbone never moves.
    """

    def __init__(self, network: PrototypeNetwork, images: LabelledImages, memory: Memory) -> None:
        self.network, self.images, self.memory = network, images, memory
        self.kept: KeptMaps | None = None
        self.is_too_large = False

    def chunks(self) -> Iterator[Chunk]:
        """Go through the maps of all images, in chunks of one shape."""
        if self.kept is None:
            yield from self._frozen()
            return
        source = self.images.source
        for index in source.chunk_indices(len(self.images)):
            yield index, fill_up(self.kept.read(index), source.smallest_chunk)

    def keep(self, *, in_file: bool) -> None:
        """Compute the maps, unless they are there or there is no room for them.

        Parameters
        ----------
        in_file : bool
            Whether they will be looked at often enough for a file, if memory does not do.
        """
        if self.kept is not None or self.is_too_large:
            return
        for index, maps in self._frozen():
            depth, height, width = maps.shape[1:]
            plan = len(self.images), (depth, height, width)
            if not (in_file or KeptMaps.fits_in_memory(*plan)):
                return
            try:
                self._take_in(index, maps[: len(index)], plan)
            except OSError:  # there is no room, or nowhere to look for it
                self.drop()
                self.is_too_large = True
                return

    def _take_in(
        self, index: NDArray[np.int64], maps: Tensor, plan: tuple[int, tuple[int, int, int]]
    ) -> None:
        if self.kept is None:
            if not KeptMaps.has_room(*plan):
                raise OSError(errno.ENOSPC, "maps would take too much of the room that is left")
            self.kept = KeptMaps(*plan)
        self.kept.append(index, maps)

    def drop(self) -> None:
        """Forget the maps: the backbone is about to move."""
        self.kept = None

    def _frozen(self) -> Iterator[Chunk]:
        images = self.images
        return frozen_maps(self.network, images.source, images.members.rows, self.memory)


def frozen_maps(
    network: PrototypeNetwork, source: ImageSource, rows: NDArray[np.int64], memory: Memory
) -> Iterator[Chunk]:
    """Yield chunks of maps of a backbone that does not move, from a cache if there is one.

    A key holds all that the maps of a chunk depend on, so that whatever fits and predictions look
    at the same images in the same order through the same backbone share them.

    Parameters
    ----------
    network : PrototypeNetwork
    source : ImageSource
    rows : int64 array of shape (n,)
    memory : joblib.Memory
    """
    if memory.location is None:
        yield from backbone_maps(network, source.chunks(rows))
        return
    backbone = _backbone_key(network, source)
    digests = source.images.survey.digests[rows]
    cached = memory.cache(_computed, ignore=["compute"])
    indices = source.chunk_indices(len(rows))
    keys = [digest_bytes(backbone.encode(), digests[index].tobytes()) for index in indices]
    missing = [i for i, key in enumerate(keys) if not cached.check_call_in_cache(key, None)]
    wanted = rows[np.concatenate([indices[i] for i in missing])] if missing else rows[:0]
    fresh = _Fresh(network, missing, source.chunks(wanted))
    for i, (key, index) in enumerate(zip(keys, indices, strict=True)):

        def compute(i: int = i, index: NDArray[np.int64] = index) -> Tensor:
            maps = fresh.take(i)
            if maps is None:  # it was there, and has gone
                ((_, maps),) = backbone_maps(network, source.chunks(rows[index]))
            return maps[: len(index)]

        maps = torch.from_numpy(np.array(cached(key, compute))).permute(0, 3, 1, 2)
        yield index, fill_up(maps, source.smallest_chunk)


class _Fresh:
    """Chunks of maps that are computed when they are asked for, in their order."""

    def __init__(
        self, network: PrototypeNetwork, numbers: list[int], images: Iterator[Chunk]
    ) -> None:
        self.network = network
        self.numbers = frozenset(numbers)
        self.pairs = zip(numbers, images, strict=True)

    def take(self, number: int) -> Tensor | None:
        """Give the chunk of this number; None if it is none of them."""
        if number in self.numbers:
            for found, chunk in self.pairs:  # others may meanwhile have been cached elsewhere
                if found == number:
                    ((_, maps),) = backbone_maps(self.network, [chunk])
                    return maps
        return None


def _computed(key: str, compute: Callable[[], Tensor]) -> NDArray[np.float32]:  # noqa: ARG001
    """Compute maps as an array (N, H, W, F), by the key that joblib knows them by."""
    values: NDArray[np.float32] = compute().cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return values


def _backbone_key(network: PrototypeNetwork, source: ImageSource) -> str:
    """Digest what a map depends on, but for the image."""
    standard, structure = source.standardization, network.backbone_origin
    if structure is None:  # a module of the user's
        backbone = copy.deepcopy(network.backbone).eval().requires_grad_(False)  # as fits leave it
        structure = callable_digest("backbone", backbone)
    return digest_of(
        backbone=structure,
        state=state_digest(network.backbone),
        standardization=[standard.mean.tolist(), standard.scale.tolist()],
        shape=source.images.shape,
        device=str(network.prototypes.device),
    )
