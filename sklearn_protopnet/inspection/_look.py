"""A close look at one image: what makes its patches similar to prototypes.

Shapes: Q prototypes that are asked for, M variants of the image of H x W pixels and C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._network import PrototypeNetwork
from sklearn_protopnet.inspection._attribution import (
    LARGEST_PASS,
    METHODS,
    Queries,
    blurred,
    patch_similarities,
)
from sklearn_protopnet.inspection._box_effects import attack_effects, box_effects
from sklearn_protopnet.inspection._boxes import BOX_RULES


@dataclass(frozen=True)
class Located:
    """Where the parts of one image are that prototypes are compared with."""

    maps: NDArray[np.float32]
    """(Q, H, W) in pixels of the network."""
    boxes: NDArray[np.int64]
    """(Q, 4) in pixels of the network, or of the image as it was given."""
    kinds: NDArray[Any]
    """(Q,) what the boxes are."""
    deltas: NDArray[np.float64]
    """(Q,) by how much a map misses the sum that it should have; NaN where there is no such."""
    effects: NDArray[np.float64]
    """(Q, 2) similarity without what is outside of the box, and without what is inside; NaN where
    nobody asked."""


FOUND: Final = "found"
"""Kind of a box that a localizer has found, before it gets a name."""


@dataclass(frozen=True)
class Look:
    """One image and what is asked about it, in pixels of the network."""

    network: PrototypeNetwork
    image: torch.Tensor
    """(1, C, H, W)"""
    queries: Queries

    def located(self, localizer: str, *, with_effects: bool = False) -> Located:
        """Find maps and boxes."""
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
            effects = self.effects(boxes)
        return Located(maps, boxes, kinds, deltas, effects)

    def effects(self, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Similarities without what is outside of boxes (Q, 4), and what is inside; (Q, 2)."""
        return self._of_boxes(box_effects, boxes)

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
        return _pixels(self.image)

    @property
    def baseline(self) -> NDArray[np.float32]:
        """What takes the place of pixels that go, (H, W, C)."""
        return _pixels(blurred(self.image))

    @torch.no_grad()
    def similarities(self, variants: NDArray[np.float32]) -> NDArray[np.float64]:
        """Similarities of the same patches in variants (M, H, W, C) of the image; (M, Q)."""
        images = torch.from_numpy(variants).permute(0, 3, 1, 2).to(self.image.device)
        parts = [
            patch_similarities(self.network, some, self.queries).cpu()
            for some in images.split(max(1, LARGEST_PASS // self.image[0, 0].numel()))
        ]
        return torch.cat(parts).numpy()


def _pixels(image: torch.Tensor) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = image[0].permute(1, 2, 0).cpu().numpy()
    return pixels
