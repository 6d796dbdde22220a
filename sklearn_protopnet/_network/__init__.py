"""The prototypical part network and its mathematics: torch only."""

from sklearn_protopnet._network import _functional as functional
from sklearn_protopnet._network._architecture import Architecture
from sklearn_protopnet._network._backbones import (
    BACKBONES,
    build_backbone,
    published_standardization,
)
from sklearn_protopnet._network._devices import claimed_device, resolve_device
from sklearn_protopnet._network._evidence import (
    Chunk,
    Evidence,
    backbone_maps,
    chunks_of_evidence,
    evidence_of,
    latent_patches,
)
from sklearn_protopnet._network._few_cells import FewCellProducts
from sklearn_protopnet._network._linear_head import LinearHead
from sklearn_protopnet._network._prototype_network import PrototypeNetwork
from sklearn_protopnet._network._receptive_field import ReceptiveField
from sklearn_protopnet._network._runtime import (
    PRECISIONS,
    copied,
    resolve_precision,
    seeded_draws,
    working_conditions,
)
from sklearn_protopnet._network._similarity import SIMILARITIES, Similarity
from sklearn_protopnet._network._weights import Backbone

__all__ = [
    "BACKBONES",
    "PRECISIONS",
    "SIMILARITIES",
    "Architecture",
    "Backbone",
    "Chunk",
    "Evidence",
    "FewCellProducts",
    "LinearHead",
    "PrototypeNetwork",
    "ReceptiveField",
    "Similarity",
    "backbone_maps",
    "build_backbone",
    "chunks_of_evidence",
    "claimed_device",
    "copied",
    "evidence_of",
    "functional",
    "latent_patches",
    "published_standardization",
    "resolve_device",
    "resolve_precision",
    "seeded_draws",
    "working_conditions",
]
