"""Training: stages as data, the loop, the objective, the projection and the last layer."""

from sklearn_protopnet._training._cache_key import digest_bytes
from sklearn_protopnet._training._canonical import TrainingSet, canonical_training_set
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._labelled_images import LabelledImages
from sklearn_protopnet._training._last_layer import LastLayerTask, SeenImages, see
from sklearn_protopnet._training._maps import frozen_maps
from sklearn_protopnet._training._progress import ProgressBar
from sklearn_protopnet._training._projection import UNPROJECTED
from sklearn_protopnet._training._quantiles import similarity_quantiles
from sklearn_protopnet._training._stages import Settings, usual_pretraining
from sklearn_protopnet._training._task import (
    TrainedNetwork,
    TrainingTask,
    prototype_sources,
    train_network,
)

__all__ = [
    "UNPROJECTED",
    "HistoryRow",
    "LabelledImages",
    "LastLayerTask",
    "ProgressBar",
    "SeenImages",
    "Settings",
    "TrainedNetwork",
    "TrainingSet",
    "TrainingTask",
    "canonical_training_set",
    "digest_bytes",
    "frozen_maps",
    "prototype_sources",
    "see",
    "similarity_quantiles",
    "train_network",
    "usual_pretraining",
]
