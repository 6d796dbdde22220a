"""Keys of cached results: digests of all that a result depends on.

A key must differ when a result may, and be the same in every process. So whatever a record holds
counts, but for what `NOT_COUNTING` names: a field that nobody thought of gives a miss, never the
wrong result.
"""

from __future__ import annotations

import copy
import json
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_protopnet._compat import NumpyHasher
from sklearn_protopnet._images import Dataset, Images
from sklearn_protopnet._network import Architecture
from sklearn_protopnet._training._stages import Settings

NOT_COUNTING: Final[dict[tuple[type, str], str]] = {
    (Settings, "l1_weight"): "penalties of a last layer that is solved for after the training",
    (Settings, "l2_weight"): "likewise; between two rounds both are given beside the record",
    (Architecture, "weights"): "a path or a name, whose content is given beside the record",
    (Dataset, "rows"): "where images are in the user's X; the digests of their pixels count",
}
"""These fields of records do not count by themselves, each for its reason."""

INFLUENTIAL_PACKAGES: Final = ("numpy", "pillow", "scipy", "torch", "torchvision")
"""Other versions of these distributions may train another network."""
INFLUENTIAL_SOURCES: Final = ("_images", "_last_layer", "_network", "_training")
"""Other texts of these rooms of the package may."""

PLAIN: Final = (int, float, str, bytes)
"""Attributes of classes count as their code if they are of these types."""


def digest_of(**parts: Any) -> str:
    """Digest records and plain values, and with them all code that computes with them.

    Raises
    ------
    ValueError
        If a module or a callable among them cannot be pickled.
    """
    versions = [version(name) for name in INFLUENTIAL_PACKAGES]
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
    return callable_digest(name, value)


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
    rooms = [sorted((package / name).glob("*.py")) for name in INFLUENTIAL_SOURCES]
    return digest_bytes(*(path.read_bytes() for room in rooms for path in room))


class _ObjectHasher(NumpyHasher):  # type: ignore[misc]  # joblib ships no types
    """Hashes tensors by their values; pickled, they hold addresses.

    `joblib.hash` cannot be told to, and sets and strings must not depend on the process either.
    """

    def save(self, obj: Any) -> None:
        if isinstance(obj, Tensor):
            as_bytes = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            shape = ",".join(map(str, obj.shape))
            obj = (type(obj).__name__, str(obj.dtype), shape, obj.requires_grad, as_bytes)
        super().save(obj)


def module_digest(name: str, module: nn.Module) -> str:
    """Digest a module: its attributes and parameters, which of these are one, and its code.

    Parameters
    ----------
    name : str
        The parameter that it was given as, for the message.
    module : Module

    Raises
    ------
    ValueError
        If the module cannot be pickled.
    """
    module = copy.deepcopy(module).eval()  # training sets the mode by itself
    tensors = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first = {id(tensor): name for name, tensor in reversed(tensors)}
    ties = [first[id(tensor)] for _, tensor in tensors]
    return f"{callable_digest(name, module)} {ties}"


def callable_digest(name: str, value: Any) -> str:
    """Digest an object: its attributes, and the code of its class, which a pickle names at most.

    Parameters
    ----------
    name : str
        The parameter that it was given as, for the message.
    value : Module, function or any other object

    Raises
    ------
    ValueError
        If it cannot be pickled.
    """
    owner = getattr(value, "__self__", None)  # of a method
    parts = list(value.modules()) if isinstance(value, nn.Module) else [value, owner]
    classes = {cls for part in parts for cls in type(part).__mro__}
    members = [member for cls in classes if _is_foreign(cls) for member in vars(cls).items()]
    functions = map(_function_of, [value, *(member for _, member in members)])
    code = [_code_of(each.__code__) for each in functions if hasattr(each, "__code__")]
    code += [f"{name} {v!r}" for name, v in members if isinstance(v, PLAIN) and name[:2] != "__"]
    try:
        is_function = hasattr(value, "__code__")
        hashed = [owner, *_values_of(value)] if is_function else value
        digest: str = _ObjectHasher(hash_name="md5").hash(hashed)
    except Exception as error:  # what a user's object holds may fail in any way
        raise ValueError(
            f"memory and checkpoint need a value of {name} that can be pickled, got an error from "
            f"{type(value).__name__}: {error}"
        ) from error
    return f"{digest} {sorted(code)}"


def _function_of(value: Any) -> Any:
    """Unwrap what calls a function: partial ones, methods, properties."""
    for name in ("func", "__func__", "fget"):
        value = getattr(value, name, value)
    return value


def _values_of(function: Any) -> list[Any]:
    """Give what a function takes beside its arguments: what it encloses, and its defaults."""
    enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
    return [enclosed, function.__defaults__, function.__kwdefaults__]


def _is_foreign(cls: type) -> bool:
    return cls.__module__.partition(".")[0] not in {"builtins", "torch", "torchvision"}


def _code_of(code: CodeType) -> str:
    """Give what a function does as text, wherever its source may be."""
    constants = [_constant_of(constant) for constant in code.co_consts]
    return f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"


def _constant_of(constant: object) -> str:
    if isinstance(constant, CodeType):
        return _code_of(constant)
    if isinstance(constant, frozenset):  # whose order depends on the process
        return str(sorted(map(repr, constant)))
    return repr(constant)


def state_digest(module: nn.Module) -> str:
    """Digest the values of a module's parameters and statistics."""
    values = module.state_dict().items()
    return digest_bytes(
        *(f"{name} {value.dtype} {tuple(value.shape)}".encode() for name, value in values),
        *(value.cpu().contiguous().numpy().tobytes() for _, value in values),
    )
