"""Evidence in files of any size."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from sklearn_protopnet._files import check_place, replacing
from sklearn_protopnet.inspection._evidence import EXPLANATION_COLUMNS, build_table
from sklearn_protopnet.inspection._explainer import Options
from sklearn_protopnet.inspection._opened import open_estimator

CHUNK_ROWS: Final = 50_000
"""Rows of evidence that are in memory at once, about; 900 bytes each until they are in a file."""

LARGEST_CHUNK: Final = 1000
"""Images that are explained at once, at most."""

TABLE: Final = "evidence"
DTYPES: Final = "dtypes"
"""Names of the tables in a SQLite file: the evidence, and what its columns were in pandas."""

FLOATS: Final = ("similarity", "distance", "weight", "contribution", "logit", "probability")
"""Columns of `EXPLANATION_COLUMNS` that are never integers."""

NUMBERS: Final = "biuf"
"""Kinds of dtypes that are written as numbers or truth values; all others hold text."""

NO_UINT64: Final = (".csv", ".db", ".sqlite")
"""Formats whose integers end at 2**63."""

Append = Callable[[pd.DataFrame], None]


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
    opened = open_estimator(estimator, X)
    explainer = opened.classifier._explainer(opened.X, opened.names, options)
    _check_names("sample", explainer.names, suffix)
    _check_names("class", explainer.labels, suffix)
    n_rows = start = 0
    size = 1  # images that are explained at once; the first one tells how many rows each has
    with (
        replacing(path) as temporary,
        _WRITERS[suffix](temporary) as append,
        tqdm(total=len(explainer), unit="image", disable=not verbose) as bar,
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
        If the suffix is none of ``.csv``, ``.parquet``, ``.sqlite`` and ``.db``.
    """
    read = _READERS[_suffix(path)]
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    table = read(Path(path))
    return build_table({str(name): table[name] for name in table}, "explanation")


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"path must end in one of {sorted(_WRITERS)}, got {os.fspath(path)!r}.")
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


@contextmanager
def _csv_writer(path: Path) -> Iterator[Append]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield _CsvAppender(file)


class _CsvAppender:
    """Writes text in quotes and numbers without; a column's name as what it holds."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._is_empty = True

    def __call__(self, table: pd.DataFrame) -> None:
        if self._is_empty:
            names = (_quoted(name, table[name].dtype.kind not in NUMBERS) for name in table)
            self._file.write(f"{','.join(names)}\n")
            self._is_empty = False
        table.to_csv(
            self._file,
            header=False,
            index=False,
            quoting=csv.QUOTE_NONNUMERIC,
            lineterminator="\n",
        )


def _read_csv(path: Path) -> pd.DataFrame:
    # As text, of which Python makes numbers to the last bit; pandas has done so since version 3.1.
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    with path.open(encoding="utf-8", newline="") as file:
        headings = file.readline().rstrip("\r\n").split(",")
    for name, heading in zip(table.columns, headings, strict=True):
        if heading != _quoted(name, is_text=True):
            table[name] = _values(table[name])
    return table


def _quoted(name: Any, is_text: bool) -> str:
    return f'"{name}"' if is_text else str(name)


def _values(texts: pd.Series[str]) -> pd.Series[Any]:
    """Make truth values or numbers of texts; NaN of an empty one."""
    if len(texts) == 0:
        is_integer = texts.name in EXPLANATION_COLUMNS and texts.name not in FLOATS
        return texts.astype(np.int64 if is_integer else np.float64)
    if texts.isin(["True", "False"]).all():
        return texts == "True"
    try:
        return texts.astype(np.int64)
    except ValueError:
        return texts.replace("", "nan").astype(np.float64)


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Append]:
    arrow, parquet = _pyarrow()
    writer = None

    def append(table: pd.DataFrame) -> None:
        nonlocal writer
        rows = arrow.Table.from_pandas(table, preserve_index=False)
        if writer is None:
            writer = parquet.ParquetWriter(path, _with_texts(arrow, rows.schema))
        writer.write_table(rows.cast(writer.schema))
        del rows
        arrow.default_memory_pool().release_unused()  # 40 MB less at the next look of the network

    try:
        yield append
    finally:
        if writer is not None:
            writer.close()


def _with_texts(arrow: Any, schema: Any) -> Any:
    """Say that a column of objects holds text, if there is no row that shows it (pandas 2)."""
    fields = [
        field.with_type(arrow.string()) if arrow.types.is_null(field.type) else field
        for field in schema
    ]
    return arrow.schema(fields, schema.metadata)


def _read_parquet(path: Path) -> pd.DataFrame:
    _, parquet = _pyarrow()
    table: pd.DataFrame = parquet.read_table(path).to_pandas()
    return table


@contextmanager
def _sqlite_writer(path: Path) -> Iterator[Append]:
    try:
        with closing(sqlite3.connect(path)) as connection:
            # Nobody else knows the file yet: no journal, no waiting for the disk at every step.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            dtypes: dict[str, str] = {}

            def append(table: pd.DataFrame) -> None:
                dtypes.update({str(name): str(dtype) for name, dtype in table.dtypes.items()})
                table.to_sql(TABLE, connection, if_exists="append", index=False)

            yield append
            pd.DataFrame({"name": dtypes.keys(), "dtype": dtypes.values()}).to_sql(
                DTYPES, connection, index=False
            )
            connection.commit()
    except sqlite3.OperationalError as error:
        raise OSError(f"Cannot write {str(path.parent)!r}: {error}.") from error


def _read_sqlite(path: Path) -> pd.DataFrame:
    with closing(sqlite3.connect(path)) as connection:
        table = pd.read_sql_query(f"SELECT * FROM {TABLE}", connection)
        dtypes = pd.read_sql_query(f"SELECT * FROM {DTYPES}", connection)
    return table.astype(dict(zip(dtypes["name"], dtypes["dtype"], strict=True)))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install sklearn-protopnet[export]"
        ) from error
    return pyarrow, parquet


_WRITERS: Final[dict[str, Callable[[Path], AbstractContextManager[Append]]]] = {
    ".csv": _csv_writer,
    ".db": _sqlite_writer,
    ".parquet": _parquet_writer,
    ".sqlite": _sqlite_writer,
}

_READERS: Final[dict[str, Callable[[Path], pd.DataFrame]]] = {
    ".csv": _read_csv,
    ".db": _read_sqlite,
    ".parquet": _read_parquet,
    ".sqlite": _read_sqlite,
}
