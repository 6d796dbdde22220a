"""Interpretable image classification for scikit-learn with prototypical part networks."""

from sklearn_protopnet._classifier import ProtoPNetClassifier
from sklearn_protopnet._files import load

__version__ = "0.1.0.dev0"

__all__ = ["ProtoPNetClassifier", "load"]
