"""The prototypical part network and its mathematics: torch only."""

from sklearn_protopnet._network import _functional as functional
from sklearn_protopnet._network._architecture import Architecture
from sklearn_protopnet._network._backbones import BACKBONES, LinearHead, build_backbone
from sklearn_protopnet._network._inference import (
    Inspection,
    inspect_images,
    inspect_patches,
    latent_patches,
)
from sklearn_protopnet._network._prototype_network import Evidence, PrototypeNetwork
from sklearn_protopnet._network._receptive_field import ReceptiveField
from sklearn_protopnet._network._runtime import (
    TINY_IMAGE,
    resolve_device,
    seeded_draws,
    thread_budget,
)

__all__ = [
    "BACKBONES",
    "TINY_IMAGE",
    "Architecture",
    "Evidence",
    "Inspection",
    "LinearHead",
    "PrototypeNetwork",
    "ReceptiveField",
    "build_backbone",
    "functional",
    "inspect_images",
    "inspect_patches",
    "latent_patches",
    "resolve_device",
    "seeded_draws",
    "thread_budget",
]
