"""What users pass as X: every form that images may have, a record each.

To add a form is to add its record to `INPUT_FORMS`: validation, errors and the table in the
documentation read them.

Shapes: n images of H x W pixels and C channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._images._decoding import read_header
from sklearn_protopnet._images._lists import (
    Expected,
    check_channels_last,
    check_one_size,
    count_dimensions,
    is_image,
    kind_of,
    read_list,
)
from sklearn_protopnet._images._numbers import as_array, as_numbers
from sklearn_protopnet._images._resizing import resize_all
from sklearn_protopnet._images._store import ArrayImages, FileImages, Images, naming_row


@dataclass(frozen=True)
class InputForm:
    """A form that X may have."""

    name: str
    """Errors and the documentation call it this, after "X must be"."""
    image: str
    """The documentation says this of the shape of an image."""
    matches: Callable[[Any], bool]
    """Whether X has this form. It decodes nothing, and no two forms match one X. A tensor comes
    as an array; an object array, a series or a one-column frame of anything but numbers as a list.
    """
    read: Callable[[Any, Expected], Any]
    """Gives `Images`, or an array or frame of 2-D rows, which scikit-learn checks."""


def read_input(X: Any, expected: Expected) -> Any:
    """Read what a user passes: `Images`, or an array or frame of 2-D rows.

    Raises
    ------
    TypeError
        If X has none of the forms, or its items are of several kinds.
    ValueError
        If X has too many dimensions, or what the form's own function says.
    """
    X = _simplified(X, expected.name)
    for form in INPUT_FORMS:
        if form.matches(X):
            return form.read(X, expected)
    has_dimensions = hasattr(X, "ndim")
    found = kind_of(X)
    if isinstance(X, list | tuple):
        found = f"{type(X).__name__} of {kind_of(X[0])}"
    kind = ValueError if has_dimensions else TypeError
    raise kind(f"{expected.name} must be {accepted_forms()}; got {found}.")


def accepted_forms() -> str:
    """Write in words what X may be."""
    *names, last = (form.name for form in INPUT_FORMS)
    return (
        f"{', '.join(names)} or {last}, where a CPU tensor counts as an array, and an object "
        "array, a series or a one-column frame as a list"
    )


def _simplified(X: Any, name: str) -> Any:
    """Turn tensors into arrays, and columns of anything but numbers into lists."""
    if isinstance(X, list | tuple):
        return X
    if hasattr(X, "to_numpy") and _is_column(X):  # a series or a frame
        values = X.to_numpy()
    elif hasattr(X, "__array__") and getattr(X, "ndim", 0) > 2:
        values = np.asarray(as_array(X, name))
    else:
        values = as_array(X, name)
    if not isinstance(values, np.ndarray):
        return X
    if values.ndim > 2:
        return values
    if values.dtype.kind in "OSTU" and _is_column(values) and values.size:
        items = (
            values.reshape(-1).tolist() if values.dtype.kind == "O" else list(values.reshape(-1))
        )
        if count_dimensions(items[0]) != 0:
            return items
    return X if hasattr(X, "to_numpy") else values


def _is_column(X: Any) -> bool:
    shape = list(getattr(X, "shape", ()))
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _are_rows(X: Any) -> bool:
    if isinstance(X, list | tuple):
        return (count_dimensions(X) or 0) in {1, 2}
    is_array = hasattr(X, "__array__") and not isinstance(X, str | bytes)
    is_sparse = hasattr(X, "toarray")  # scikit-learn refuses it, with the remedy
    return is_sparse or (is_array and getattr(X, "ndim", 2) <= 2)


def _read_rows(X: Any, expected: Expected) -> Any:
    """Leave rows to scikit-learn, which has no word for times beside numbers."""
    if hasattr(X, "iloc") and X.ndim == 2:
        for column, dtype in X.dtypes.items():
            if dtype.kind in "mM":
                raise ValueError(
                    f"{expected.name} must hold real numbers, got {dtype} in column {column!r}."
                )
    return X


def _is_array(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.ndim in {3, 4}


def _read_array(X: NDArray[Any], expected: Expected) -> Images:
    pixels = as_numbers(np.asarray(X), expected.name)
    if pixels.ndim == 4:
        check_channels_last([pixels.shape[1:]], expected)
    whole = pixels if pixels.ndim == 4 else pixels[..., None]  # (n, H, W, C)
    return ArrayImages(*resize_all(whole, expected.size))


def _are_images(X: Any) -> bool:
    return isinstance(X, list | tuple) and len(X) > 0 and is_image(X[0])


def _is_path(item: Any) -> bool:
    return isinstance(item, str | os.PathLike)


def _are_paths(X: Any) -> bool:
    return _is_path(X) or (isinstance(X, list | tuple) and len(X) > 0 and _is_path(X[0]))


def _read_paths(X: Any, expected: Expected) -> Images:
    """Check that paths are images, by their headers; colour where one of them has colour."""
    paths, name = _absolute(X, expected.name), expected.name
    headers = [
        naming_row(f"Row {row} of {name}", read_header, path) for row, path in enumerate(paths)
    ]
    check_one_size(np.array([header.size for header in headers]), expected, paths)
    channels = expected.channels
    if channels is None:
        channels = 3 if any(header.is_colour for header in headers) else 1
    elif channels not in {1, 3}:
        raise ValueError(
            f"Images in {name} must have {channels} channels as in fit, and files give 1 or 3: "
            "pass arrays."
        )
    return FileImages(paths, (*(expected.size or headers[0].size), channels), headers, name)


def _absolute(X: Any, name: str) -> list[str]:
    """Give absolute paths in plain text.

    A process that reads them may have another working directory, and the repr of NumPy's str
    names its type.
    """
    if _is_path(X):
        raise TypeError(
            f"{name} must be a list of paths, got one, {os.fsdecode(X)!r}. A list makes it one "
            "image; datasets.load_image_folder lists the images of a folder."
        )
    for row, item in enumerate(X):
        if not _is_path(item):
            raise TypeError(
                f"{name} must hold paths of images only where it holds one, got "
                f"{type(item).__name__} in row {row}."
            )
        if not os.fspath(item):
            raise ValueError(f"Row {row} of {name} must be the path of an image, got an empty one.")
    return [str(os.path.abspath(os.fsdecode(item))) for item in X]


INPUT_FORMS: Final[tuple[InputForm, ...]] = (
    InputForm(
        name="2-D rows",
        image="``image_shape``; without it, a row of at least 64 numbers must be a perfect square, "
        "which is a square grey image, and a shorter row is one pixel with as many channels",
        matches=_are_rows,
        read=_read_rows,
    ),
    InputForm(
        name="a 3-D array (n_samples, height, width)",
        image="``(height, width, 1)``",
        matches=lambda X: _is_array(X) and X.ndim == 3,
        read=_read_array,
    ),
    InputForm(
        name="a 4-D array (n_samples, height, width, channels)",
        image="``(height, width, channels)``",
        matches=lambda X: _is_array(X) and X.ndim == 4,
        read=_read_array,
    ),
    InputForm(
        name="a list of images (2-D and 3-D arrays, CPU tensors, images of Pillow)",
        image="that of the images, of one size unless ``image_size`` is set; grey beside colour "
        "is taken as colour, and an image of Pillow is as its file",
        matches=_are_images,
        read=read_list,
    ),
    InputForm(
        name="a list of paths of image files",
        image="that of the files, which stay on disk",
        matches=_are_paths,
        read=_read_paths,
    ),
)
"""X may have these forms; this is the only place that knows them."""
