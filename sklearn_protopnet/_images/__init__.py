"""What users pass as X, as one source of batches."""

from sklearn_protopnet._images._augmentation import AUGMENTATIONS, Changes, Transform, transform_by
from sklearn_protopnet._images._dataset import Dataset, canonical_dataset, unstandardized
from sklearn_protopnet._images._forms import INPUT_FORMS, InputForm, accepted_forms, read_input
from sklearn_protopnet._images._lists import Expected
from sklearn_protopnet._images._numbers import as_numbers
from sklearn_protopnet._images._prefetch import read_ahead
from sklearn_protopnet._images._resizing import enlarged, resize_all
from sklearn_protopnet._images._shapes import (
    ImageShape,
    check_shape,
    check_size,
    describe,
    is_ambiguous,
    shape_of_rows,
)
from sklearn_protopnet._images._source import ImageSource, Standardization, fill_up
from sklearn_protopnet._images._store import ArrayImages, FileImages, Images

__all__ = [
    "AUGMENTATIONS",
    "INPUT_FORMS",
    "ArrayImages",
    "Changes",
    "Dataset",
    "Expected",
    "FileImages",
    "ImageShape",
    "ImageSource",
    "Images",
    "InputForm",
    "Standardization",
    "Transform",
    "accepted_forms",
    "as_numbers",
    "canonical_dataset",
    "check_shape",
    "check_size",
    "describe",
    "enlarged",
    "fill_up",
    "is_ambiguous",
    "read_ahead",
    "read_input",
    "resize_all",
    "shape_of_rows",
    "transform_by",
    "unstandardized",
]
