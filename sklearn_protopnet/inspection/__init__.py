"""Explanations: evidence as tables, pictures of it, and a report.

`ProtoPNetClassifier.explain` and its siblings give the tables; the displays draw them.
"""

from sklearn_protopnet.inspection._analysis import activated_prototypes, explain, nearest_patches
from sklearn_protopnet.inspection._details import image_digest
from sklearn_protopnet.inspection._export import export_evidence, read_evidence
from sklearn_protopnet.inspection._last_layer_path import last_layer_path
from sklearn_protopnet.inspection._localization import Localization, localize, similarity_maps
from sklearn_protopnet.inspection._plot._explanation import ExplanationDisplay
from sklearn_protopnet.inspection._plot._last_layer_path import LastLayerPathDisplay
from sklearn_protopnet.inspection._plot._prototypes import PrototypeDisplay
from sklearn_protopnet.inspection._plot._similarity_maps import SimilarityMapDisplay
from sklearn_protopnet.inspection._report._writer import write_report

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
