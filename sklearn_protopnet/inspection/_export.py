"""Evidence in files of any size."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._files import check_place, replacing
from sklearn_protopnet._training import ProgressBar
from sklearn_protopnet.inspection._details import explanation_units
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._export_formats import NUMBERS, READERS, UNREADABLE, WRITERS
from sklearn_protopnet.inspection._pipelines import open_images
from sklearn_protopnet.inspection._tables import EXPLANATION_COLUMNS, build_table

CHUNK_ROWS: Final = 50_000
"""Rows of evidence that are in memory at once, about; 900 bytes each until they are in a file."""

LARGEST_CHUNK: Final = 1000
"""Images that are explained at once, at most."""

NO_UINT64: Final = (".csv", ".db", ".sqlite")
"""Formats whose integers end at 2**63."""


def export_evidence(
    estimator: Any,
    X: Any,
    path: str | os.PathLike[str],
    *,
    classes: str | ArrayLike = "predicted",
    n_top_classes: int | None = None,
    top_k: int | None = None,
    localizer: str = "receptive_field",
    details: str | Iterable[str] = (),
    sparse: bool = False,
    verbose: int = 0,
) -> int:
    """Write the evidence for any number of images to a file.

    Images are explained some at a time: memory does not grow with their number, but for what a
    pipeline makes of them before they reach the classifier. The file appears
    when all is written; if the export ends before, there is none, or the one that was there. An
    export that is killed leaves a hidden file beside it, which the next export to the same place
    removes (from the same machine, and not on Windows).

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes.
    path : str or path-like
        Its suffix is the format: ``.csv``, ``.parquet`` (needs pyarrow: ``pip install
        sklearn-protopnet[export]``), or ``.sqlite`` or ``.db`` with a table ``evidence``. Through
        a link the file is replaced that it points to.
    classes : {"predicted", "all"} or array-like of labels, default="predicted"
        As for `ProtoPNetClassifier.explain`.
    n_top_classes : int, default=None
        As for `ProtoPNetClassifier.explain`.
    top_k : int, default=None
        As for `ProtoPNetClassifier.explain`.
    localizer : str, default="receptive_field"
        As for `ProtoPNetClassifier.explain`.
    details : "all" or iterable of str, default=()
        As for `ProtoPNetClassifier.explain`.
    sparse : bool, default=False
        Whether to leave out contributions of exactly 0. The others still add up to the logit, but
        for what `top_k` leaves out.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    int
        Rows that were written.

    Raises
    ------
    ImportError
        If the format needs a package that is not installed.
    NotFittedError
        If the estimator is not fitted.
    OSError
        If the file cannot be written.
    TypeError
        If there is no ProtoPNetClassifier at the estimator's end.
    ValueError
        If the suffix is none of these, if names of samples or classes are neither text, numbers
        nor truth values, or are integers that the format does not have, or as by
        `ProtoPNetClassifier.explain`.

    See Also
    --------
    read_evidence : Read the file.
    """
    suffix = _suffix(path)
    check_place(Path(path))
    options = Options.checked(classes, top_k, localizer, details, n_top_classes)
    images = open_images(estimator, X)
    explainer = Explainer(images.fitted, images.source, images.names, options)
    _check_names("sample", explainer.names, suffix)
    _check_names("class", images.fitted.classes, suffix)
    n_rows = start = 0
    size = 1  # images that are explained at once; the first one tells how many rows each has
    with (
        replacing(path) as temporary,
        WRITERS[suffix](temporary) as append,
        ProgressBar(len(explainer), "image", visible=bool(verbose)) as bar,
    ):
        while start < len(explainer):
            why = explainer.table(start, start + size)
            n_images = min(size, len(explainer) - start)
            size = min(LARGEST_CHUNK, max(1, CHUNK_ROWS * n_images // len(why)))
            if sparse:
                why = why[why["contribution"] != 0]
            if len(why) or start == 0:  # a file without rows has columns too
                append(why)
            n_rows += len(why)
            del why
            start += n_images
            bar.update(n_images)
    return n_rows


def read_evidence(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a file that `export_evidence` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    DataFrame
        What `ProtoPNetClassifier.explain` gives, to the last bit, with its ``attrs``; rows of
        contribution 0 are missing if they were left out. CSV does not tell integers from one
        another: labels of ``uint8`` come back as ``int64``. If no row is left, all labels that
        are no text do.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the format needs a package that is not installed.
    ValueError
        If the suffix is none of ``.csv``, ``.parquet``, ``.sqlite`` and ``.db``, or the file is no
        evidence.
    """
    read = READERS[_suffix(path)]
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    name = os.fspath(path)
    try:
        table = read(Path(path))
    except UNREADABLE as error:
        raise ValueError(f"{name!r} must be evidence in its format, found: {error}") from error
    missing = [column for column in EXPLANATION_COLUMNS if column not in table]
    if missing:
        raise ValueError(
            f"{name!r} must have the columns of evidence, {len(missing)} are missing: "
            f"{', '.join(missing[:3])} ..."
        )
    columns = {str(name): table[name] for name in table}
    return build_table(columns, "explanation", explanation_units())


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"path must end in one of {sorted(WRITERS)}, got {os.fspath(path)!r}.")
    return suffix


def _check_names(kind: str, names: NDArray[Any], suffix: str) -> None:
    """Check that names of samples or classes are something that a file has."""
    is_number, is_unsigned = names.dtype.kind in NUMBERS, names.dtype.kind == "u"
    others = [] if is_number else [each for each in names if not isinstance(each, str)]
    if others:
        raise ValueError(
            "Names of samples and classes must be text, numbers or truth values to be written to "
            f"a file, got {names.dtype} such as {others[0]!r} for {kind!r}. {_REMEDIES[kind]}"
        )
    if is_unsigned and suffix in NO_UINT64 and names.max() > np.iinfo(np.int64).max:
        raise ValueError(
            "Names of samples and classes that are integers must be less than 2**63 to be written "
            f"to a {suffix} file, got {names.max()} for {kind!r}. A .parquet file has them. Or: "
            f"{_REMEDIES[kind]}"
        )


_REMEDIES: Final = {
    "sample": "Names become text with frame.index = frame.index.astype(str).",
    "class": "Classes are text after a fit to y.astype(str).",
}
