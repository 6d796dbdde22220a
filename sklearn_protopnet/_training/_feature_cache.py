"""Backbone maps of images: computed once while the backbone does not move.

Shapes: n images, N of them in a batch, F channels of an H x W map.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import ImageSource, fill_up
from sklearn_protopnet._network import Chunk, PrototypeNetwork, backbone_maps, copied
from sklearn_protopnet._training._cache_key import digest_bytes, digest_of, state_digest
from sklearn_protopnet._training._object_digest import object_digest
from sklearn_protopnet._training._result_cache import cached, feature_maps, is_cached

KEPT_IN_MEMORY: Final = 2**27
"""So many bytes of maps are kept in memory; more are kept in a temporary file."""

LARGEST_SHARE: Final = 0.5
"""Maps may take this share of the free space for temporary files; more are not kept."""


class FeatureCache:
    """Backbone maps of images, in the order of their rows.

    From `fill` until `clear` they are kept, in memory or in a temporary file; otherwise they are
    computed whenever they are asked for. What a joblib memory holds is not computed: its keys hold
    all that the maps of a chunk depend on, so that whatever fits and predictions send the same
    images in the same order through the same backbone share them.

    Parameters
    ----------
    network : PrototypeNetwork
    source : ImageSource
    rows : int64 array of shape (n,)
        Rows of the source's images.
    memory : joblib.Memory
        Where maps are cached, if the backbone never moves.
    """

    def __init__(
        self,
        network: PrototypeNetwork,
        source: ImageSource,
        rows: NDArray[np.int64],
        memory: Memory,
    ) -> None:
        self.network, self.source, self.rows, self.memory = network, source, rows, memory
        self._kept: NDArray[np.float32] | _RowsInFile | None = None
        self._is_kept = np.zeros(len(rows), dtype=bool)

    @property
    def positions(self) -> NDArray[np.int64]:
        """All positions, (n,)."""
        return np.arange(len(self.rows))

    def chunks(self, positions: NDArray[np.int64] | None = None) -> Iterator[Chunk]:
        """Go through the maps of images at these positions, or of all, chunk by chunk."""
        wanted = self.positions if positions is None else positions
        if self._kept is not None and self._is_kept[wanted].all():
            for index in self.source.chunk_indices(len(wanted)):
                yield wanted[index], self._filled_up(self._kept[wanted[index]])
            return
        is_cached = self.memory.location is not None
        rows = self.rows[wanted]
        for index, maps in self._cached(rows) if is_cached else self._computed(rows):
            yield wanted[index], maps

    def batch(self, index: NDArray[np.int64]) -> Tensor:
        """Give the maps (N, F, H, W) of images at these positions, through a frozen backbone."""
        device = self.network.prototypes.device
        if self._kept is not None and self._is_kept[index].all():
            return _as_maps(self._kept[index]).to(device)
        # As they would have been kept: whether there is room must not show in the results.
        with torch.autocast(device.type, enabled=False):
            chunks = backbone_maps(self.network, self.source.chunks(self.rows[index]))
            return torch.cat([maps[: len(part)] for part, maps in chunks])

    def fill(self, positions: NDArray[np.int64]) -> None:
        """Keep the maps at these positions, unless they are kept or there is no room for them."""
        if self._is_kept[positions].all():
            return
        kept = self._kept
        for index, maps in self.chunks(positions):
            values = _as_values(maps[: len(index)])
            try:
                kept = _room(len(self.rows), values.shape[1:]) if kept is None else kept
                if kept is None:
                    return
                kept[index] = values
            except OSError:  # no place for files, or the room has gone meanwhile
                self.clear()
                return
        self._kept = kept
        self._is_kept[positions] = True

    def take(self, other: FeatureCache) -> None:
        """Keep what a cache of the same images and an equal backbone keeps."""
        self._kept, self._is_kept = other._kept, other._is_kept.copy()

    def clear(self) -> None:
        """Forget the maps: the backbone is about to move."""
        self._kept = None
        self._is_kept[:] = False

    def _computed(self, rows: NDArray[np.int64]) -> Iterator[Chunk]:
        return backbone_maps(self.network, self.source.chunks(rows))

    def _cached(self, rows: NDArray[np.int64]) -> Iterator[Chunk]:
        """Take maps from joblib's memory; those that are missing are computed in their order."""
        backbone = self._backbone_key().encode()
        digests = self.source.images.survey.digests[rows]
        indices = self.source.chunk_indices(len(rows))
        keys = [digest_bytes(backbone, digests[index].tobytes()) for index in indices]
        missing = [i for i, key in enumerate(keys) if not is_cached(self.memory, feature_maps, key)]
        wanted = [rows[indices[i]] for i in missing]
        images = self.source.chunks(np.concatenate(wanted)) if wanted else iter(())
        ahead = zip(missing, images, strict=True)
        for i, (key, index) in enumerate(zip(keys, indices, strict=True)):

            def compute(i: int = i, index: NDArray[np.int64] = index) -> NDArray[np.float32]:
                # Others may have cached what was missing, or what was there may have gone.
                found = (chunk for number, chunk in ahead if number == i) if i in missing else ()
                chunk = next(iter(found), None)
                chunks = self.source.chunks(rows[index]) if chunk is None else [chunk]
                ((_, maps),) = backbone_maps(self.network, chunks)
                return _as_values(maps[: len(index)])

            values: NDArray[np.float32] = cached(self.memory, feature_maps, key, compute)
            yield index, self._filled_up(values)

    def _filled_up(self, values: NDArray[np.float32]) -> Tensor:
        return fill_up(_as_maps(values), self.source.smallest_chunk)

    def _backbone_key(self) -> str:
        """Digest what a map depends on, but for the image."""
        structure = self.network.backbone_origin
        if structure is None:  # a module of the user's, as fits leave it
            backbone = copied(self.network.backbone).eval().requires_grad_(False)
            structure = object_digest("backbone", backbone)
        return digest_of(
            backbone=structure,
            state=state_digest(self.network.backbone),
            standardization=self.source.standardization,
            shape=self.source.images.shape,
            device=self.network.prototypes.device,
        )


class _RowsInFile:
    """Rows of an array in a temporary file that has no name.

    A file is read, not mapped: mapped pages count as the memory of the process.

    Parameters
    ----------
    shape : tuple of int
        Of a row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape, self._row_bytes = shape, 4 * math.prod(shape)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this lives
        weakref.finalize(self, self._file.close)

    def __setitem__(self, index: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Write rows that come one after the other."""
        self._file.seek(int(index[0]) * self._row_bytes)
        self._file.write(values.tobytes())
        self._file.flush()  # that there is no room must show here

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        values = np.empty((len(index), *self._shape), np.float32)
        for row, target in zip(index.tolist(), values, strict=True):
            self._file.seek(row * self._row_bytes)
            self._file.readinto(memoryview(target).cast("B"))
        return values


def _room(n_images: int, shape: tuple[int, ...]) -> NDArray[np.float32] | _RowsInFile | None:
    """Make room for maps of this shape; None where they would take too much."""
    n_bytes = 4 * n_images * math.prod(shape)
    if n_bytes <= KEPT_IN_MEMORY:
        return np.empty((n_images, *shape), np.float32)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return _RowsInFile(shape) if n_bytes <= LARGEST_SHARE * free else None


def _as_values(maps: Tensor) -> NDArray[np.float32]:
    """Give maps (N, F, H, W) as an array (N, H, W, F): channels last, as they are computed."""
    values: NDArray[np.float32] = maps.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return values


def _as_maps(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values).permute(0, 3, 1, 2)
