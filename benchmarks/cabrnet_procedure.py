"""CaBRNet's ProtoPNet on the same images, in a virtual environment and a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

VERSION = "1.2"
ENVIRONMENT = Path(__file__).with_name(".cabrnet")
"""Some 7 GB; made once."""
WORKER = Path(__file__).with_name("cabrnet_worker.py")

Images = tuple[NDArray[np.float32], NDArray[np.int64]]


def environment() -> Path:
    """Make the virtual environment unless it is there; give its Python.

    It gets the torch and torchvision that run here, so that only CaBRNet's code differs. A
    requirement of CaBRNet is built from source: a C++ compiler must be installed.

    Raises
    ------
    RuntimeError
        If this Python is too new for CaBRNet.
    """
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".installed"
    if sys.version_info >= (3, 13):
        raise RuntimeError(
            f"CaBRNet {VERSION} must run on Python 3.10 to 3.12, found "
            f"{sys.version.split()[0]}; speed.py --without-cabrnet leaves it out."
        )
    versions = [
        f"cabrnet=={VERSION}",
        *(f"{it.__name__}=={it.__version__.split('+')[0]}" for it in (torch, torchvision)),
    ]
    if not stamp.exists() or stamp.read_text().split() != versions:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        (ENVIRONMENT / ".gitignore").write_text("*\n")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *versions], check=True)
        stamp.write_text("\n".join(versions))
    return python


def fit_and_score(
    train: Images,
    test: Images,
    *,
    warmup_epochs: int = 5,
    joint_epochs: int = 10,
    backbone_rate: float = 1e-4,
    seed: int = 0,
    n_on_the_way: int = 2_000,
) -> dict[str, Any]:
    """Train CaBRNet's ProtoPNet as `cabrnet_worker` says, and score it.

    Parameters
    ----------
    train, test : (ndarray of shape (n, 3, height, width), ndarray of shape (n,))
        Standardised images, and classes from 0 to K - 1.
    warmup_epochs, joint_epochs : int
    backbone_rate : float
        Adam's, in the joint epochs.
    seed : int
    n_on_the_way : int
        Test images that are looked at after every epoch.

    Returns
    -------
    dict
        ``seconds`` of ``warmup``, ``joint``, ``projection``, ``last_layer`` and their ``total``,
        model construction included; ``accuracy`` on the test images; ``curve``, pairs of seconds
        and the accuracy after them on those for the way; ``versions``.
    """
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip(("X", "y", "X_test", "y_test"), (*train, *test), strict=True):
            np.save(Path(folder) / f"{name}.npy", array)
        numbers = map(str, (warmup_epochs, joint_epochs, backbone_rate, seed, n_on_the_way))
        # Isolated: neither the caller's PYTHONPATH nor the user's packages.
        command = [str(python), "-I", str(WORKER), folder, *numbers]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
