"""The prototypical part network: image -> map -> distances -> similarities -> logits.

A backbone's map comes before everything else, so that one that does not move can be kept.

Shapes: N images, C channels, F channels of the backbone's map, D depth, P prototypes,
K classes, L patches of an image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sklearn_protopnet._network import _functional as functional
from sklearn_protopnet._network._similarity import Similarity


class PrototypeNetwork(nn.Module):
    """ProtoPNet (Chen et al. 2019, section 2.1): backbone, add-on layers, prototypes, head.

    Parameters
    ----------
    backbone : Module
        Maps (N, C, H0, W0) to (N, backbone_channels, H, W).
    backbone_channels : int
    prototype_classes : int64 Tensor of shape (P,)
        The class, as an index, that each prototype belongs to.
    n_classes : int
    prototype_depth : int
        D, the depth to which the add-on layers bring the features.
    prototype_size : (int, int)
        H1, W1.
    similarity : Similarity
    n_pooled_patches : int, default=1
        So many patches of an image, the nearest, stand for it.
    backbone_origin : str, default=None
        Names all that the structure of the backbone depends on; None where only itself can tell.
    """

    prototype_classes: Tensor
    head: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        backbone_channels: int,
        prototype_classes: Tensor,
        *,
        n_classes: int,
        prototype_depth: int,
        prototype_size: tuple[int, int],
        similarity: Similarity,
        n_pooled_patches: int = 1,
        backbone_origin: str | None = None,
    ) -> None:
        super().__init__()
        self.backbone_origin = backbone_origin
        self.backbone_channels = backbone_channels
        self.prototype_size = prototype_size
        self.n_pooled_patches = n_pooled_patches
        self.similarity = similarity.function
        self.comparable = (
            functional.to_unit_length if similarity.on_unit_vectors else functional.as_it_is
        )
        self.backbone = backbone
        self.add_on = nn.Sequential(
            nn.Conv2d(backbone_channels, prototype_depth, 1),
            nn.ReLU(),
            nn.Conv2d(prototype_depth, prototype_depth, 1),
            nn.Sigmoid(),
        )
        shape = (len(prototype_classes), prototype_depth, *prototype_size)
        self.prototypes = nn.Parameter(torch.rand(shape))
        self.register_buffer("prototype_classes", prototype_classes)
        # A buffer: no stage moves it by gradients; the last layer is solved for.
        self.register_buffer("head", initial_head(prototype_classes, n_classes))

    def feature_maps(self, images: Tensor) -> Tensor:
        """Give the maps of the backbone, (N, F, H, W).

        Raises
        ------
        ValueError
            If the backbone, a module of the user's, returns none for these images.
        """
        maps: Tensor = self.backbone(images)
        functional.check_maps(maps, images, self.backbone_channels)
        return maps

    def raw_patches(self, maps: Tensor) -> Tensor:
        """Latent patches of maps (N, F, H, W) as the projection copies them, (N, L, D1)."""
        return functional.extract_patches(self.add_on(maps), self.prototype_size)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Compare backbone maps with the prototypes, for a training step: in float32.

        Returns
        -------
        distances : Tensor of shape (N, P)
            Squared, to the nearest patch; differentiable.
        logits : Tensor of shape (N, K)
        """
        patches = self.raw_patches(maps)  # (N, L, D1)
        with torch.autocast(maps.device.type, enabled=False):
            vectors = self.comparable(patches.float())  # (N, L, D1)
            prototypes = self.comparable(self.prototypes.flatten(1))  # (P, D1)
            distances = functional.squared_distances(vectors, prototypes)  # (N, P, L)
            pooled = functional.pooled_distances(distances, self.n_pooled_patches)  # (N, P, k)
            similarities = self.similarity(pooled).mean(2)  # (N, P)
            return pooled[:, :, 0], similarities @ self.head.to(similarities.dtype).T

    @torch.no_grad()
    def compare(self, raw_patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compare patches with the prototypes, to report: exact, in float64.

        The similarity of an image is the mean of those of its k nearest patches; with k = 1, that
        of the nearest, it is the paper's.

        Parameters
        ----------
        raw_patches : Tensor of shape (N, L, D1)

        Returns
        -------
        distances, similarities : float64 Tensors of shape (N, P, k)
            Of the patches of each image that are nearest to each prototype, the nearest first.
        positions : int64 Tensor of shape (N, P, k)
            The numbers of those patches.
        """
        distances, positions = functional.nearest_patches(
            raw_patches, self.prototypes.flatten(1), self.comparable, self.n_pooled_patches
        )
        return distances, self.similarity(distances), positions

    def similarities_at(self, raw_patches: Tensor, prototypes: Tensor, positions: Tensor) -> Tensor:
        """Similarity of given patches to given prototypes, wherever the most similar one is.

        Parameters
        ----------
        raw_patches : Tensor of shape (N, L, D1)
        prototypes, positions : int64 Tensors of shape (Q,)
            Numbers of prototypes, and of the patches to compare them with.

        Returns
        -------
        float64 Tensor of shape (N, Q)
            Differentiable.
        """
        wanted = self.comparable(self.prototypes.flatten(1)[prototypes].double())  # (Q, D1)
        vectors = self.comparable(raw_patches[:, positions].double())  # (N, Q, D1)
        return self.similarity((vectors - wanted).square().sum(2))

    def similarity_maps(self, maps: Tensor) -> Tensor:
        """Similarity of every patch to every prototype.

        Parameters
        ----------
        maps : Tensor of shape (N, F, H, W)
            Maps of the backbone.

        Returns
        -------
        float64 Tensor of shape (N, P, H - H1 + 1, W - W1 + 1)
        """
        vectors = self.comparable(self.raw_patches(maps).double())  # (N, L, D1)
        prototypes = self.comparable(self.prototypes.flatten(1).double())
        distances = functional.squared_distances(vectors, prototypes)  # (N, P, L)
        grid = functional.patch_grid(maps.shape[2:], self.prototype_size)
        return self.similarity(distances.reshape(*distances.shape[:2], *grid))


def initial_head(prototype_classes: Tensor, n_classes: int) -> Tensor:
    """Build stage 1's head: 1 to a prototype's own class, -0.5 to others; float64 (K, P)."""
    classes = torch.arange(n_classes, device="cpu")
    own = classes[:, None] == prototype_classes.cpu()  # (K, P)
    return torch.where(own, 1.0, -0.5).double()
