"""Evidence in files of any size."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import pandas as pd
from numpy.typing import ArrayLike
from tqdm import tqdm

from sklearn_protopnet._files import replacing
from sklearn_protopnet.inspection._analysis import explain
from sklearn_protopnet.inspection._evidence import build_table
from sklearn_protopnet.inspection._opened import index_of, rows_of

CHUNK_ROWS: Final = 200_000
"""Rows of evidence that are in memory at once, about; 60 MB of them."""

LARGEST_CHUNK: Final = 1000
"""Images that are explained at once, at most."""

TABLE: Final = "evidence"
"""Name of the table in a SQLite file."""

Append = Callable[[pd.DataFrame], None]


def export_evidence(
    estimator: Any,
    X: Any,
    path: str | os.PathLike[str],
    *,
    classes: str | ArrayLike = "predicted",
    top_k: int | None = None,
    localizer: str = "receptive_field",
    details: str | Iterable[str] = (),
    sparse: bool = False,
    verbose: int = 0,
) -> int:
    """Write the evidence for any number of images to a file.

    Images are explained some at a time: memory does not grow with their number. The file appears
    when all is written; if the export ends before, there is none, or the one that was there.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes.
    path : str or path-like
        Its suffix is the format: ``.csv``, ``.parquet`` (needs pyarrow: ``pip install
        sklearn-protopnet[export]``), or ``.sqlite`` or ``.db`` with a table ``evidence``.
    classes : {"predicted", "all"} or array-like of labels, default="predicted"
        As for `ProtoPNetClassifier.explain`.
    top_k : int, default=None
        As for `ProtoPNetClassifier.explain`.
    localizer : str, default="receptive_field"
        As for `ProtoPNetClassifier.explain`.
    details : "all" or iterable of str, default=()
        As for `ProtoPNetClassifier.explain`.
    sparse : bool, default=False
        Whether to leave out contributions of exactly 0. The others still add up to the logit.
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
        If the suffix is none of these, or as by `ProtoPNetClassifier.explain`.

    See Also
    --------
    read_evidence : Read the file.
    """
    opened = _WRITERS[_suffix(path)]
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(Path(path).parent)!r} to write to.")
    n_images, n_rows = len(X), 0
    names = index_of(X)
    size = 1  # images that are explained at once; the first one tells how many rows each has
    start = 0
    with (
        replacing(path) as temporary,
        opened(temporary) as append,
        tqdm(total=n_images, unit="image", disable=not verbose) as bar,
    ):
        while start < max(n_images, 1):  # no image at all is for `explain` to refuse
            images = rows_of(X, start, start + size)
            why = explain(
                estimator,
                images,
                classes=classes,
                top_k=top_k,
                localizer=localizer,
                details=details,
            )
            n_images_rows = len(why) // len(images)
            if names is None:
                why["sample"] += start
            start += len(images)
            if sparse:
                why = why[why["contribution"] != 0]
            append(why)
            n_rows += len(why)
            bar.update(len(images))
            size = min(LARGEST_CHUNK, max(1, CHUNK_ROWS // n_images_rows))
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
        contribution 0 are missing if they were left out.

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
    return build_table({name: table[name].to_numpy() for name in table}, "explanation")


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"path must end in one of {sorted(_WRITERS)}, got {os.fspath(path)!r}.")
    return suffix


@contextmanager
def _csv_writer(path: Path) -> Iterator[Append]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield _CsvAppender(file)


class _CsvAppender:
    """Writes strings in quotes and numbers without, so that a reader can tell them apart."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._is_empty = True

    def __call__(self, table: pd.DataFrame) -> None:
        table.to_csv(self._file, header=self._is_empty, index=False, quoting=csv.QUOTE_NONNUMERIC)
        self._is_empty = False


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
        header = next(rows)
        try:
            first = next(rows, [])
        except ValueError:  # truth values have no quotes and are no numbers
            first = []
    texts = {
        name: str for name, value in zip(header, first, strict=False) if isinstance(value, str)
    }
    return pd.read_csv(path, dtype=texts, keep_default_na=False, float_precision="round_trip")


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Append]:
    arrow, parquet = _pyarrow()
    writer = None

    def append(table: pd.DataFrame) -> None:
        nonlocal writer
        rows = arrow.Table.from_pandas(table, preserve_index=False)
        if writer is None:
            writer = parquet.ParquetWriter(path, rows.schema)
        writer.write_table(rows.cast(writer.schema))

    try:
        yield append
    finally:
        if writer is not None:
            writer.close()


def _read_parquet(path: Path) -> pd.DataFrame:
    _, parquet = _pyarrow()
    return parquet.read_table(path).to_pandas()


@contextmanager
def _sqlite_writer(path: Path) -> Iterator[Append]:
    with closing(sqlite3.connect(path)) as connection:
        # Nobody else knows the file yet: no journal, no waiting for the disk at every step.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")

        def append(table: pd.DataFrame) -> None:
            table.to_sql(TABLE, connection, if_exists="append", index=False)

        yield append
        connection.commit()


def _read_sqlite(path: Path) -> pd.DataFrame:
    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql_query(f"SELECT * FROM {TABLE}", connection)


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
