"""Training: stages as data, the loop, the loss, the projection and the last layer."""

from sklearn_protopnet._training._cache_key import digest_bytes
from sklearn_protopnet._training._checkpoint import Checkpoint
from sklearn_protopnet._training._feature_cache import FeatureCache
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._judged_patches import Judgements
from sklearn_protopnet._training._last_layer import (
    LastLayerTask,
    Similarities,
    dataset_similarities,
)
from sklearn_protopnet._training._observer import Observers
from sklearn_protopnet._training._progress import ProgressBar, TrainingProgress
from sklearn_protopnet._training._projection import NO_SOURCE
from sklearn_protopnet._training._quantiles import N_QUANTILES, similarity_quantiles
from sklearn_protopnet._training._stages import (
    TRAINED_BACKBONE_RATE,
    Settings,
    usual_pretraining,
)
from sklearn_protopnet._training._start import Start
from sklearn_protopnet._training._task import (
    PrototypeSources,
    TrainedNetwork,
    prototype_sources,
    sources_in,
    train_network,
)
from sklearn_protopnet._training._training_task import TrainingTask

__all__ = [
    "NO_SOURCE",
    "N_QUANTILES",
    "TRAINED_BACKBONE_RATE",
    "Checkpoint",
    "FeatureCache",
    "HistoryRow",
    "Judgements",
    "LastLayerTask",
    "Observers",
    "ProgressBar",
    "PrototypeSources",
    "Settings",
    "Similarities",
    "Start",
    "TrainedNetwork",
    "TrainingProgress",
    "TrainingTask",
    "dataset_similarities",
    "digest_bytes",
    "prototype_sources",
    "similarity_quantiles",
    "sources_in",
    "train_network",
    "usual_pretraining",
]
