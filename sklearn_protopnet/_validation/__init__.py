"""What users pass, checked: images, labels, weights, numbers and names."""

from sklearn_protopnet._validation._images import check_images, check_training_images
from sklearn_protopnet._validation._labels import (
    check_labels,
    check_two_classes,
    class_indices,
    effective_weights,
    split_validation,
)
from sklearn_protopnet._validation._parameters import check_names, check_positive
from sklearn_protopnet._validation._training_data import (
    all_or_nothing,
    canonical_members,
    check_given_together,
    check_validation_data,
    prepare_training,
)

__all__ = [
    "all_or_nothing",
    "canonical_members",
    "check_given_together",
    "check_images",
    "check_labels",
    "check_names",
    "check_positive",
    "check_training_images",
    "check_two_classes",
    "check_validation_data",
    "class_indices",
    "effective_weights",
    "prepare_training",
    "split_validation",
]
