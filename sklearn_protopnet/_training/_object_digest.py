"""Digests of objects that users give: of what they hold, and of the code that they run.

A pickle has the names of classes and functions only. Here their code counts, wherever in an object
they are; what that code only names, such as a global function, does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache, singledispatchmethod
from operator import itemgetter
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet._compat import Hasher, NumpyHasher
from sklearn_protopnet._network import copied

FAMILIAR: Final = {*sys.stdlib_module_names, "numpy", "PIL", "scipy", "torch", "torchvision"}
"""Code of these counts by its name; their versions are in a key."""

CONTEXTS: Final = "torch.utils._contextlib"
"""Decorators of this module, such as ``torch.no_grad()``, count with what they were given."""

NOT_COUNTING: Final = {
    "__abstractmethods__", "__annotate_func__", "__annotations__", "__annotations_cache__",
    "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__", "__firstlineno__",
    "__module__", "__orig_bases__", "__parameters__", "__qualname__", "__static_attributes__",
    "__weakref__", "_abc_impl",
}  # fmt: skip
"""Members of classes that do nothing by themselves."""

PARTS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    Tensor: lambda it: (str(it.dtype), [*it.shape], it.requires_grad, bytes_of(it)),
    MethodType: lambda it: (it.__func__, it.__self__),
    property: lambda it: (it.fget, it.fset, it.fdel),
    staticmethod: lambda it: (it.__func__,),
    classmethod: lambda it: (it.__func__,),
    cached_property: lambda it: (it.func,),
    singledispatchmethod: lambda it: ({**it.dispatcher.registry},),
    type(lru_cache(len)): lambda it: (it.__wrapped__,),
    MappingProxyType: lambda it: ({**it},),
    GetSetDescriptorType: lambda it: (it.__name__,),
    MemberDescriptorType: lambda it: (it.__name__,),
    ModuleType: lambda it: (it.__name__,),
}
"""What counts of objects that pickle does not take, or by other than their values."""


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
        If it holds what cannot be pickled.
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
        If it holds what cannot be pickled.
    """
    try:
        return _Code().digest(value)
    except Exception as error:  # what a user's object holds may fail in any way
        raise ValueError(
            f"memory and checkpoint need a value of {name} that can be pickled, got an error from "
            f"{type(value).__name__}: {error}"
        ) from error


class _Code:
    """Digests of the classes and functions that are met in an object, each by itself."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def digest(self, value: Any) -> str:
        """Digest anything, from a stream of its own: what else holds it does not matter."""
        found: str = _ObjectHasher(self).hash(value)
        return found

    def of(self, code: type | FunctionType) -> str:
        """Digest a class or a function, which may name itself."""
        if id(code) not in self._known:
            self._known[id(code)] = code, "itself"
            parts = _of_class(code) if isinstance(code, type) else _of_function(code)
            self._known[id(code)] = code, self.digest([self._part(part) for part in parts])
        return self._known[id(code)][1]

    def _part(self, part: Any) -> str:
        """Digest what code is made of; that cannot be pickled may be anything of its type."""
        try:
            return self.digest(part)
        except Exception:  # likewise
            return f"{type(part).__module__} {type(part).__qualname__}"


class _ObjectHasher(NumpyHasher):  # type: ignore[misc]  # joblib ships no types
    """Hashes tensors by their values, and classes and functions by their code.

    Pickled, tensors hold addresses. `joblib.hash` cannot be told to, and sets, strings and keys
    must not depend on the process either.

    Parameters
    ----------
    code : _Code
    """

    def __init__(self, code: _Code) -> None:
        super().__init__(hash_name="md5")
        self._code = code

    def save(self, obj: Any) -> None:
        if isinstance(obj, type | FunctionType):
            if _is_foreign(obj):
                obj = "code", self._code.of(obj)
        elif isinstance(obj, set | frozenset):
            obj = type(obj).__name__, sorted(map(self._code.digest, obj))
        else:
            obj = _plain(obj)
        super().save(obj)

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *args: Any) -> None:
        # Not by joblib, which leaves out values that raise a TypeError.
        by_key = sorted(((self._code.digest(key), each) for key, each in items), key=itemgetter(0))
        super(Hasher, self)._batch_setitems(iter(by_key), *args)


def _plain(obj: Any) -> Any:
    """Give what counts of an object in others that can be pickled, or are digested themselves."""
    for kind, parts_of in PARTS.items():
        if isinstance(obj, kind):
            return type(obj).__name__, *parts_of(obj)
    return obj


def bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """Give the bytes of a tensor's values, of types that NumPy has not, too."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    found: NDArray[np.uint8] = values.numpy()
    return found


def _is_foreign(code: type | FunctionType) -> bool:
    """Tell whether code is of neither this version of Python nor a package whose version counts."""
    if isinstance(code, FunctionType) and hasattr(code, "__wrapped__"):
        return True
    return _module_of(code).partition(".")[0] not in FAMILIAR


def _module_of(code: type | FunctionType) -> str:
    """Say where code is, whatever decorators call it."""
    if isinstance(code, FunctionType):
        return str(code.__globals__.get("__name__"))
    return str(code.__module__)


def _of_class(cls: type) -> list[Any]:
    """Give what a class is, does and holds."""
    names = sorted(vars(cls).keys() - NOT_COUNTING)
    members = [vars(cls)[name] for name in names]
    return [f"{cls.__module__} {cls.__qualname__}", type(cls), *cls.__bases__, names, *members]


def _of_function(function: FunctionType) -> list[Any]:
    """Give what a function does, and what it takes beside its arguments."""
    module = _module_of(function)
    others = {name: each for name, each in vars(function).items() if name[0] != "_"}
    found = [_text_of(function.__code__), getattr(function, "__wrapped__", None)]
    if module.partition(".")[0] not in FAMILIAR:
        found += [function.__defaults__, function.__kwdefaults__, others]
    elif module != CONTEXTS:
        return [*found, {**getattr(function, "registry", {})}]
    cells = [cell for cell in function.__closure__ or () if cell != CellType()]  # not yet filled
    return [*found, *(cell.cell_contents for cell in cells)]


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
