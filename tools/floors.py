"""Print the declared minimum versions of the package's libraries, as constraints for pip."""

import re
import sys
import tomllib
from pathlib import Path

LIBRARY_EXTRAS = ("plot", "files", "export", "pretrained")
"""Extras whose libraries the package itself imports; the others are tools."""

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9][0-9.]*)")


def floors(project):
    """Constraints ``name==version``, one for each library of a ``[project]`` table."""
    extras = project.get("optional-dependencies", {})
    groups = [project["dependencies"], *(extras.get(name, []) for name in LIBRARY_EXTRAS)]
    found = [REQUIREMENT.fullmatch(requirement) for group in groups for requirement in group]
    if not all(found):
        raise ValueError('Each requirement of a library must read "name>=version".')
    return [f"{match[1]}=={match[2]}" for match in found]


if __name__ == "__main__":
    path = Path(__file__).parents[1] / "pyproject.toml"
    sys.stdout.write("\n".join(floors(tomllib.loads(path.read_text())["project"])) + "\n")
