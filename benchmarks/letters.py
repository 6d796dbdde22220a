"""Images of capital letters in many typefaces, from Debian's packages of fonts.

``apt-get install --no-install-recommends`` and `PACKAGES`.
"""

from __future__ import annotations

import string
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PACKAGES = ("fonts-aenigma", "fonts-dustin", "fonts-freefont-ttf", "fonts-lmodern")
"""Of mostly fancy typefaces, some of which come in several cuts."""
N_GROUPS = 150
"""So many groups of typefaces, by the first word of the name: cuts of one do not part."""
SIDE, LARGEST = 28, 22
"""Pixels of an image, and of the longer side of a letter in its middle."""


def faces() -> list[list[Path]]:
    """Font files, one of each typeface, grouped by the first word of its name."""
    listed = subprocess.run(["dpkg", "-L", *PACKAGES], stdout=subprocess.PIPE, check=False)
    files = sorted(
        path
        for path in map(Path, listed.stdout.decode().split("\n"))
        if path.suffix in {".ttf", ".otf"} and path.exists()
    )
    groups: dict[str, dict[str, Path]] = {}
    for path in files:
        family, _ = ImageFont.truetype(path, SIDE).getname()
        if "Math" not in family:
            groups.setdefault(family.split()[0], {}).setdefault(family, path)
    if len(groups) < N_GROUPS:
        raise FileNotFoundError(f"Debian's packages {', '.join(PACKAGES)} must be installed.")
    return [list(group.values()) for _, group in sorted(groups.items())]


def drawn(letter: str, path: Path) -> NDArray[np.uint8]:
    """Draw a letter, white on black, as large as the image allows; nothing of one without ink."""
    font = ImageFont.truetype(path, 4 * SIDE)
    left, top, right, bottom = font.getbbox(letter)
    large = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(large).text((-left, -top), letter, fill=255, font=font)
    scale = LARGEST / max(large.size)
    size = tuple(max(1, round(scale * side)) for side in large.size)
    image = Image.new("L", (SIDE, SIDE))
    image.paste(
        large.resize(size, Image.Resampling.LANCZOS),
        tuple((SIDE - side) // 2 for side in size),
    )
    return np.asarray(image)


def load_letters(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.str_], NDArray, NDArray]:
    """Images and letters for training and for the test, whose typefaces are others: a quarter."""
    groups = faces()
    random = np.random.default_rng(seed)
    chosen = [groups[i] for i in random.permutation(len(groups))[:N_GROUPS]]
    picked = [group[random.integers(len(group))] for group in chosen]
    letters = np.array(list(string.ascii_uppercase))
    images = np.stack([[drawn(letter, path) for letter in letters] for path in picked])
    has_ink = images.any((2, 3))  # (faces, 26)
    is_test = np.arange(N_GROUPS) < N_GROUPS // 4
    y = np.broadcast_to(letters, has_ink.shape)
    train, test = has_ink & ~is_test[:, None], has_ink & is_test[:, None]
    return images[train], y[train], images[test], y[test]
