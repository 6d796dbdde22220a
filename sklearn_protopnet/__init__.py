"""Interpretable image classification for scikit-learn with prototypical part networks."""

from sklearn_protopnet._classifier import ProtoPNetClassifier
from sklearn_protopnet._files import load
from sklearn_protopnet._network import build_backbone
from sklearn_protopnet._solve import solve_last_layer

__version__ = "0.1.0.dev0"

__all__ = ["ProtoPNetClassifier", "build_backbone", "load", "solve_last_layer"]
