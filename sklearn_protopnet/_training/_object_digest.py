"""Digests of objects that users give: of what they hold, and of the code that they run.

A pickle has the names of classes and functions only. Here their code counts, wherever in an object
they are; what that code only names, such as a global function, does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property, singledispatchmethod
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

import torch
from torch import Tensor, nn

from sklearn_protopnet._compat import NumpyHasher
from sklearn_protopnet._network import copied

FAMILIAR: Final = {*sys.stdlib_module_names, "numpy", "PIL", "scipy", "torch", "torchvision"}
"""Code of these counts by its name, and by its version elsewhere in a key."""

SLOTS: Final = (GetSetDescriptorType, MemberDescriptorType)
"""Members of classes that say where an attribute is, and nothing else."""


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
    module = copied(module).eval()  # training sets the mode by itself
    tensors = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first = {id(tensor): name for name, tensor in reversed(tensors)}
    ties = [first[id(tensor)] for _, tensor in tensors]
    return f"{object_digest(name, module)} {ties}"


def object_digest(name: str, value: Any) -> str:
    """Digest an object: its attributes, and the code of all classes and functions that it holds.

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
    try:
        digest: str = _ObjectHasher(is_code=isinstance(value, FunctionType)).hash(value)
    except Exception as error:  # what a user's object holds may fail in any way
        raise ValueError(
            f"memory and checkpoint need a value of {name} that can be pickled, got an error from "
            f"{type(value).__name__}: {error}"
        ) from error
    return digest


class _ObjectHasher(NumpyHasher):  # type: ignore[misc]  # joblib ships no types
    """Hashes tensors by their values, and classes and functions by their code too.

    Pickled, tensors hold addresses. `joblib.hash` cannot be told to, and sets and strings must not
    depend on the process either.

    Parameters
    ----------
    is_code : bool
        Whether what comes first is part of a function, in which others need not be found by name.
    """

    def __init__(self, *, is_code: bool) -> None:
        super().__init__(hash_name="md5")
        self._is_code = is_code
        self._known: dict[int, Any] = {}

    def save(self, obj: Any) -> None:
        if isinstance(obj, Tensor):
            as_bytes = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            shape = ",".join(map(str, obj.shape))
            obj = (type(obj).__name__, str(obj.dtype), shape, obj.requires_grad, as_bytes)
        elif isinstance(obj, type | FunctionType):
            self._save_code(obj)
            if self._is_code:
                obj = f"{obj.__module__} {obj.__qualname__}"
        super().save(obj)

    def _save_code(self, obj: type | FunctionType) -> None:
        if id(obj) in self._known or not _is_foreign(obj):
            return
        self._known[id(obj)] = obj
        was_code, self._is_code = self._is_code, True
        super().save(_of_class(obj) if isinstance(obj, type) else _of_function(obj))
        self._is_code = was_code


def _is_foreign(obj: type | FunctionType) -> bool:
    return (obj.__module__ or "").partition(".")[0] not in FAMILIAR


def _of_class(cls: type) -> list[Any]:
    """Give what a class does and holds, beside its name."""
    members = [
        [name, part]
        for name, member in sorted(vars(cls).items())
        for part in _parts_of(member)
        if isinstance(part, FunctionType) or not (name.startswith("__") or name == "_abc_impl")
    ]
    return [*cls.__bases__, *members]


def _parts_of(member: Any) -> Iterator[Any]:
    """Yield the functions that a member of a class consists of, or what it is."""
    if isinstance(member, property):
        yield from (member.fget, member.fset, member.fdel)
    elif isinstance(member, cached_property | singledispatchmethod):
        yield member.func
    elif isinstance(member, staticmethod | classmethod):
        yield from _parts_of(member.__func__)
    elif not isinstance(member, SLOTS):
        yield member if isinstance(member, FunctionType) else getattr(member, "__wrapped__", member)


def _of_function(function: FunctionType) -> list[Any]:
    """Give what a function does, and what it takes beside its arguments."""
    enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
    given = [function.__defaults__, function.__kwdefaults__, vars(function)]
    return [_text_of(function.__code__), enclosed, *given]


def _text_of(code: CodeType) -> str:
    """Give what a function does as text, wherever its source may be."""
    constants = [_constant_of(constant) for constant in code.co_consts]
    return f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"


def _constant_of(constant: object) -> str:
    if isinstance(constant, CodeType):
        return _text_of(constant)
    if isinstance(constant, frozenset):  # whose order depends on the process
        return str(sorted(map(repr, constant)))
    return repr(constant)
