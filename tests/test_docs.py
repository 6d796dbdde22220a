"""The documentation holds: docstrings are complete, and code in prose runs as written."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from numpydoc.validate import validate

import sklearn_protopnet
from sklearn_protopnet import datasets, editing, inspection, metrics

ROOT = Path(__file__).parents[1]

PUBLIC_MODULES = (sklearn_protopnet, datasets, editing, inspection, metrics)

# Sections and parameters are there, in order, and described; summaries are one sentence.
CHECKED = {
    *("GL01", "GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10"),
    *("SS01", "SS02", "SS03", "SS04", "SS05", "SS06", "ES01"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR07", "PR08", "PR09", "PR10"),
    *("RT01", "RT02", "RT03", "RT04", "RT05", "YD01", "SA02", "SA03", "SA04"),
} - {
    "GL01",  # the summary stands on the line of the quotes
    "ES01",  # a summary may say it all
    "RT02",  # a name for what is returned is allowed
    "PR06",  # "torch.nn.Module or {...}" are types enough
    "SA04",  # a name in See Also may speak for itself
}


def own_members(cls):
    """Public methods and properties that the package itself defines, in bases of its own too."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("sklearn_protopnet")]
    for name, member in {name: getattr(cls, name) for base in ours for name in vars(base)}.items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        is_ours = getattr(function, "__module__", "").startswith("sklearn_protopnet")
        if not name.startswith("_") and (is_ours or isinstance(member, property)):
            yield name


def public_names(module):
    """Names that a module exports, and the public members of the classes among them."""
    for name in module.__all__:
        yield f"{module.__name__}.{name}"
        value = getattr(module, name)
        if inspect.isclass(value):
            yield from (f"{module.__name__}.{name}.{member}" for member in own_members(value))


def python_blocks(text):
    """Fenced blocks of Python, with their first lines."""
    for match in re.finditer(r"^```python[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        yield text[: match.start(1)].count("\n"), match[1]


@pytest.fixture
def no_windows():
    before = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_docstrings_are_complete(module):
    found = [
        f"{name}: {code}: {text}"
        for name in public_names(module)
        for code, text in validate(name)["errors"]
        if code in CHECKED
    ]
    assert not found


def test_methods_that_the_package_defines_are_validated_and_inherited_ones_are_not():
    names = {name for module in PUBLIC_MODULES for name in public_names(module)}
    assert "sklearn_protopnet.ProtoPNetClassifier.fit" in names
    assert "sklearn_protopnet.inspection.ExplanationDisplay.from_estimator" in names
    assert "sklearn_protopnet.ProtoPNetClassifier.set_fit_request" not in names


def test_api_page_lists_every_public_name():
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8").split()
    for module in PUBLIC_MODULES:
        prefix = module.__name__.removeprefix("sklearn_protopnet").removeprefix(".")
        expected = {f"{prefix}.{name}".removeprefix(".") for name in module.__all__}
        assert expected <= set(page)


def test_readme_runs_as_written(tmp_path, monkeypatch, no_windows):
    blocks = list(python_blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    assert blocks
    for line, code in blocks:
        # Blank lines in front make a traceback name the line of the README.
        exec(compile("\n" * line + code, "README.md", "exec"), namespace)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "user_guide").glob("*.rst")), ids=lambda page: page.stem
)
def test_user_guide_shows_what_its_code_prints(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_architecture_page_names_what_there_is():
    page = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    for path in re.findall(r"``([\w/]+(?:/|\.py|\.rst|\.md))``", page):
        assert any((ROOT / folder / path).exists() for folder in ("sklearn_protopnet", "")), path
    for name in re.findall(r"``(_\w+(?:\.(?!py``)\w+)+)``", page):
        assert pkgutil.resolve_name(f"sklearn_protopnet.{name}")


def test_examples_parse_and_have_a_title():
    for path in sorted((ROOT / "examples").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, path.name
        if path.name.startswith("plot_"):
            title, underline, *_ = docstring.splitlines()
            assert underline == "=" * len(title), path.name


def test_benchmarks_import(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        if path.stem == "cabrnet_worker":  # runs in an environment of its own
            compile(code, path.name, "exec")
            continue
        module = importlib.import_module(path.stem)
        is_script = '__name__ == "__main__"' in code
        assert not is_script or callable(module.main), path.name
