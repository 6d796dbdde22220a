"""The gates are the same for everybody: versions, floors and hooks."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FLOORS = runpy.run_path(str(ROOT / "tools" / "floors.py"))


def names_of(requirements):
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def test_every_development_tool_is_pinned_and_no_library_is():
    extras = PROJECT["optional-dependencies"]
    groups = [PROJECT["dependencies"], *(extras[name] for name in FLOORS["LIBRARY_EXTRAS"])]
    libraries = names_of(requirement for group in groups for requirement in group)
    tools = names_of([*extras["test"], *extras["docs"], *extras["hooks"]]) - {PROJECT["name"]}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert tools <= pinned
    assert not pinned & libraries


def test_floors_are_what_the_package_declares():
    project = {
        "dependencies": ["numpy>=2.0", "scikit-learn>=1.9.1"],
        "optional-dependencies": {"plot": ["matplotlib>=3.9"], "test": ["pytest>=8.3"]},
    }
    assert FLOORS["floors"](project) == ["numpy==2.0", "scikit-learn==1.9.1", "matplotlib==3.9"]
    assert len(FLOORS["floors"](PROJECT)) > len(PROJECT["dependencies"])


def test_a_library_without_a_floor_is_an_error():
    with pytest.raises(ValueError, match="must read"):
        FLOORS["floors"]({"dependencies": ["numpy"]})


def test_hooks_run_what_the_gates_run():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    commands = recipe.replace("$(BIN)", ".venv/bin").replace("\t", "").splitlines()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", hooks) == commands
