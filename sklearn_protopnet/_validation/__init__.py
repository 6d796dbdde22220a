"""What users pass, checked: images, labels, weights, numbers and names."""

from sklearn_protopnet._validation._images import check_images, check_training_images
from sklearn_protopnet._validation._labels import (
    check_labels,
    check_two_classes,
    class_indices,
    effective_weights,
    native_order,
    scaled_weights,
)
from sklearn_protopnet._validation._parameters import check_names, check_positive, check_text
from sklearn_protopnet._validation._training_data import (
    TrainingData,
    check_given_together,
    prepare_training,
    weighted_dataset,
)

__all__ = [
    "TrainingData",
    "check_given_together",
    "check_images",
    "check_labels",
    "check_names",
    "check_positive",
    "check_text",
    "check_training_images",
    "check_two_classes",
    "class_indices",
    "effective_weights",
    "native_order",
    "prepare_training",
    "scaled_weights",
    "weighted_dataset",
]
