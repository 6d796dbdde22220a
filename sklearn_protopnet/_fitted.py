"""The network of a fit: evidence, similarity maps and receptive-field boxes of images.

All of it is built from fitted attributes alone, and by one function. Everything that explains or
scores a fitted classifier goes through here.

Shapes: n images, P prototypes, K classes, L patches of an image on an h x w map.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from joblib import Memory
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, check_memory
from torch import nn

from sklearn_protopnet._images import ArrayImages, Images, ImageSource, Standardization
from sklearn_protopnet._last_layer import Constraints
from sklearn_protopnet._located_boxes import RECEPTIVE_FIELD, LocatedBoxes
from sklearn_protopnet._network import (
    Architecture,
    Chunk,
    Evidence,
    PrototypeNetwork,
    ReceptiveField,
    backbone_maps,
    chunks_of_evidence,
    copied,
    latent_patches,
    resolve_device,
    working_conditions,
)
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet._training import NO_SOURCE, FeatureCache
from sklearn_protopnet._validation import class_indices


class FittedClassifier(Protocol):
    """What the rest of the package knows of a fitted `ProtoPNetClassifier`."""

    class_weight: Any
    device: str
    memory: Any
    classes_: NDArray[Any]
    coef_: NDArray[np.float64]
    image_shape_: tuple[int, int, int]
    input_shape_: tuple[int, int, int]
    l1_weight_: float
    l2_weight_: float
    last_layer_gap_: float
    prototype_boxes_: NDArray[np.int64]
    prototype_classes_: NDArray[Any]
    prototype_distances_: NDArray[np.float64]
    prototype_image_sizes_: NDArray[np.int64]
    prototype_images_: NDArray[Any]
    prototype_names_: NDArray[np.str_]
    prototype_sample_indices_: NDArray[np.int64]
    prototypes_: NDArray[np.float32]
    similarity_quantiles_: NDArray[np.float64]
    edits_: list[dict[str, Any]]
    state_: dict[str, Any]

    def explain(self, X: Any) -> pd.DataFrame:
        """Say why."""

    def get_feature_names_out(self) -> NDArray[Any]:
        """Name the prototypes."""

    def prototype_table(self, *, localizer: str = RECEPTIVE_FIELD) -> pd.DataFrame:
        """Say what the prototypes are."""

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute similarities."""


class FittedEnsemble(Protocol):
    """What the rest of the package knows of a fitted `ProtoPNetEnsemble`."""

    classes_: NDArray[Any]
    named_estimators_: Mapping[str, Any]


@dataclass(frozen=True)
class FittedNetwork:
    """A network as a fit has left it."""

    network: PrototypeNetwork
    """In ``eval()`` mode, on its device; its own last layer is not the fit's."""
    architecture: Architecture
    field: ReceptiveField
    standardization: Standardization
    classes: NDArray[Any]
    """(K,) labels."""
    prototypes: PrototypeRecord
    memory: Memory
    """Feature maps of a backbone that never moved are cached here, if anywhere."""

    def source(self, images: Images) -> ImageSource:
        """Standardise images as those of the fit."""
        return ImageSource(images, self.standardization)

    def prototype_source(self, prototypes: NDArray[np.int64]) -> ImageSource:
        """Give the images that prototypes (Q,) come from."""
        record = self.prototypes
        return self.source(ArrayImages(record.images[prototypes], record.sizes[prototypes]))

    def evidence(self, source: ImageSource) -> Evidence:
        """Compare images with all prototypes."""
        return Evidence(*self.gather(source, *(field.name for field in fields(Evidence))))

    def logits(self, source: ImageSource) -> NDArray[np.float64]:
        """Compute the logits of images, (n, K), and keep nothing else."""
        return self.gather(source, "logits")[0]

    def similarities(self, source: ImageSource) -> NDArray[np.float64]:
        """Compute the similarities of images to all prototypes, (n, P), and keep nothing else."""
        return self.gather(source, "similarities")[0]

    def gather(self, source: ImageSource, *names: str) -> list[NDArray[Any]]:
        """Collect these attributes of the evidence for images, and keep nothing else."""
        chunks = chunks_of_evidence(
            self.network, self.maps(source, source.rows), self.prototypes.coef
        )
        with working_conditions(tiny=self.architecture.is_tiny):
            return _gathered(
                len(source),
                ((index, [getattr(part, name) for name in names]) for index, part in chunks),
            )

    def source_patches(
        self, prototypes: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Give the images (q, H, W, C) that prototypes come from, and which patches they are."""
        record = self.prototypes
        positions = np.full(len(prototypes), NO_SOURCE)
        has_source = record.has_source[prototypes]
        if has_source.any():
            own = prototypes[has_source]
            (found,) = self.gather(self.prototype_source(own), "positions")
            positions[has_source] = found[np.arange(len(own)), own]
        return record.images[prototypes], positions

    def patches(self, source: ImageSource) -> NDArray[np.float32]:
        """Latent patches of images as the projection copies them, (n, L, D1)."""
        with working_conditions(tiny=self.architecture.is_tiny):
            chunks = latent_patches(self.network, self.maps(source, source.rows))
            (found,) = _gathered(
                len(source), ((index, [each.cpu().numpy()]) for index, each in chunks)
            )
        return found

    def comparing(self, vectors: NDArray[np.float32]) -> FittedNetwork:
        """Give one that compares images with other patches (Q, D1), and has no last layer.

        Its evidence is of use, and nothing that is known of prototypes.
        """
        network, own = copied(self.network), self.network.prototypes
        others = torch.from_numpy(vectors).to(own.device).view(-1, *own.shape[1:])
        network.prototypes = nn.Parameter(others, requires_grad=False)
        none = np.zeros((len(self.classes), len(vectors)))
        return replace(self, network=network, prototypes=replace(self.prototypes, coef=none))

    def similarity_maps(self, source: ImageSource) -> NDArray[np.float64]:
        """Compare every patch of images with every prototype, (n, P, h, w)."""
        device = self.network.prototypes.device
        with working_conditions(tiny=self.architecture.is_tiny), torch.no_grad():
            (found,) = _gathered(
                len(source),
                (
                    (
                        index,
                        [self.network.similarity_maps(maps.to(device))[: len(index)].cpu().numpy()],
                    )
                    for index, maps in self.maps(source, source.rows)
                ),
            )
        return found

    def maps(self, source: ImageSource, rows: NDArray[np.int64]) -> Iterator[Chunk]:
        """Compute the backbone's maps of images; of one that never moved, they are cached."""
        if self.memory.location is None or not source.are_as_given:
            return backbone_maps(self.network, source.chunks(rows))
        return FeatureCache(self.network, source, rows, self.memory).chunks()

    def receptive_fields(self, source: ImageSource, positions: NDArray[np.int64]) -> LocatedBoxes:
        """Find the pixels that patches depend on.

        Parameters
        ----------
        source : ImageSource
            Of n images.
        positions : int64 array of shape (n, ...)
            Numbers of patches.
        """
        boxes = source.original_boxes(self.input_boxes(positions))
        return LocatedBoxes.of_receptive_fields(boxes, source.sizes)

    def input_boxes(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Receptive fields of patches in pixels of the network, (..., 4)."""
        return self.field.boxes(positions, self.network.prototype_size)


def added(logits: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Add the logits (n, K) of networks, in their order; an ensemble decides by the sum."""
    return reduce(np.add, logits)


def fitted_network(classifier: FittedClassifier) -> FittedNetwork:
    """Build the network of a fitted classifier from its fitted attributes.

    All attributes are taken at one moment: a refit in another thread changes nothing here.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    """
    check_is_fitted(classifier)
    attributes = vars(classifier).copy()
    state = attributes["state_"]
    architecture = _architecture_of(attributes)
    field = ReceptiveField(**state["receptive_field"])
    memory = attributes["memory"] if state["is_backbone_frozen"] else None
    return FittedNetwork(
        network=_restored(classifier, attributes, architecture, field),
        architecture=architecture,
        field=field,
        standardization=Standardization(**state["standardization"]),
        classes=attributes["classes_"],
        prototypes=PrototypeRecord(
            classes=attributes["prototype_classes_"],
            coef=attributes["coef_"],
            vectors=attributes["prototypes_"].reshape(len(attributes["prototypes_"]), -1),
            samples=attributes["prototype_sample_indices_"],
            boxes=attributes["prototype_boxes_"],
            distances=attributes["prototype_distances_"],
            images=attributes["prototype_images_"],
            sizes=attributes["prototype_image_sizes_"],
            quantiles=attributes["similarity_quantiles_"],
            names=attributes["prototype_names_"],
            constraints=Constraints(**state["constraints"]).of_each(len(attributes["prototypes_"])),
        ),
        memory=check_memory(memory),
    )


def _architecture_of(attributes: Mapping[str, Any]) -> Architecture:
    """Read the architecture off a fit; a backbone that is a module is the trained copy of it."""
    prototypes, classes = attributes["prototypes_"], attributes["classes_"]
    owners = class_indices(attributes["prototype_classes_"], classes)
    height, width = prototypes.shape[2:]
    return Architecture(
        **{"backbone": attributes.get("backbone_"), **attributes["state_"]["architecture"]},
        image_shape=attributes["input_shape_"],
        n_classes=len(classes),
        prototype_classes=tuple(owners.tolist()),
        prototype_depth=prototypes.shape[1],
        prototype_size=(height, width),
    )


class _Restored(NamedTuple):
    """A network, and what it was restored from."""

    layers: dict[str, NDArray[Any]]
    prototypes: NDArray[np.float32]
    device: torch.device
    network: PrototypeNetwork


_RESTORED: Final[weakref.WeakKeyDictionary[Any, _Restored]] = weakref.WeakKeyDictionary()
"""Networks of classifiers are kept as long as these, and go neither into copies nor into files."""


def _restored(
    classifier: FittedClassifier,
    attributes: Mapping[str, Any],
    architecture: Architecture,
    field: ReceptiveField,
) -> PrototypeNetwork:
    """Restore the torch network, unless it is there."""
    layers, prototypes = attributes["state_"]["network"], attributes["prototypes_"]
    device = resolve_device(attributes["device"])
    kept = _RESTORED.get(classifier)
    if kept and kept.layers is layers and kept.prototypes is prototypes and kept.device == device:
        return kept.network
    with working_conditions(tiny=False):
        network = architecture.restore(field, {**layers, "prototypes": prototypes}).to(device)
    # Threads that come at once may each restore one; any of them serves.
    _RESTORED[classifier] = _Restored(layers, prototypes, device, network)
    return network


def share_network(classifier: FittedClassifier, other: FittedClassifier) -> None:
    """Let another classifier have the torch network too, as long as its arrays are the same."""
    kept = _RESTORED.get(classifier)
    if kept is not None:
        _RESTORED[other] = kept


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
