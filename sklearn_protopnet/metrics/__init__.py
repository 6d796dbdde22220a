"""Scores of explanations: functions of arrays, scorers, and a report of all of them.

Each says where it comes from, what it needs (no annotation, masks, part positions) and which
direction is better.
"""

from sklearn_protopnet.metrics._baseline_boxes import centre_boxes, random_boxes
from sklearn_protopnet.metrics._faithfulness import (
    box_necessity,
    box_sufficiency,
    deletion_auc,
    insertion_auc,
)
from sklearn_protopnet.metrics._interventions import causal_parts
from sklearn_protopnet.metrics._masks import (
    centre_baseline,
    pointing_game,
    random_baseline,
    relevance_mass,
)
from sklearn_protopnet.metrics._parts import (
    consistency,
    coverage,
    part_presence,
    part_rates,
    purity,
    stability,
)
from sklearn_protopnet.metrics._report._prototype_report import prototype_report
from sklearn_protopnet.metrics._robustness import location_change, spatial_misalignment
from sklearn_protopnet.metrics._scorers import (
    distinct_prototypes_scorer,
    neg_global_size_scorer,
    neg_local_size_scorer,
    sparsity_scorer,
)
from sklearn_protopnet.metrics._size import (
    global_size,
    local_size,
    n_distinct_prototypes,
    sparsity,
)

__all__ = [
    "box_necessity",
    "box_sufficiency",
    "causal_parts",
    "centre_baseline",
    "centre_boxes",
    "consistency",
    "coverage",
    "deletion_auc",
    "distinct_prototypes_scorer",
    "global_size",
    "insertion_auc",
    "local_size",
    "location_change",
    "n_distinct_prototypes",
    "neg_global_size_scorer",
    "neg_local_size_scorer",
    "part_presence",
    "part_rates",
    "pointing_game",
    "prototype_report",
    "purity",
    "random_baseline",
    "random_boxes",
    "relevance_mass",
    "sparsity",
    "sparsity_scorer",
    "spatial_misalignment",
    "stability",
]
