"""The house stands: what import-linter cannot tell from imports alone."""

import ast
from pathlib import Path

import pytest

import sklearn_protopnet

PACKAGE = Path(sklearn_protopnet.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ESTIMATORS = [PACKAGE / "_classifier.py", PACKAGE / "_ensemble.py"]
"""Modules that define estimators."""

FITTED = {"classifier", "clf"}
"""Names of what is a fitted classifier; an ``estimator`` may be a pipeline or a search as well."""

MAX_LINES = 320
LONGER = {
    "_classifier.py": "the whole public interface, of which two thirds are docstrings",
    "_ensemble.py": "the whole public interface, of which most is docstrings",
    "editing/_editor.py": "all that an expert can do, of which two thirds are docstrings",
    "_fitted_state.py": "a check for each value that a fit leaves",
}
"""Rooms that may be larger, each with its reason."""


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path):
    return path.relative_to(PACKAGE).as_posix()


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_names(tree):
    """Private methods of the public classes in a module, and what they assign to ``self``."""
    names = set()
    for cls in tree.body:
        if not isinstance(cls, ast.ClassDef) or is_private(cls.name):
            continue
        for node in ast.walk(cls):
            match node:
                case ast.FunctionDef(name=name):
                    names.add(name)
                case ast.Attribute(attr=name, value=ast.Name(id="self"), ctx=ast.Store()):
                    names.add(name)
    return {name for name in names if is_private(name)}


def private_reads(tree, names):
    """Lines where one of the names is read off anything but the ``self`` of another class."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self")):
                pass
            case ast.Attribute(attr=name) if name in names:
                yield node.lineno, name
            case ast.Constant(value=str(name)) if name in names:  # getattr, vars
                yield node.lineno, name


def untyped_classifiers(tree):
    """Lines of parameters and fields that are a fitted classifier and are typed as anything."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, annotation=ast.Name(id="Any")) if name in FITTED:
                yield node.lineno, name
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="Any")) if (
                name in FITTED
            ):
                yield node.lineno, name


def private_imports(tree):
    """Lines where a private name of another package is imported."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=module, names=aliases):
                imported = [f"{module}.{alias.name}" for alias in aliases]
            case ast.Import(names=aliases):
                imported = [alias.name for alias in aliases]
            case _:
                continue
        for name in imported:
            package, *parts = name.split(".")
            if package != PACKAGE.name and any(map(is_private, parts)):
                yield node.lineno, name


SOURCE = ast.parse(
    """
class Estimator:
    def fit(self):
        self._network, self.coef_ = 1, 2
        self._private()
    def _private(self): ...
    def __len__(self): ...

class _Helper:
    def _other(self): ...
"""
)


def test_private_names_are_those_of_public_classes():
    assert private_names(SOURCE) == {"_network", "_private"}


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("estimator._network", True),
        ("images.classifier._private()", True),
        ("x = search.best_estimator_._network.head", True),
        ("getattr(estimator, '_network')", True),
        ("vars(estimator)['_network']", True),
        ("estimator.coef_", False),
        ("estimator._other()", False),
        ("self._network", False),
        ("getattr(estimator, 'coef_')", False),
    ],
)
def test_a_private_read_is_found(code, is_found):
    assert bool(list(private_reads(ast.parse(code), private_names(SOURCE)))) == is_found


def test_nobody_reads_what_is_private_to_an_estimator():
    names = set().union(*(private_names(parsed(path)) for path in ESTIMATORS))
    found = [
        f"{room(path)}:{line}: {name}"
        for path in MODULES
        if path not in ESTIMATORS
        for line, name in private_reads(parsed(path), names)
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("def explain(X: Any, *, clf: Any): ...", True),
        ("class Opened:\n    classifier: Any", True),
        ("def explain(X: Any, clf: FittedClassifier | None): ...", False),
        ("def explain(estimator: Any): ...", False),
    ],
)
def test_an_untyped_classifier_is_found(code, is_found):
    assert bool(list(untyped_classifiers(ast.parse(code)))) == is_found


def test_fitted_classifiers_have_a_type():
    found = [
        f"{room(path)}:{line}: {name}"
        for path in MODULES
        for line, name in untyped_classifiers(parsed(path))
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("from sklearn.utils._param_validation import Interval", True),
        ("from sklearn.base import _fit_context as fit_context", True),
        ("import torch.utils._python_dispatch", True),
        ("from sklearn.base import BaseEstimator", False),
        ("from sklearn_protopnet._compat import Interval", False),
        ("from __future__ import annotations", False),
    ],
)
def test_a_private_import_is_found(code, is_found):
    assert bool(list(private_imports(ast.parse(code)))) == is_found


def test_private_names_of_others_are_imported_in_one_room():
    found = [
        f"{room(path)}:{line}: {name}"
        for path in MODULES
        if room(path) != "_compat.py"
        for line, name in private_imports(parsed(path))
    ]
    assert not found


def test_a_room_fits_in_one_view():
    lines = {room(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name for name, n_lines in lines.items() if n_lines > MAX_LINES} <= set(LONGER)
