"""Digests of what results depend on: by these, results are cached.

A key must differ when a result may, and be the same in every process.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from operator import methodcaller
from pathlib import Path
from types import CodeType
from typing import Any, Final

import torch
from joblib.hashing import NumpyHasher
from torch import Tensor, nn

INFLUENTIAL_PACKAGES: Final = ("numpy", "pillow", "torch", "torchvision")
"""Distributions of which another version may train another network."""
INFLUENTIAL_SOURCES: Final = ("_images", "_last_layer", "_network", "_training")
"""Rooms of this package of which another text may."""

PLAIN: Final = (int, float, str, bytes)
"""Attributes of classes that count as their code."""


def digest_of(**parts: Any) -> str:
    """Digest plain values, and with them all code that computes with them."""
    versions = [version(name) for name in INFLUENTIAL_PACKAGES]
    plain = {"versions": versions, "sources": _sources_digest(), **parts}
    text = json.dumps(plain, default=methodcaller("item"))  # NumPy's integers
    return digest_bytes(text.encode())


def digest_bytes(*values: bytes) -> str:
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


def module_digest(module: nn.Module) -> str:
    """Digest a module: its attributes and parameters, which of these are one, and its code.

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
    return f"{callable_digest('backbone', module)} {ties}"


def callable_digest(name: str, value: Any) -> str:
    """Digest what is called: its attributes and its code, which a pickle names at most.

    Parameters
    ----------
    name : str
        The parameter that it was given as, for the message.
    value : Module, function or any other callable

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
            f"memory needs a value of {name} that can be pickled, got an error from "
            f"{type(value).__name__}: {error}"
        ) from error
    return f"{digest} {sorted(code)}"


def _function_of(value: Any) -> Any:
    """Unwrap what calls a function: partial ones, methods, properties."""
    for name in ("func", "__func__", "fget"):
        value = getattr(value, name, value)
    return value


def _values_of(function: Any) -> list[Any]:
    """Give what a function sees beside its arguments: what it encloses, and its defaults."""
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
