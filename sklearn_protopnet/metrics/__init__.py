"""Scores of explanations, as functions of arrays and of scores that are to be explained.

Each says what it needs (no annotation, masks, part positions) and in which direction it is good.
"""

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
    purity,
    stability,
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
    "consistency",
    "coverage",
    "deletion_auc",
    "global_size",
    "insertion_auc",
    "local_size",
    "n_distinct_prototypes",
    "part_presence",
    "pointing_game",
    "purity",
    "random_baseline",
    "relevance_mass",
    "sparsity",
    "stability",
]
