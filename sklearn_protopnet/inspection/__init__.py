"""Explanations: evidence as tables, pictures of it, and a report.

`ProtoPNetClassifier.explain` and its siblings give the tables; the displays draw them.
"""

from sklearn_protopnet.inspection._analysis import activated_prototypes, explain, nearest_patches
from sklearn_protopnet.inspection._details import image_digest
from sklearn_protopnet.inspection._explanation_display import ExplanationDisplay
from sklearn_protopnet.inspection._export import export_evidence, read_evidence
from sklearn_protopnet.inspection._last_layer_path import last_layer_path
from sklearn_protopnet.inspection._last_layer_path_display import LastLayerPathDisplay
from sklearn_protopnet.inspection._localization import Localization, localize, similarity_maps
from sklearn_protopnet.inspection._prototype_display import PrototypeDisplay
from sklearn_protopnet.inspection._report import write_report
from sklearn_protopnet.inspection._similarity_map_display import SimilarityMapDisplay

__all__ = [
    "ExplanationDisplay",
    "LastLayerPathDisplay",
    "Localization",
    "PrototypeDisplay",
    "SimilarityMapDisplay",
    "activated_prototypes",
    "explain",
    "export_evidence",
    "image_digest",
    "last_layer_path",
    "localize",
    "nearest_patches",
    "read_evidence",
    "similarity_maps",
    "write_report",
]
