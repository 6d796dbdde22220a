"""Files: all of one or nothing, and nothing but files.

What is written takes a file's place when it is whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

PERMISSIONS: Final = 0o777
"""A new file takes over these bits of a mode; it does not run as its owner."""

NAMED_BYTES: Final = 200
"""A temporary folder's name begins with so many bytes of the file's, of the 255 that there are."""


def check_regular(path: str | os.PathLike[str]) -> None:
    """Find out before a file is read whether it is one, and ends.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a folder, a device, a FIFO or a socket.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.") from error
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{os.fspath(path)!r} must be a regular file, found a folder, a device, a FIFO or a "
            "socket."
        )


def check_place(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether there is a place for its result.

    Raises
    ------
    OSError
        If there is no folder to write to, or if there is something that is no regular file: a
        folder, a device, a FIFO or a socket.
    """
    folder = _resolved(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r} to write to.")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{os.fspath(path)!r} must be a file, found a folder.")
    if not stat.S_ISREG(mode):
        raise OSError(
            f"{os.fspath(path)!r} must be a regular file or a new one, found a device, a FIFO or "
            "a socket, which is not replaced."
        )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another when all is written, or goes.

    It is in a folder beside the other one that nobody else may enter. The new file has the mode
    and, where that is allowed, the owner of the one that it replaces, else those of any new file.
    A process that is killed leaves that folder, whose name begins with a dot and the file's name:
    nobody removes it.

    Raises
    ------
    OSError
        As by `check_place`, or if the file cannot be written.
    """
    check_place(path)
    target = _resolved(path)
    start = os.fsencode(f".{target.name}.")[:NAMED_BYTES].decode("utf-8", "ignore")
    with _naming(path, target.parent / start):
        folder = TemporaryDirectory(prefix=start, dir=target.parent)
    with folder as name, _naming(path, name):
        temporary = Path(name, target.name)
        yield temporary
        _take_place(temporary, target)


@contextmanager
def _naming(path: str | os.PathLike[str], temporary: str | os.PathLike[str]) -> Iterator[None]:
    """Name the user's path in errors about a temporary one."""
    try:
        yield
    except OSError as error:
        if not str(error.filename).startswith(os.fspath(temporary)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _take_place(temporary: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        before = target.stat()
        with suppress(OSError, AttributeError):  # others' files; systems without owners
            os.chown(temporary, before.st_uid, before.st_gid)
        temporary.chmod(before.st_mode & PERMISSIONS)
    temporary.replace(target)


def _resolved(path: str | os.PathLike[str]) -> Path:
    """Follow links: it is the file that is replaced, not the link to it."""
    return Path(os.path.realpath(path))
