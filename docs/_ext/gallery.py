"""What examples are told when the gallery runs them."""

from typing import Any


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Give the command line of an example: one that takes long is to take less."""
    del gallery_conf
    return ["--reduced"] if script_vars["src_file"].endswith("plot_solar_cells.py") else []
