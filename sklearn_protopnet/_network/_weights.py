"""Trained weights: where they come from, and whether they fit."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision import models

IMAGENET: Final = "imagenet"
"""By this name one asks for the weights that a network was published with."""

CLASSIFIERS: Final = ("fc.", "classifier.")
"""The names of what comes after the feature map begin so."""

COUNTERS: Final = ".num_batches_tracked"
"""The names of counters end so, which older files do not have, and that nothing depends on."""

OLD_NAMES: Final = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""The published files of DenseNets have such names; torchvision now leaves out the last dot."""

NAMED: Final = 5
"""A message names so many keys at most."""


@dataclass(frozen=True)
class Backbone:
    """A network that has a name, and all that the rest needs to know of it."""

    name: str
    build: Callable[[int, tuple[int, int]], nn.Module]
    """Builds it with random weights, as it was published, for images of so many channels, and of a
    height and a width. A network for images of one number of channels gets another first
    convolution afterwards."""
    features: Callable[[Any], nn.Module] = lambda network: network
    """Takes the layers that give the feature map, in an order in which it may be cut."""
    weights: Callable[[], Mapping[str, Tensor]] | None = None
    """Gives the state dict that it was published with, trained on ImageNet."""
    standardization: Callable[[], tuple[list[float], list[float]]] | None = None
    """Gives the mean and the scale of each channel, of 0 to 255, that these weights expect."""
    own_names: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    """Translates a state dict as published to the names of what `build` builds."""
    channels: int | None = 3
    """The channels that it was published for; None for any number."""
    is_small: bool = False
    """Whether it is fit for the image size, and small."""


def load_weights(network: nn.Module, record: Backbone, weights: str) -> None:
    """Load weights into a network as its record builds it, all of them but a classifier's.

    Parameters
    ----------
    network : Module
    record : Backbone
    weights : {"imagenet"} or path of a state dict

    Raises
    ------
    ImportError
        If they come from a package that is not installed.
    OSError
        If they must be fetched and cannot be, or the file cannot be read.
    ValueError
        If there are none, or they do not fit.
    """
    if weights != IMAGENET:
        found = record.own_names(_read_state(weights))
    elif record.weights is None:
        raise ValueError(_not_published(record.name))
    else:
        found = record.own_names(record.weights())
    wanted = network.state_dict()
    _check_fit(_less_classifier(wanted), _less_classifier(found), record.name, weights)
    fitting = {k: v for k, v in found.items() if k in wanted and v.shape == wanted[k].shape}
    network.load_state_dict(fitting, strict=False)


def load_module_weights(module: nn.Module, weights: str) -> None:
    """Load weights from a file into a module of the user's, all of them.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If they do not fit, or are those of ImageNet.
    """
    name = type(module).__name__
    if weights == IMAGENET:
        raise ValueError(_not_published(name))
    found = _read_state(weights)
    _check_fit(module.state_dict(), found, name, weights)
    module.load_state_dict(found, strict=False)


def _not_published(name: str) -> str:
    return (
        f"weights='imagenet' needs a backbone that was published with such weights, got {name!r}."
    )


def weights_digest(weights: str | None) -> str | None:
    """Digest what weights there are: by their name if they are published ones, else by value."""
    if weights is None or weights == IMAGENET:
        return weights
    return blake2b(_file_of(weights).read_bytes(), digest_size=16).hexdigest()


def torchvision_state(name: str) -> Mapping[str, Tensor]:
    """Weights that torchvision fetches once."""
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


def torchvision_standardization(name: str) -> tuple[list[float], list[float]]:
    """Mean and scale of each channel, of 0 to 255, that torchvision's weights expect."""
    expected: Any = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    mean, scale = ([255 * value for value in values] for values in (expected.mean, expected.std))
    return mean, scale


def with_new_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give values the names that torchvision's networks have now, as its files may not."""
    return {OLD_NAMES.sub(r"\1\2", key): value for key, value in state.items()}


def _less_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what comes after the feature map, whose shape depends on the classes."""
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}


def _check_fit(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], name: str, weights: str
) -> None:
    problem = _mismatch(wanted, found)
    if problem:
        raise ValueError(
            f"weights={weights!r} must hold the state dict of the backbone {name}: {problem}."
        )


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


def _fetched_folder() -> Path:
    """Where torchvision keeps what it has fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints"
