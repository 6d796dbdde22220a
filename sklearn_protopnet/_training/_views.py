"""How a training sees its images: plain or varied, through a backbone that moves or does not.

Shapes: n training images, N of them in a batch, F channels of an H x W map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet._images import Changes, Transform, transform_by
from sklearn_protopnet._network import PrototypeNetwork, backbone_maps
from sklearn_protopnet._training._labelled_images import LabelledImages
from sklearn_protopnet._training._maps import Maps

LARGEST_SEED: Final = 2**62
"""Seeds of changes lie below."""


class Views:
    """Backbone maps of training and validation images, kept while the backbone does not move.

    Parameters
    ----------
    network : PrototypeNetwork
    images : LabelledImages
        Training images.
    validation : LabelledImages or None
    augment : str, callable or None
        What varies the training images of a gradient stage.
    memory : joblib.Memory
        Where maps of a backbone that does not move are cached.
    """

    def __init__(
        self,
        network: PrototypeNetwork,
        images: LabelledImages,
        validation: LabelledImages | None,
        *,
        augment: str | Transform | None,
        memory: Memory,
    ) -> None:
        self.network = network
        self.images = images
        self.training = Maps(network, images, memory)
        self.validation = Maps(network, validation, memory) if validation else None
        source = images.source
        self.transform = transform_by(augment, source.images.shape, source.standardization.mean)

    def begin(self, *, by_gradients: bool) -> None:
        """Forget maps of a backbone that is about to move; keep those that will be asked for.

        Parameters
        ----------
        by_gradients : bool
            Whether a gradient stage begins, which looks at varied images if there are such.
        """
        for maps in filter(None, (self.training, self.validation)):
            is_varied = maps is self.training and by_gradients and self.transform is not None
            if self.is_moving:
                maps.drop()
            elif not is_varied:
                maps.keep(in_file=by_gradients)

    @property
    def is_moving(self) -> bool:
        """Whether the stage moves the backbone."""
        return any(parameter.requires_grad for parameter in self.network.backbone.parameters())

    def varied(
        self, batches: list[NDArray[np.int64]], generator: torch.Generator
    ) -> Iterator[Tensor | None]:
        """Yield the images of an epoch's batches (N, C, H0, W0), or None for plain, frozen maps.

        Parameters
        ----------
        batches : list of int64 arrays of shape (N,)
            Positions in the training set.
        generator : torch.Generator
            Draws a seed for each image, if images vary.
        """
        if self.transform is None and not self.is_moving:
            yield from (None for _ in batches)
            return
        source, rows = self.images.source, self.images.members.rows
        changes = None
        if self.transform is not None:
            seeds = np.zeros(len(source), dtype=np.int64)
            seeds[rows] = torch.randint(LARGEST_SEED, (len(rows),), generator=generator).numpy()
            changes = Changes(self.transform, seeds)
        yield from source.batches([rows[batch] for batch in batches], changes)

    def maps_of(self, index: NDArray[np.int64]) -> Tensor:
        """Look at plain training images through the backbone, (N, F, H, W)."""
        device = self.network.prototypes.device
        if self.training.kept is not None:
            return self.training.kept.read(index).to(device)
        rows = self.images.members.rows[index]
        if self.is_moving:
            return self.through_backbone(self.images.source.batch(rows))
        # As they would have been kept: whether there is room must not show in the results.
        with torch.autocast(device.type, enabled=False):
            chunks = backbone_maps(self.network, self.images.source.chunks(rows))
            return torch.cat([maps[: len(part)] for part, maps in chunks])

    def through_backbone(self, images: Tensor) -> Tensor:
        """Compute the maps (N, F, H, W) of images, with gradients if the backbone moves."""
        maps: Tensor = self.network.backbone(images.to(self.network.prototypes.device))
        return maps
