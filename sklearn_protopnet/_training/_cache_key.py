"""Keys of cached results: digests of all that a result depends on.

A key must differ when a result may, and be the same in every process. So whatever a record holds
counts, but for what `NOT_COUNTING` names: a field that nobody thought of gives a miss, never the
wrong result.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from sklearn_protopnet._images import Dataset, Images
from sklearn_protopnet._network import Architecture
from sklearn_protopnet._training._object_digest import bytes_of, module_digest, object_digest
from sklearn_protopnet._training._stages import Settings

NOT_COUNTING: Final[dict[tuple[type, str], str]] = {
    (Settings, "l1_weight"): "penalties of a last layer that is solved for after the training",
    (Settings, "l2_weight"): "likewise; between two rounds both are given beside the record",
    (Architecture, "weights"): "a path or a name, whose content is given beside the record",
    (Dataset, "rows"): "where images are in the user's X; the digests of their pixels count",
}
"""These fields of records do not count by themselves, each for its reason."""

INFLUENTIAL_PACKAGES: Final = ("numpy", "pillow", "scipy", "torch", "torchvision")
"""Other versions of these distributions, or of Python, may train another network."""
INFLUENTIAL_SOURCES: Final = ("_images/*", "_last_layer/*", "_network/*", "_training/*", "_ranks")
"""Other texts of these files of the package may."""


def digest_of(**parts: Any) -> str:
    """Digest records and plain values, and with them all code that computes with them.

    Raises
    ------
    ValueError
        If a module or a callable among them cannot be pickled.
    """
    versions = [*sys.version_info[:2], *map(version, INFLUENTIAL_PACKAGES)]
    plain = {name: _plain(name, value) for name, value in parts.items()}
    text = json.dumps({"versions": versions, "sources": _sources_digest(), "parts": plain})
    return digest_bytes(text.encode())


def _plain(name: str, value: Any) -> Any:
    """Say what counts of a value that was found under a name, in values that JSON knows."""
    if is_dataclass(value) and not isinstance(value, Images | type) and not callable(value):
        counting = [each.name for each in fields(value) if _counts(value, each.name)]
        found = {each: _plain(each, getattr(value, each)) for each in counting}
        if isinstance(value, Dataset):
            found["digests"] = _plain("", value.source.images.survey.digests[value.rows])
        return found
    if isinstance(value, Images):  # bytes are rounded when they vary, and callables get the dtype
        return [list(value.shape), str(value.dtype)]
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [[key, _plain(name, each)] for key, each in items]
    return _plain_value(name, value)


def _counts(record: Any, name: str) -> bool:
    return not any(isinstance(record, cls) and name == named for cls, named in NOT_COUNTING)


def _plain_value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, digest_bytes(np.ascontiguousarray(value).tobytes())]
    if isinstance(value, torch.device | torch.dtype):  # which one of several cards is no matter
        return str(getattr(value, "type", value))
    if isinstance(value, nn.Module):
        return module_digest(name, value)
    return object_digest(name, value)


def digest_bytes(*values: bytes | memoryview) -> str:
    """Digest bytes."""
    hasher = blake2b(digest_size=16)
    for value in values:
        hasher.update(value)
    return hasher.hexdigest()


@cache
def _sources_digest() -> str:
    """Digest the code that trains networks."""
    package = Path(__file__).parents[1]
    rooms = [sorted(package.glob(f"{name}.py")) for name in INFLUENTIAL_SOURCES]
    return digest_bytes(*(path.read_bytes() for room in rooms for path in room))


def state_digest(module: nn.Module) -> str:
    """Digest the values of a module's parameters and statistics."""
    values = module.state_dict().items()
    return digest_bytes(
        *(f"{name} {value.dtype} {tuple(value.shape)}".encode() for name, value in values),
        *(bytes_of(value).data for _, value in values),
    )
