"""Explanations: evidence as tables, and pictures of it.

`ProtoPNetClassifier.explain` and its siblings give the tables; the displays draw them.
"""

from sklearn_protopnet.inspection._explanation_display import ExplanationDisplay
from sklearn_protopnet.inspection._last_layer_path import last_layer_path
from sklearn_protopnet.inspection._last_layer_path_display import LastLayerPathDisplay
from sklearn_protopnet.inspection._prototype_display import PrototypeDisplay

__all__ = ["ExplanationDisplay", "LastLayerPathDisplay", "PrototypeDisplay", "last_layer_path"]
