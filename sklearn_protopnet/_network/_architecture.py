"""A network as plain values, and how to build it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sklearn_protopnet._network._backbones import build_backbone
from sklearn_protopnet._network._prototype_network import PrototypeNetwork
from sklearn_protopnet._network._receptive_field import ReceptiveField, trace_receptive_field
from sklearn_protopnet._network._runtime import seeded_construction
from sklearn_protopnet._network._weights import weights_key


@dataclass(frozen=True)
class Architecture:
    """What determines a network's shape."""

    backbone: str | nn.Module
    image_shape: tuple[int, int, int]
    """(H, W, C)"""
    n_classes: int
    n_prototypes_per_class: int
    prototype_depth: int
    prototype_size: tuple[int, int]
    similarity: str
    feature_stride: int | None = None
    weights: str | None = None
    """What the backbone starts from."""

    def plain_values(self) -> dict[str, Any]:
        """Give the fields that rebuild a trained network; its module is the user's."""
        values = {name: value for name, value in vars(self).items() if name != "weights"}
        if isinstance(self.backbone, nn.Module):
            del values["backbone"]
        return values

    def weights_key(self) -> str | None:
        """Digest the weights that the backbone starts from, for the key of a cache."""
        return weights_key(str(self.backbone), self.weights)

    def backbone_origin(self) -> str | None:
        """Name all that the backbone's structure depends on; None for a module of the user's."""
        if isinstance(self.backbone, nn.Module):
            return None
        return f"{self.backbone} {self.feature_stride} {list(self.image_shape)}"

    def build(
        self, seed: int = 0, field: ReceptiveField | None = None
    ) -> tuple[PrototypeNetwork, ReceptiveField]:
        """Build the network as it starts, and read off its receptive field.

        Parameters
        ----------
        seed : int
            Of random weights and prototypes.
        field : ReceptiveField or None
            The receptive field, where it is known.

        Raises
        ------
        ImportError, OSError
            If the weights cannot be had.
        ValueError
            If the weights do not fit, the backbone does not accept the images, or its feature
            map is smaller than a prototype.
        """
        height, width, channels = self.image_shape
        classes = torch.arange(self.n_classes).repeat_interleave(self.n_prototypes_per_class)
        with seeded_construction(seed):
            backbone = build_backbone(
                self.backbone,
                channels=channels,
                image_size=(height, width),
                weights=self.weights,
                feature_stride=self.feature_stride,
            )
            field = field or self._trace(backbone.eval())
            self._check_prototype_size(field)
            network = PrototypeNetwork(
                backbone,
                field.depth,
                classes,
                n_classes=self.n_classes,
                prototype_depth=self.prototype_depth,
                prototype_size=self.prototype_size,
                similarity=self.similarity,
                backbone_origin=self.backbone_origin(),
            )
        # Channels last in memory, as images come: a forward pass of ResNet-18 on 64 x 64 pixels
        # took 221 ms and not 283.
        return network.to(memory_format=torch.channels_last), field

    def _trace(self, backbone: nn.Module) -> ReceptiveField:
        height, width, channels = self.image_shape
        try:
            return trace_receptive_field(backbone, channels, (height, width))
        except Exception as error:  # a module of the user's may fail in any way
            raise ValueError(
                f"The backbone must accept images of {height} x {width} pixels and {channels} "
                f"channels, got an error from {self._name}: {error}"
            ) from error

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
