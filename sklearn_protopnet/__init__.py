"""Interpretable image classification for scikit-learn with prototypical part networks."""

from sklearn_protopnet._classifier import ProtoPNetClassifier
from sklearn_protopnet._ensemble import ProtoPNetEnsemble, load
from sklearn_protopnet._last_layer._function import solve_last_layer
from sklearn_protopnet._network import build_backbone

__version__ = "0.1.0.dev0"

__all__ = [
    "ProtoPNetClassifier",
    "ProtoPNetEnsemble",
    "build_backbone",
    "load",
    "solve_last_layer",
]
