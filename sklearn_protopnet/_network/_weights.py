"""Trained weights: where they come from, and whether they fit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision import models

from sklearn_protopnet._network import _efficientnet_lite

IMAGENET: Final = "imagenet"
"""The weights that a network was published with."""

CLASSIFIERS: Final = ("fc.", "classifier.")
"""How the names of what comes after the feature map begin."""

COUNTERS: Final = ".num_batches_tracked"
"""How the names of counters end that older files do not have, and that nothing depends on."""

OLD_NAMES: Final = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in the published files of DenseNets, which torchvision writes without the last dot."""

NAMED: Final = 5
"""Keys that a message names at most."""


def load_weights(
    network: nn.Module, name: str, weights: str | None, *, is_published: bool = True
) -> None:
    """Load weights into a network, all of them but a classifier's.

    Parameters
    ----------
    network : Module
    name : str
        Of the network.
    weights : {"imagenet"}, path of a state dict or None
        With None the network stays as it is.
    is_published : bool
        Whether there are weights trained on ImageNet; the network then has a classifier that is
        not used.

    Raises
    ------
    ImportError
        If they come from a package that is not installed.
    OSError
        If they must be fetched and cannot be, or the file cannot be read.
    ValueError
        If there are none, or they do not fit.
    """
    if weights is None:
        return
    if weights != IMAGENET:
        found = _read_state(weights)
    elif is_published:
        found = _published_state(name)
    else:
        raise ValueError(
            "weights='imagenet' needs a backbone that was published with such weights, got "
            f"{name!r}."
        )
    wanted = network.state_dict()
    if is_published:
        if name == "efficientnet_lite0":
            found = _efficientnet_lite.with_own_names(found)
        found = {OLD_NAMES.sub(r"\1\2", key): value for key, value in found.items()}
        problem = _mismatch(_less_classifier(wanted), _less_classifier(found))
    else:
        problem = _mismatch(wanted, found)
    if problem:
        raise ValueError(
            f"weights={weights!r} must hold the state dict of the backbone {name}: {problem}."
        )
    fitting = {k: v for k, v in found.items() if k in wanted and v.shape == wanted[k].shape}
    network.load_state_dict(fitting, strict=False)


def published_standardization(
    name: str | nn.Module, weights: str | None, channels: int
) -> tuple[list[float], list[float]] | None:
    """Give the mean and the scale of each channel, of 0 to 255, that published weights expect.

    On photographs of solar cells a linear probe of EfficientNet-Lite0 had a test AUC of 0.906
    with these and 0.897 with the mean and scale of the training images (mean of five splits).

    Returns
    -------
    mean, scale : list of float, of length C
        Or None, where weights are not the published ones.
    """
    if weights != IMAGENET or name == "auto" or isinstance(name, nn.Module):
        return None
    if name == "efficientnet_lite0":
        mean, scale = [_efficientnet_lite.PIXEL_MEAN] * 3, [_efficientnet_lite.PIXEL_SCALE] * 3
    else:
        expected: Any = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
        mean, scale = (
            [255 * value for value in values] for values in (expected.mean, expected.std)
        )
    return (mean, scale) if channels == 3 else ([sum(mean) / 3], [sum(scale) / 3])


def weights_key(name: str, weights: str | None) -> str | None:
    """Digest what weights there are, for the key of a cache."""
    if weights is None:
        return None
    if weights != IMAGENET:
        return blake2b(_file_of(weights).read_bytes(), digest_size=16).hexdigest()
    try:
        return f"{name} {version(_efficientnet_lite.WEIGHTS_PACKAGE)}"
    except PackageNotFoundError:
        return name


def _less_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what comes after the feature map, whose shape depends on the classes."""
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}


def _mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say how two states differ in their keys and shapes; nothing if they do not."""
    missing = [key for key in wanted if key not in found and not key.endswith(COUNTERS)]
    unknown = [key for key in found if key not in wanted]
    wrong = [
        f"{key} {tuple(found[key].shape)} for {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    groups = {"missing": missing, "not known": unknown, "of another shape": wrong}
    return "; ".join(f"{what}: {_list(keys)}" for what, keys in groups.items() if keys)


def _list(keys: list[str]) -> str:
    rest = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _file_of(path: str | os.PathLike[str]) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"weights must be None, 'imagenet' or the path of a state dict, got {str(path)!r}, "
            "which is no file."
        )
    return file


def _read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict without executing anything."""
    file = _file_of(path)
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each raise their own
        raise ValueError(
            f"weights={str(path)!r} must be a file that torch.save wrote from a state_dict(): "
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    if not isinstance(found, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    ):
        raise ValueError(
            f"weights={str(path)!r} must hold a state dict, names and tensors, found "
            f"{type(found).__name__}."
        )
    return dict(found)


def _published_state(name: str) -> dict[str, Tensor]:
    """Weights trained on ImageNet: from a package, or fetched once by torchvision."""
    if name == "efficientnet_lite0":
        return _efficientnet_lite.imagenet_state()
    weights: Any = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # urllib's errors are such
        raise OSError(
            f"weights='imagenet' of {name!r} are fetched once from {weights.url}, which failed: "
            f"{error}. Offline, put that file into {_fetched_folder()}, or use "
            "backbone='efficientnet_lite0', whose weights are a package."
        ) from error
    except Exception as error:  # of a file: pickle, zipfile and torch each raise their own
        raise ValueError(
            f"weights='imagenet' of {name!r} must be the file {weights.url}; something else came, "
            f"or is in {_fetched_folder()}, where it should be deleted: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    return state


def _fetched_folder() -> Path:
    """Where torchvision keeps what it has fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints"
