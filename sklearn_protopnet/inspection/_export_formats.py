"""CSV, Parquet and SQLite: one record for each, how tables go into files and come back."""

from __future__ import annotations

import csv
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from sklearn_protopnet._files import check_regular, replacing
from sklearn_protopnet.inspection._export_manifest import TEXT, Manifest, dtype_name

TABLE: Final = "evidence"
"""A SQLite file holds the evidence in this table."""

MANIFEST: Final = "manifest"
"""A SQLite file holds its manifest in this table, in one cell."""

METADATA_KEY: Final = b"sklearn_protopnet"
"""A Parquet file's metadata hold its manifest under this key."""

FORMULA_STARTS: Final = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""A spreadsheet computes a text that begins with one of these (OWASP, "CSV Injection"); the last
ones are wide signs."""

ROWS_OF_ANY_FILE: Final = 2**20
"""A file may have so many rows, and more if each has a byte at least: columns of numbers that are
all the same take next to nothing in a Parquet file, and all memory when they are read."""


class Writer(NamedTuple):
    """An open file."""

    append: Callable[[pd.DataFrame], None]
    """Writes rows."""
    finish: Callable[[str], Any]
    """Writes the manifest, when all rows are written."""


@dataclass(frozen=True)
class Format:
    """A format of files."""

    suffixes: tuple[str, ...]
    write: Callable[[Path], AbstractContextManager[Writer]]
    """Opens a file, which appears in its place when the block ends."""
    read: Callable[[Path], tuple[pd.DataFrame, Manifest]]
    """Reads a table as it is, and what it must be."""
    has_uint64: bool
    """Whether integers do not end at 2**63."""
    is_for_spreadsheets: bool = False
    """Whether it is opened with programs that compute formulas."""
    places: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)
    """Names all files that are written."""


@contextmanager
def _csv_writer(path: Path) -> Iterator[Writer]:
    with (
        replacing(path) as temporary,
        replacing(_sidecar(path)) as sidecar,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):

        def append(table: pd.DataFrame) -> None:
            table.to_csv(
                file,
                header=file.tell() == 0,
                index=False,
                quoting=csv.QUOTE_NONNUMERIC,
                lineterminator="\n",
            )

        yield Writer(append, sidecar.write_text)


def _sidecar(path: Path) -> Path:
    """Name the file of a CSV file's manifest: anybody reads a CSV file that has nothing else."""
    return Path(f"{os.path.realpath(path)}.json")


def _read_csv(path: Path) -> tuple[pd.DataFrame, Manifest]:
    sidecar = _sidecar(path)
    try:
        check_regular(sidecar)
    except FileNotFoundError as error:
        raise ValueError(f"its manifest must lie beside it, found no {sidecar.name!r}") from error
    manifest = Manifest.from_json(sidecar.read_bytes())
    # As text, of which Python makes numbers to the last bit; pandas has done so since version 3.1.
    texts = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(texts.columns) != list(manifest.dtypes):
        raise ValueError("its columns must be those of its manifest, found others.")
    values = {
        name: _values(texts[name], np.dtype(dtype))
        for name, dtype in manifest.dtypes.items()
        if dtype != TEXT
    }
    if manifest.has_escaped_formulas:
        texts = map_texts(texts, _unescaped)
    return texts.assign(**values), manifest


def _values(texts: pd.Series[str], dtype: np.dtype[Any]) -> pd.Series[Any]:
    """Make truth values or numbers of texts; NaN of an empty one."""
    if dtype.kind == "b":
        return texts == "True"
    if dtype.kind == "f":
        return texts.replace("", "nan").astype(np.float64).astype(dtype)
    return texts.astype(np.int64).astype(dtype)


def with_escaped_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would compute.

    Those that begin with apostrophes and then so get another one: what it becomes tells what it
    was.
    """
    return map_texts(table, lambda text: f"'{text}" if _is_formula(text) else text)


def _unescaped(text: str) -> str:
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    return text.lstrip("'").startswith(FORMULA_STARTS)


def map_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Change every text of a table."""
    texts = [name for name, column in table.items() if dtype_name(column) == TEXT]
    return table.assign(**{str(name): table[name].map(change) for name in texts})


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Writer]:
    arrow, parquet = _pyarrow()
    writer: Any = None

    def append(table: pd.DataFrame) -> None:
        nonlocal writer
        rows = arrow.Table.from_pandas(table, preserve_index=False)
        if writer is None:
            writer = parquet.ParquetWriter(temporary, _with_texts(arrow, rows.schema))
        writer.write_table(rows.cast(writer.schema))
        del rows
        arrow.default_memory_pool().release_unused()  # 40 MB less at the network's next pass

    def finish(manifest: str) -> None:
        writer.add_key_value_metadata({METADATA_KEY: manifest})

    with replacing(path) as temporary:
        try:
            yield Writer(append, finish)
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


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Manifest]:
    _, parquet = _pyarrow()
    with parquet.ParquetFile(path) as file:
        manifest = Manifest.from_json((file.metadata.metadata or {}).get(METADATA_KEY, b"null"))
        found = file.metadata.num_rows, file.schema_arrow.names
        if found != (manifest.rows, list(manifest.dtypes)):
            raise ValueError("its rows and columns must be those of its manifest, found others.")
        _check_rows(manifest.rows, path)
        table: pd.DataFrame = file.read().to_pandas(ignore_metadata=True)
    return table.astype(manifest.dtypes), manifest


@contextmanager
def _sqlite_writer(path: Path) -> Iterator[Writer]:
    with replacing(path) as temporary:
        try:
            with closing(sqlite3.connect(temporary)) as connection:
                # Nobody else knows the file yet: no journal, no waiting for the disk.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")

                def append(table: pd.DataFrame) -> None:
                    table.to_sql(TABLE, connection, if_exists="append", index=False)

                def finish(manifest: str) -> None:
                    pd.DataFrame({"json": [manifest]}).to_sql(MANIFEST, connection, index=False)

                yield Writer(append, finish)
                connection.commit()
        except sqlite3.OperationalError as error:
            raise OSError(errno.EIO, str(error), str(temporary)) from error


def _read_sqlite(path: Path) -> tuple[pd.DataFrame, Manifest]:
    """Read two plain tables and nothing else: a query in a file may never end.

    As if nobody could write to it: what lies beside it is not applied to it.
    """
    size = path.stat().st_size
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size)
        connection.execute("PRAGMA trusted_schema = OFF")
        for name in (MANIFEST, TABLE):
            _check_plain(connection, name)
        ((text,),) = connection.execute(f"SELECT json FROM {MANIFEST} LIMIT 2").fetchall()
        manifest = Manifest.from_json(text)
        _check_rows(manifest.rows, path)
        query = f"SELECT * FROM {TABLE} LIMIT {manifest.rows + 1}"
        table = pd.read_sql_query(query, connection)
    return table.astype(manifest.dtypes), manifest


def _check_rows(rows: int, path: Path) -> None:
    if rows > max(ROWS_OF_ANY_FILE, size := path.stat().st_size):
        raise ValueError(f"its {rows} rows must fit into its {size} bytes.")


def _check_plain(connection: sqlite3.Connection, name: str) -> None:
    """Raise unless a name is a table's whose values are stored: no view, virtual or computed."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table' AND rootpage > 0"
    hidden = connection.execute("SELECT hidden FROM pragma_table_xinfo(?)", (name,))
    is_table = connection.execute(query, (name,)).fetchall() == [(1,)]
    if not is_table or any(kind for (kind,) in hidden):
        raise ValueError(f"its {name!r} must be a table whose values are stored.")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install sklearn-protopnet[export]"
        ) from error
    return pyarrow, parquet


FORMATS: Final = (
    Format(
        (".csv",),
        _csv_writer,
        _read_csv,
        has_uint64=False,
        is_for_spreadsheets=True,
        places=lambda path: (path, _sidecar(path)),
    ),
    Format((".parquet",), _parquet_writer, _read_parquet, has_uint64=True),
    Format((".sqlite", ".db"), _sqlite_writer, _read_sqlite, has_uint64=False),
)
"""Each format stands here once."""
