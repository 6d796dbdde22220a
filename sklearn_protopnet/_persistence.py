"""Files: all of one or nothing, and estimators that are read without executing anything (skops)."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

TRUSTED: Final = ("sklearn_protopnet._classifier.ProtoPNetClassifier",)
"""The one name beyond scikit-learn's and NumPy's that a file may hold."""

NAMED_BYTES: Final = 200
"""Of a file's name that a temporary one tells; what follows takes 38 of the 255 that there are."""


def dump(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a file, all of it or nothing.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If the estimator holds something that skops would not read back without being told to
        trust it, such as a backbone that is a module.
    """
    io = _skops_io()
    rule = (
        "A file may hold NumPy arrays and plain values only, so no module as a backbone, no "
        "callable as augment and no joblib.Memory"
    )
    remedy = "Predictions need neither of the last two: set_params(augment=None, memory=None). Or "
    remedy += "pickle the estimator."
    try:
        data = io.dumps(estimator)
    except Exception as error:  # what skops cannot write at all fails in a way of its own
        raise TypeError(f"{rule}, found what skops cannot write: {error}. {remedy}") from error
    untrusted = sorted(set(io.get_untrusted_types(data=data)) - set(TRUSTED))
    if untrusted:
        raise TypeError(f"{rule}, found {', '.join(untrusted)}. {remedy}")
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def check_place(path: Path) -> None:
    """Find out before the work whether there is a place for its result."""
    folder = _resolved(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r} to write to.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder.")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another when all is written, or goes.

    A process that is killed leaves it, hidden beside the other one. Whoever writes there next, on
    the same machine, removes it; on Windows nobody does.
    """
    target = _resolved(path)
    start = f".{_shortened(target.name)}.{_space_of_processes()}."
    _remove_leftovers(target.parent, start)
    # Not `tempfile`, whose files nobody else may read whatever the umask says.
    temporary = target.with_name(f"{start}{os.getpid()}.{uuid4().hex[:16]}")
    try:
        yield temporary
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _resolved(path: str | os.PathLike[str]) -> Path:
    """Follow links: it is the file that is replaced, not the link to it."""
    return Path(os.path.realpath(path))


def _shortened(name: str) -> str:
    return os.fsencode(name)[:NAMED_BYTES].decode("utf-8", "ignore")


def _space_of_processes() -> str:
    """Tell where a process number means one process; eight digits, whatever the host's name is.

    Containers may share the name of their host, and each begins to count at 1.
    """
    namespace = Path(os.path.realpath("/proc/self/ns/pid")).name  # "pid" if there is no such thing
    where = f"{socket.gethostname()} {namespace}"
    return hashlib.sha256(os.fsencode(where)).hexdigest()[:8]


def _remove_leftovers(folder: Path, start: str) -> None:
    """Remove temporary files of processes that are no more."""
    if os.name != "posix":
        return  # where os.kill ends the process that it is to ask for
    with suppress(OSError):  # who may not list the folder or remove the files may still write
        for other in folder.iterdir():
            found = re.fullmatch(rf"{re.escape(start)}(\d{{1,9}})\.[0-9a-f]{{16}}", other.name)
            if found and not _is_alive(int(found[1])):
                other.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def load(path: str | os.PathLike[str]) -> Any:
    """Read a classifier that `ProtoPNetClassifier.save` wrote.

    Nothing in the file is executed: a file that holds any other type is refused.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ProtoPNetClassifier
        Predicts the same bits as the one that was saved, on the same machine.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If skops is not installed (``pip install sklearn-protopnet[files]``).
    ValueError
        If the file is not one that ``save`` wrote.
    """
    io = _skops_io()
    data = Path(path).read_bytes()
    try:
        untrusted = io.get_untrusted_types(data=data)
        if set(untrusted) <= set(TRUSTED):
            estimator = io.loads(data, trusted=untrusted)
    except Exception as error:  # zipfile, json and skops each raise their own
        raise ValueError(f"{str(path)!r} must be a file written by save: {error}") from error
    found = sorted(untrusted) if set(untrusted) - set(TRUSTED) else [_name_of(estimator)]
    if found != list(TRUSTED):
        raise ValueError(f"{str(path)!r} must hold a {TRUSTED[0]} only, found {', '.join(found)}.")
    return estimator


def _name_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _skops_io() -> Any:
    try:
        from skops import io
    except ImportError as error:
        raise ImportError(
            "Saving and loading files needs skops: pip install sklearn-protopnet[files]"
        ) from error
    return io
