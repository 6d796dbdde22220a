"""A network as plain values, and how to build it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_protopnet._images import describe
from sklearn_protopnet._network._backbones import BACKBONES, build_backbone
from sklearn_protopnet._network._functional import check_maps, patch_grid
from sklearn_protopnet._network._prototype_network import PrototypeNetwork, initial_head
from sklearn_protopnet._network._receptive_field import ReceptiveField, trace_receptive_field
from sklearn_protopnet._network._runtime import TINY_IMAGE, seeded_construction
from sklearn_protopnet._network._similarity import SIMILARITIES
from sklearn_protopnet._network._weights import Backbone, weights_digest

CONTRAST: Final = 0.1
"""In units of the training images' standard deviation."""
RELATIVE: Final = 1e-3
"""Maps that differ by no more than that, in units of their channel's largest value, are alike."""


@dataclass(frozen=True)
class Architecture:
    """What determines a network's shape."""

    backbone: str | nn.Module
    image_shape: tuple[int, int, int]
    """(H, W, C)"""
    n_classes: int
    prototype_classes: tuple[int, ...]
    """(P,) class index of each prototype."""
    prototype_depth: int
    prototype_size: tuple[int, int]
    similarity: str
    n_pooled_patches: int = 1
    """Fewer where an image has fewer patches."""
    feature_stride: int | None = None
    weights: str | None = None
    """What the backbone starts from."""

    def plain_values(self) -> dict[str, Any]:
        """Give what a fit keeps of it beside its arrays; a module is kept by itself."""
        named = {} if isinstance(self.backbone, nn.Module) else {"backbone": self.backbone}
        names = ("feature_stride", "n_pooled_patches", "similarity")
        return {**named, **{name: getattr(self, name) for name in names}}

    @property
    def record(self) -> Backbone | None:
        """Everything known of a backbone that has a name; None of a module."""
        return None if isinstance(self.backbone, nn.Module) else BACKBONES[self.backbone]

    def weights_key(self) -> str | None:
        """Digest the weights that the backbone starts from, for the key of a cache."""
        return weights_digest(self.weights)

    def backbone_origin(self) -> str | None:
        """Name all that the backbone's structure depends on; None for a module of the user's."""
        if isinstance(self.backbone, nn.Module):
            return None
        return f"{self.backbone} {self.feature_stride} {list(self.image_shape)}"

    @property
    def is_small(self) -> bool:
        """Whether the backbone is the small one that is fit for the image size."""
        return self.record is not None and self.record.is_small

    @property
    def is_tiny(self) -> bool:
        """Whether one thread is faster than several."""
        height, width, _ = self.image_shape
        return self.is_small and height * width <= TINY_IMAGE

    def build(self, seed: int = 0) -> tuple[PrototypeNetwork, ReceptiveField]:
        """Build the network as it starts, and read off its receptive field.

        Parameters
        ----------
        seed : int
            Of random weights and prototypes.

        Raises
        ------
        ImportError, OSError
            If the weights cannot be had.
        ValueError
            If the weights do not fit, the backbone does not accept the images or maps one by what
            the others are, or its feature map is smaller than a prototype.
        """
        with seeded_construction(seed):
            backbone = self._backbone(self.weights)
            field = self._trace(backbone.eval())
            self._check_prototype_size(field)
            network = self._around(backbone, field)
        # Channels last in memory, as images come: a forward pass of ResNet-18 on 64 x 64 pixels
        # took 221 ms and not 283.
        return network.to(memory_format=torch.channels_last), field

    def restore(
        self,
        field: ReceptiveField,
        arrays: Mapping[str, NDArray[Any]],
    ) -> PrototypeNetwork:
        """Build the network of a fit from its arrays, in ``eval()``, without a random draw.

        Parameters
        ----------
        field : ReceptiveField
        arrays : mapping of str to array
            Prototypes, parameters and statistics by name; those of a backbone that is a module are
            its own.
        """
        is_module = isinstance(self.backbone, nn.Module)
        # Without memory and without the generator: threads that predict need not wait for one
        # that trains.
        with torch.device("meta"):
            backbone = nn.Identity() if is_module else self._backbone(None)
            network = self._around(backbone, field)
        network = network.float().to_empty(device="cpu")
        # Copies: arrays of a file that is mapped into memory cannot be written to.
        state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        state["prototype_classes"] = torch.tensor(self.prototype_classes)
        state["head"] = initial_head(state["prototype_classes"], self.n_classes)
        network.load_state_dict(state)
        if is_module:
            network.backbone = self._backbone(None)
        return network.to(memory_format=torch.channels_last).eval()

    def _backbone(self, weights: str | None) -> nn.Module:
        height, width, channels = self.image_shape
        return build_backbone(
            self.backbone,
            channels=channels,
            image_size=(height, width),
            weights=weights,
            feature_stride=self.feature_stride,
        )

    def _around(self, backbone: nn.Module, field: ReceptiveField) -> PrototypeNetwork:
        rows, columns = patch_grid(field.map_size, self.prototype_size)
        return PrototypeNetwork(
            backbone,
            field.depth,
            torch.tensor(self.prototype_classes, device="cpu"),
            n_classes=self.n_classes,
            prototype_depth=self.prototype_depth,
            prototype_size=self.prototype_size,
            similarity=SIMILARITIES[self.similarity],
            n_pooled_patches=min(self.n_pooled_patches, rows * columns),
            backbone_origin=self.backbone_origin(),
        )

    def _trace(self, backbone: nn.Module) -> ReceptiveField:
        height, width, channels = self.image_shape
        try:
            field = trace_receptive_field(backbone, channels, (height, width))
            is_known = self.record is not None
            keeps_apart = is_known or _keeps_apart(backbone, channels, (height, width))
        except Exception as error:  # a module of the user's may fail in any way
            raise ValueError(
                f"The backbone must accept images of {describe(self.image_shape)}, got an error "
                f"from {self._name}: {error}"
            ) from error
        if not keeps_apart:
            raise ValueError(
                "The backbone must give an image the same maps in any call, got others from "
                f"{self._name} for an image alone than beside another one, in eval(). "
                "Normalisation needs statistics of its own (track_running_stats), and dropout "
                "must heed the module's mode (training=self.training)."
            )
        return field

    def _check_prototype_size(self, field: ReceptiveField) -> None:
        size, map_size = self.prototype_size, field.map_size
        if size[0] > map_size[0] or size[1] > map_size[1]:
            height, width, _ = self.image_shape
            raise ValueError(
                f"prototype_size must fit into the feature map, which is {map_size[0]} x "
                f"{map_size[1]} for images of {height} x {width} pixels and backbone "
                f"{self._name}, got {size}."
            )

    @property
    def _name(self) -> str:
        return (
            repr(self.backbone) if isinstance(self.backbone, str) else type(self.backbone).__name__
        )


@torch.no_grad()
def _keeps_apart(backbone: nn.Module, channels: int, image_size: tuple[int, int]) -> bool:
    """Tell whether an image has the same maps alone and beside another one.

    The images are nearly blank, since a module may not bear any other that is no photograph.
    """
    generator = torch.Generator(device="cpu").manual_seed(0)
    images = torch.rand(2, channels, *image_size, generator=generator, device="cpu")
    images = CONTRAST * (2 * images - 1)
    together = backbone(images.clone())
    alone = [backbone(image[None].clone()) for image in images]
    for image, maps in zip(images, alone, strict=True):
        check_maps(maps, image[None])
    differences = (torch.cat(alone) - together).abs()
    scale = together.nan_to_num(0, 0, 0).abs().amax((0, 2, 3), keepdim=True)
    return not (differences > RELATIVE * scale).any()
