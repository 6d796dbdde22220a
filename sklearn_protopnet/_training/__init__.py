"""Training: stages as data, the loop, the objective, the projection and the last layer."""

from sklearn_protopnet._training._canonical import TrainingSet, canonical_training_set
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._labelled_images import LabelledImages
from sklearn_protopnet._training._progress import ProgressBar
from sklearn_protopnet._training._projection import UNPROJECTED
from sklearn_protopnet._training._stages import Settings
from sklearn_protopnet._training._trainer import Trainer, Training

__all__ = [
    "UNPROJECTED",
    "HistoryRow",
    "LabelledImages",
    "ProgressBar",
    "Settings",
    "Trainer",
    "Training",
    "TrainingSet",
    "canonical_training_set",
]
