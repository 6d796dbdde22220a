"""CSV, Parquet and SQLite: how tables are appended to files, and read from them to the last bit."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import pandas as pd

from sklearn_protopnet.inspection._tables import EXPLANATION_COLUMNS, FLOAT_COLUMNS

TABLE: Final = "evidence"
DTYPES: Final = "dtypes"
"""Names of the tables in a SQLite file: the evidence, and what its columns were in pandas."""

NUMBERS: Final = "biuf"
"""Kinds of dtypes that are written as numbers or truth values; all others hold text."""

UNREADABLE: Final = (ValueError, KeyError, sqlite3.Error, pd.errors.DatabaseError)
"""What is raised by files that hold something else; pyarrow's errors are ValueErrors."""

Append = Callable[[pd.DataFrame], None]


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
        is_integer = texts.name in EXPLANATION_COLUMNS and texts.name not in FLOAT_COLUMNS
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


WRITERS: Final[dict[str, Callable[[Path], AbstractContextManager[Append]]]] = {
    ".csv": _csv_writer,
    ".db": _sqlite_writer,
    ".parquet": _parquet_writer,
    ".sqlite": _sqlite_writer,
}

READERS: Final[dict[str, Callable[[Path], pd.DataFrame]]] = {
    ".csv": _read_csv,
    ".db": _read_sqlite,
    ".parquet": _read_parquet,
    ".sqlite": _read_sqlite,
}
