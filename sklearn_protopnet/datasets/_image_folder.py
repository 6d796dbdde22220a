"""Labelled images on disk: the folder of a file is its class."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch


def load_image_folder(
    container_path: str | os.PathLike[str],
    *,
    categories: Iterable[str] | None = None,
    allowed_extensions: Iterable[str] | None = None,
    return_X_y: bool = False,
) -> Any:
    """Find the images of a folder that holds one folder per class.

    Images may lie in folders within the folder of their class. They are found by their
    extensions and not opened: a classifier reads the paths when it needs the pixels. Files and
    folders whose names begin with a dot are passed over, and so are images beside the folders of
    the classes, and what is no regular file: pipes, devices, links that lead nowhere. Links to
    folders are followed, and no folder is entered twice for one class.

    Parameters
    ----------
    container_path : str or path-like
        The folder with one folder per class.
    categories : iterable of str, default=None
        Names of the classes to load. None loads them all.
    allowed_extensions : iterable of str, default=None
        Extensions that images have, such as ``".png"``, in whatever case. With None, those of
        the formats that Pillow opens and that are registered as image types, which leaves out
        documents and videos, but also FITS and textures.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : Bunch
        Dictionary-like object with these attributes, or the first two of them as a tuple.

        data : ndarray of str, shape (n_samples,)
            Paths of the images, sorted within each class; relative if `container_path` is.
        target : int64 ndarray of shape (n_samples,)
            Class of each image, as an index into `target_names`.
        target_names : list of str
            Names of the classes, sorted.
        filenames : ndarray of str, shape (n_samples,)
            The same as `data`, for code that knows :func:`sklearn.datasets.load_files`.
        DESCR : str
            A sentence about the data set.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    TypeError
        If `container_path` is no path, or `categories` or `allowed_extensions` no list of str.
    ValueError
        If there are no classes, or not those named, or one of them has no image or a name that is
        no text.

    See Also
    --------
    sklearn.datasets.load_files : The same for texts.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_protopnet.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/tom.png", "mouse/speedy.png", "mouse/jerry.png"):
    ...         path = Path(folder, name)
    ...         path.parent.mkdir(exist_ok=True)
    ...         Image.new("L", (8, 8)).save(path)
    ...     pets = load_image_folder(folder)
    >>> pets.target_names
    ['cat', 'mouse']
    >>> [Path(path).name for path in pets.data]
    ['tom.png', 'jerry.png', 'speedy.png']
    >>> pets.target
    array([0, 1, 1])
    """
    if not isinstance(container_path, str | bytes | os.PathLike):
        raise TypeError(f"container_path must be a path, got {container_path!r}.")
    container = os.fsdecode(container_path)
    names = _classes(container, categories)
    extensions = (
        _image_extensions()
        if allowed_extensions is None
        else _normalize(_items(allowed_extensions, "allowed_extensions"))
    )
    paths: list[str] = []
    counts: list[int] = []
    for name in names:
        folder = os.path.join(container, name)
        # With the container among them, a link to it does not make all classes one.
        found = _find(folder, extensions, os.path.realpath(container))
        if not found:
            raise ValueError(
                f"Each class must have an image, found none in {folder!r} with one of the "
                f"extensions {', '.join(sorted(extensions))}. Remove the folder, or name "
                "others in allowed_extensions."
            )
        paths += found
        counts.append(len(found))
    data = np.array(paths)
    target = np.repeat(np.arange(len(names), dtype=np.int64), counts)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=names,
        filenames=data,
        DESCR=f"{len(data)} images of {len(names)} classes, one folder each, in {container!r}.",
    )


def _classes(container: str, categories: Iterable[str] | None) -> list[str]:
    """Sorted names of the classes: of all, or of those in `categories`."""
    if not os.path.isdir(container):
        raise FileNotFoundError(
            "container_path must be a folder with one folder per class, found no folder at "
            f"{container!r}."
        )
    names = {name for name, path in _visible(container) if os.path.isdir(path)}
    if not names:
        raise ValueError(
            f"container_path must be a folder with one folder per class, found no folders in "
            f"{container!r}. Move the images of each class to a folder of its own."
        )
    if categories is None:
        return [_text(name, container) for name in sorted(names)]
    wanted = set(_items(categories, "categories"))
    if not wanted or wanted - names:
        raise ValueError(
            f"categories must name folders in {container!r}, at least one, found "
            f"{', '.join(repr(name) for name in sorted(wanted - names)) or 'none'}."
        )
    return [_text(name, container) for name in sorted(wanted)]


def _text(name: str, container: str) -> str:
    """Check that the name of a class can be written, as tables and reports will."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Folders of classes must have names in UTF-8, found {name!r} in {container!r}. "
            "Rename it."
        ) from error
    return name


def _items(value: Iterable[str], parameter: str) -> list[str]:
    if isinstance(value, str):  # which is an iterable of its letters
        raise TypeError(f"{parameter} must be a list of str, got {value!r}. Use [{value!r}].")
    items = list(value) if isinstance(value, Iterable) else [value]
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{parameter} must be a list of str, got {item!r}.")
    return items


def _normalize(extensions: Iterable[str]) -> frozenset[str]:
    """Lower case, with a dot."""
    return frozenset(f".{extension.lower().removeprefix('.')}" for extension in extensions)


def _image_extensions() -> frozenset[str]:
    """Extensions of images that Pillow reads, without PDF (writes only), MPEG or PostScript."""
    formats = Image.registered_extensions().items()
    return _normalize(
        extension
        for extension, name in formats
        if name in Image.OPEN and Image.MIME.get(name, "").startswith("image/")
    )


def _find(folder: str, extensions: frozenset[str], container: str) -> list[str]:
    """Paths of the images in a folder and in those within, by name."""
    found = []
    waiting, entered = [folder], {container}
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            found.append(path)
        elif (real := os.path.realpath(path)) not in entered:  # by a link
            entered.add(real)
            waiting += [
                path
                for name, path in reversed(_visible(path))
                if os.path.isdir(path) or _is_image(name, path, extensions)
            ]
    return found


def _is_image(name: str, path: str, extensions: frozenset[str]) -> bool:
    return os.path.splitext(name)[1].lower() in extensions and os.path.isfile(path)


def _visible(folder: str) -> list[tuple[str, str]]:
    """Names and paths in a folder, by name."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return [(name, os.path.join(folder, name)) for name in names]
