"""What users pass as X, as one source of batches."""

from sklearn_protopnet._images._augmentation import AUGMENTATIONS, Changes, Transform, transform_by
from sklearn_protopnet._images._dataset import Dataset, canonical_dataset, unstandardized
from sklearn_protopnet._images._decoding import read_header
from sklearn_protopnet._images._inputs import (
    ImageShape,
    as_array,
    check_shape,
    check_size,
    describe,
    find_images,
    find_paths,
    resize_all,
    shape_of_rows,
)
from sklearn_protopnet._images._loader import ImageSource, Standardization, fill_up
from sklearn_protopnet._images._prefetch import read_ahead
from sklearn_protopnet._images._resizing import enlarged
from sklearn_protopnet._images._store import ArrayImages, FileImages, Images, naming_row

__all__ = [
    "AUGMENTATIONS",
    "ArrayImages",
    "Changes",
    "Dataset",
    "FileImages",
    "ImageShape",
    "ImageSource",
    "Images",
    "Standardization",
    "Transform",
    "as_array",
    "canonical_dataset",
    "check_shape",
    "check_size",
    "describe",
    "enlarged",
    "fill_up",
    "find_images",
    "find_paths",
    "naming_row",
    "read_ahead",
    "read_header",
    "resize_all",
    "shape_of_rows",
    "transform_by",
    "unstandardized",
]
