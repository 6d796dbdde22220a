"""Evidence in files of any size."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._files import check_place, check_regular
from sklearn_protopnet._training import ProgressBar
from sklearn_protopnet.inspection._details import explanation_units
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._export_formats import FORMATS, Format, with_escaped_formulas
from sklearn_protopnet.inspection._export_manifest import NUMBERS, TableDigest
from sklearn_protopnet.inspection._pipelines import member_images
from sklearn_protopnet.inspection._tables import build_table

CHUNK_ROWS: Final = 50_000
"""About so many rows of evidence are in memory at once, 900 bytes each until they are in a file."""

LARGEST_CHUNK: Final = 1000
"""At most so many images are explained at once."""


@with_shared_descriptions
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
    escape_formulas: bool = False,
    verbose: int = 0,
) -> int:
    """Write the evidence for any number of images to a file.

    Images are explained some at a time: memory does not grow with their number, but for what a
    pipeline makes of them before they reach the classifier. The file appears
    when all is written; if the export ends before, there is none, or the one that was there. An
    export that is killed leaves a hidden folder beside it, which nobody removes.

    Every file has a manifest: the number of rows, the dtypes of the columns, and a digest of their
    content, which `read_evidence` checks. It is in the metadata of a Parquet file, in a table
    ``manifest`` of a SQLite file, and beside a CSV file: that of ``evidence.csv`` is
    ``evidence.csv.json``, and goes where the other goes.

    Parameters
    ----------
    {estimator_or_ensemble}
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes.
    path : str or path-like
        Its suffix is the format: ``.csv``, ``.parquet`` (needs pyarrow: ``pip install
        sklearn-protopnet[export]``), or ``.sqlite`` or ``.db`` with a table ``evidence``. Through
        a link the file is replaced that it points to.
    {explain_options}
    sparse : bool, default=False
        Whether to leave out contributions of exactly 0. The others still add up to the logit, but
        for what `top_k` leaves out.
    escape_formulas : bool, default=False
        Whether labels and names of samples in a CSV file get an apostrophe before them if they
        begin with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return, with which a spreadsheet
        computes them. `read_evidence` takes it away again. By default a file holds what they are:
        mind that where they come from strangers.
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
        If the file cannot be written, or is no regular file.
    TypeError
        If there is no such classifier at the estimator's end.
    ValueError
        If the suffix is none of these, if names of samples or classes are neither text, numbers
        nor truth values, or are what the format does not have, as some integers and null
        characters are, if formulas are to be escaped in another format than CSV, or as by
        `ProtoPNetClassifier.explain`.

    See Also
    --------
    read_evidence : Read the file.
    """
    target, file_format = Path(path), _format_of(path)
    if escape_formulas and not file_format.is_for_spreadsheets:
        raise ValueError(f"escape_formulas is for .csv files, got {target.name!r}.")
    for place in file_format.places(target):
        check_place(place)
    options = Options.checked(classes, top_k, localizer, details, n_top_classes)
    explainer = Explainer(member_images(estimator, X), options)
    _check_names("sample", explainer.names, file_format)
    _check_names("class", explainer.classes, file_format)
    members = [each.member for each in explainer.images if each.member is not None]
    _check_names("member", np.array(members, dtype=object), file_format)
    digest = TableDigest(has_escaped_formulas=escape_formulas)
    start = 0
    size = 1  # images that are explained at once; the first one tells how many rows each has
    with (
        file_format.write(target) as file,
        ProgressBar(len(explainer), "image", visible=bool(verbose)) as bar,
    ):
        while start < len(explainer):
            why = explainer.table(start, start + size)
            n_images = min(size, len(explainer) - start)
            size = min(LARGEST_CHUNK, max(1, CHUNK_ROWS * n_images // len(why)))
            if sparse:
                why = why[why["contribution"] != 0]
            if len(why) or start == 0:  # a file without rows has columns too
                digest.update(why)
                file.append(with_escaped_formulas(why) if escape_formulas else why)
            del why
            start += n_images
            bar.update(n_images)
        manifest = digest.manifest()
        file.finish(manifest.to_json())
    return manifest.rows


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
        contribution 0 are missing if they were left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the format needs a package that is not installed.
    ValueError
        If the suffix is none of ``.csv``, ``.parquet``, ``.sqlite`` and ``.db``, or the file is no
        evidence, or no longer what was written.
    """
    file_format = _format_of(path)
    check_regular(path)
    try:
        table, manifest = file_format.read(Path(path))
        manifest.check(table)
    except ImportError:
        raise
    except Exception as error:  # pandas, pyarrow and sqlite3 each raise their own
        raise ValueError(
            f"{os.fspath(path)!r} must be evidence as export_evidence wrote it, found: {error}"
        ) from error
    columns = {str(name): table[name] for name in table}
    return build_table(columns, "explanation", explanation_units())


def _format_of(path: str | os.PathLike[str]) -> Format:
    formats = {suffix: each for each in FORMATS for suffix in each.suffixes}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise ValueError(f"path must end in one of {sorted(formats)}, got {os.fspath(path)!r}.")
    return formats[suffix]


def _check_names(kind: str, names: NDArray[Any], file_format: Format) -> None:
    """Check that names of samples or classes are something that a file has."""
    is_number, is_unsigned = names.dtype.kind in NUMBERS, names.dtype.kind == "u"
    others = [] if is_number else [each for each in names if not isinstance(each, str)]
    if others:
        raise ValueError(
            "Names of samples and classes must be text, numbers or truth values to be written to "
            f"a file, got {names.dtype} such as {others[0]!r} for {kind!r}. {_REMEDIES[kind]}"
        )
    # pandas reads them since version 3.1 only, and few other programs do.
    if file_format.is_for_spreadsheets and any("\0" in str(name) for name in names):
        raise ValueError(
            "Names of samples, classes and members must hold no null characters to be in a .csv "
            f"file, got one for {kind!r}. A .parquet or .sqlite file has them."
        )
    if is_unsigned and not file_format.has_uint64 and names.max() > np.iinfo(np.int64).max:
        raise ValueError(
            "Names of samples and classes that are integers must be less than 2**63 to be written "
            f"to a {file_format.suffixes[0]} file, got {names.max()} for {kind!r}. A .parquet file "
            f"has them. Or: {_REMEDIES[kind]}"
        )


_REMEDIES: Final = {
    "sample": "Names become text with frame.index = frame.index.map(str).",
    "class": "Classes are text after a fit to y.astype(str).",
}
