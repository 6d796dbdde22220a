"""Estimators in files that execute nothing when they are read (skops)."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from sklearn_protopnet._compat import CALLBACKS, METADATA_REQUEST
from sklearn_protopnet._files import check_place, check_regular, replacing

Estimator = TypeVar("Estimator")

FORMAT: Final = 1
"""The format counts up when a file of now could no longer be read by an older version."""

MANIFEST: Final = "sklearn_protopnet.json"
"""This member holds format, version and digest."""

SCHEMA: Final = "schema.json"
"""In this member skops says what the objects are; arrays are members ``<number>.npy``."""

ESTIMATORS: Final = (
    "sklearn_protopnet._ensemble.ProtoPNetEnsemble",
    "sklearn_protopnet._classifier.ProtoPNetClassifier",
)
"""A file holds an estimator of one of these types."""

MEMBERS: Final = ("sklearn.frozen._frozen.FrozenEstimator", "sklearn.utils._bunch.Bunch")
"""An ensemble may have these around its members."""

TRUSTED: Final = (*ESTIMATORS, *MEMBERS)
"""These are the names beyond Python's and NumPy's that a file may hold."""

LOADERS: Final = {
    "ObjectNode": re.compile("|".join(map(re.escape, TRUSTED))),
    "DictNode": re.compile(
        r"builtins\.dict|collections\.OrderedDict|sklearn\.utils\._bunch\.Bunch"
    ),
    "ListNode": re.compile(r"builtins\.list"),
    "TupleNode": re.compile(r"builtins\.tuple"),
    "JsonNode": re.compile(r"builtins\.str"),
    "TypeNode": re.compile(r"builtins\.(str|int|float|bool)|numpy\.\w+"),
    "NdArrayNode": re.compile(r"numpy\.\w+"),
    "RandomStateNode": re.compile(r"numpy\.random\.mtrand\.RandomState"),
}
"""Each loader of skops that a file may ask for makes objects of these types."""


ELSEWHERE: Final = {"memory": None, "checkpoint": None}
"""What lies in directories that these parameters name is no part of a file."""


def dump(estimator: Any, path: str | os.PathLike[str], check: Callable[[Any], Any]) -> None:
    """Write an estimator to a file, all of it or nothing.

    Callbacks, requests of metadata and `ELSEWHERE` are left out.

    The file is the archive that skops writes, of members that are not compressed, with a manifest
    as the last one.

    Parameters
    ----------
    estimator : object
    path : str or path-like
    check : callable
        Raises an error unless the estimator is a sound one.

    Raises
    ------
    ImportError
        If skops is not installed.
    OSError
        If the file cannot be written.
    TypeError
        If the estimator holds a type that `load` would refuse, such as a backbone that is a
        module.
    """
    skops_io = _skops_io()
    check_place(path)
    rule = (
        "A file may hold NumPy arrays and plain values only, so no module as a backbone, no "
        "callable as augment and no pipeline as a member"
    )
    remedy = "Predictions do not need the latter: set_params(augment=None). Or pickle the "
    remedy += "estimator."
    written = _alone(estimator)
    try:
        data = io.BytesIO(skops_io.dumps(written))
    except Exception as error:  # what skops cannot write at all fails in a way of its own
        raise TypeError(f"{rule}, found what skops cannot write: {error}. {remedy}") from error
    with ZipFile(data, "a", ZIP_STORED) as archive:
        schema = json.loads(archive.read(SCHEMA))
        if untrusted := _untrusted_types(schema):
            raise TypeError(f"{rule}, found {', '.join(untrusted)}. {remedy}")
        for array in _arrays_of(schema):  # as `load` does, before the file that was there has gone
            _check_array(archive, array)
        check(written)
        manifest = {"format": FORMAT, "version": _version(), "sha256": _digest(archive)}
        archive.writestr(MANIFEST, json.dumps(manifest))
    with replacing(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def load(path: str | os.PathLike[str], check: Callable[[Any], Estimator]) -> Estimator:
    """Read an estimator that `dump` wrote, and check it.

    Nothing in the file is executed, and nothing is unpacked that is larger than the file.

    Parameters
    ----------
    path : str or path-like
    check : callable
        Raises an error unless the estimator is a sound one; what it returns is returned.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If skops is not installed.
    ValueError
        If the file is not one that `dump` wrote, or is no longer, or the check fails.
    """
    skops_io = _skops_io()
    name = os.fspath(path)
    check_regular(path)
    data = Path(path).read_bytes()
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            written_by = _check_archive(archive, len(data))
        estimator = skops_io.loads(data, trusted=TRUSTED)
    except Exception as error:  # zipfile, json, NumPy and skops each raise their own
        raise ValueError(f"{name!r} must be a file written by save: {_said(error)}") from error
    try:
        return check(_alone(estimator))
    except Exception as error:  # what is not there, or of another type, fails in a way of its own
        raise ValueError(
            f"{name!r} must hold a sound classifier, and this one, of sklearn-protopnet "
            f"{written_by}, is none: {_said(error)}"
        ) from error


def _check_archive(archive: ZipFile, size: int) -> str:
    """Check all that can be checked before any object is made; the version that wrote it."""
    _check_members(archive, size)
    manifest = json.loads(archive.read(MANIFEST))
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"its format must be {FORMAT} to be read by sklearn-protopnet {_version()}, found "
            f"{manifest['format']}, which version {manifest['version']} wrote and reads."
        )
    if manifest["sha256"] != _digest(archive):
        raise ValueError("its content must have the digest that save wrote, found another one.")
    schema = json.loads(archive.read(SCHEMA))
    found = _untrusted_types(schema) or [_type_of(schema)]
    if not set(found) <= set(ESTIMATORS):
        raise ValueError(
            f"it must hold a {' or a '.join(ESTIMATORS)} only, found {', '.join(found)}."
        )
    arrays = _arrays_of(schema)
    if sorted([*arrays, SCHEMA, MANIFEST]) != sorted(archive.namelist()):
        raise ValueError("its members must be the arrays that it speaks of, found others.")
    for array in arrays:
        _check_array(archive, array)
    return str(manifest["version"])


def _check_members(archive: ZipFile, size: int) -> None:
    """Check that members are there once and stored as they are, before any is read."""
    members = archive.infolist()
    if packed := [each.filename for each in members if not _is_plain(each)]:
        raise ValueError(f"its members must be stored as they are, found {packed[0]!r} packed.")
    if (n_bytes := sum(each.file_size for each in members)) > size:
        raise ValueError(f"its members must fit into its {size} bytes, found {n_bytes}.")
    if repeated := [name for name, n in Counter(archive.namelist()).items() if n > 1]:
        raise ValueError(f"its members must have names of their own, found {repeated[0]!r} twice.")


def _is_plain(member: ZipInfo) -> bool:
    is_encrypted = member.flag_bits & 1
    is_stored = member.compress_type == ZIP_STORED and member.file_size == member.compress_size
    return is_stored and not is_encrypted


def _digest(archive: ZipFile) -> str:
    """Digest names, lengths and contents of all members but the manifest, in order (SHA-256)."""
    digest = hashlib.sha256()
    for name in archive.namelist():
        if name != MANIFEST:
            content = archive.read(name)
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield what skops calls nodes, each of which makes an object."""
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict) and "__loader__" in value:
            yield value
        if isinstance(value, dict | list):
            pending.extend(value.values() if isinstance(value, dict) else value)


def _type_of(node: dict[str, Any]) -> str:
    return f"{node['__module__']}.{node['__class__']}"


def _untrusted_types(schema: Any) -> list[str]:
    """Name the types that a file may not hold; skops itself trusts estimators and functions."""
    return sorted(
        {
            _type_of(node)
            for node in _nodes(schema)
            if node["__loader__"] not in LOADERS
            or not LOADERS[node["__loader__"]].fullmatch(_type_of(node))
        }
    )


def _arrays_of(schema: Any) -> list[str]:
    """Name the members that hold arrays.

    skops makes one object of all nodes of one number. Were these not the same, few bytes could
    stand for any number of objects, or one array be read again and again.
    """
    known: dict[int, dict[str, Any]] = {}
    arrays = []
    for node in _nodes(schema):
        number = node["__id__"]
        if number in known and known[number] != node:
            raise ValueError(f"its object {number} must be one, found another one beside it.")
        if node.get("file") and number not in known:
            arrays.append(str(node["file"]))
        known[number] = node
    return arrays


def _check_array(archive: ZipFile, name: str) -> None:
    """Check that an array is as long as its header says: NumPy makes room before it reads."""
    with archive.open(name) as file:
        major, _ = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if major == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        n_bytes = file.tell() + math.prod((dtype.itemsize, *shape))
    found = archive.getinfo(name).file_size
    if dtype.kind not in "biufUmM":
        raise ValueError(f"its array {name!r} must be of numbers, text or dates, found {dtype}.")
    if dtype.itemsize == 0 or min(shape, default=0) < 0 or n_bytes != found:
        raise ValueError(
            f"its array {name!r} must have the {n_bytes} bytes that its header says, found {found}."
        )


def _alone(value: Any) -> Any:
    """Copy what an estimator consists of, less what is not written; arrays stay the same.

    Those in files that are mapped into memory, which `load` refuses, become plain ones.
    """
    if isinstance(value, np.memmap):
        return np.asarray(value)
    if isinstance(value, tuple | list):  # also those of a kind of their own, as torch.Size is
        return (tuple if isinstance(value, tuple) else list)(map(_alone, value))
    if isinstance(value, dict):
        whole = copy(value)
        whole.clear()
        for key, each in value.items():
            # 1 is the same key as True, which skops reads from text, where all but "" is true.
            whole[int(key) if isinstance(key, bool | np.bool_) else key] = _alone(each)
        return whole
    if isinstance(value, type) or not hasattr(value, "get_params"):
        return value
    twin = copy(value)
    left_out = {*CALLBACKS, METADATA_REQUEST}
    kept = {name: each for name, each in vars(value).items() if name not in left_out}
    vars(twin).clear()
    vars(twin).update({name: ELSEWHERE.get(name, _alone(each)) for name, each in kept.items()})
    return twin


def _version() -> str:
    try:
        return version("sklearn-protopnet")
    except PackageNotFoundError:
        return "unknown"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _skops_io() -> Any:
    try:
        from skops import io as skops_io
    except ImportError as error:
        raise ImportError(
            "Saving and loading files needs skops: pip install sklearn-protopnet[files]"
        ) from error
    return skops_io
