"""A training as a function of plain data, so that its result can be cached.

The result depends on the task, not on the penalties of a last layer that comes after it: a grid
over those trains the network once.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from operator import methodcaller
from pathlib import Path
from types import CodeType
from typing import Any, Final

import torch
from joblib.hashing import NumpyHasher
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet._network import Architecture, PrototypeNetwork, ReceptiveField, seeded_draws
from sklearn_protopnet._training._canonical import canonical_numbers
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._labelled_images import LabelledImages
from sklearn_protopnet._training._stages import GradientStage, LastLayerStage, Settings, Stage
from sklearn_protopnet._training._trainer import Trainer, Training

INFLUENTIAL_PACKAGES: Final = ("numpy", "torch", "torchvision")
"""Distributions of which another version may train another network."""
INFLUENTIAL_SOURCES: Final = ("_images.py", "_last_layer", "_network", "_training")
"""Files and rooms of this package of which another text may."""


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a trained network depends on."""

    architecture: Architecture
    settings: Settings
    images: LabelledImages
    validation: LabelledImages | None
    seed: int
    device: torch.device

    def key(self) -> str:
        """Digest all that the trained network depends on, and nothing else.

        Raises
        ------
        ValueError
            If the backbone is a module that cannot be pickled.
        """
        plain = {
            "versions": [version(name) for name in INFLUENTIAL_PACKAGES],
            "sources": _sources_digest(),
            "architecture": self.architecture.plain_values(),
            "module": _module_digest(self.architecture.backbone),
            "stages": [self._influence(stage) for stage in self.settings.stages()],
            "batch_size": self.settings.batch_size,
            "weight_decay": self.settings.weight_decay,
            "cluster_weight": self.settings.cluster_weight,
            "separation_weight": self.settings.separation_weight,
            "patience": self.settings.patience,
            "images": _images_digest(self.images),
            "validation": self.validation and _images_digest(self.validation),
            "seed": self.seed,
            "device": str(self.device),
        }
        text = json.dumps(plain, default=methodcaller("item"))  # NumPy's integers
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def _influence(self, stage: Stage) -> list[Any]:
        """Say what of a stage influences the network; a last layer at the end does not."""
        if isinstance(stage, GradientStage):
            rates = [stage.decay(epoch) for epoch in range(self.settings.n_epochs)]
            return [stage.name, stage.epochs, stage.learning_rates, rates]
        if isinstance(stage, LastLayerStage) and not stage.is_last:
            return [stage.name, self.settings.l1_weight, self.settings.l2_weight]
        return [stage.name]


@dataclass(frozen=True)
class TrainedNetwork:
    """What a task leads to, in arrays and plain values."""

    training: Training
    receptive_field: ReceptiveField
    state: dict[str, NDArray[Any]]
    """Parameters and statistics of the network, and its prototypes."""
    network: PrototypeNetwork | None
    """None where it comes from a cache, and `state` has to do."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "network": None}


def train_network(
    key: str,  # noqa: ARG001 - by which joblib knows the task
    task: TrainingTask,
    on_row: Callable[[HistoryRow], None],
) -> TrainedNetwork:
    """Train a network and project its prototypes.

    Parameters
    ----------
    key : str
        The task's, where the result is cached.
    task : TrainingTask
    on_row : callable
        Called with every row of the history.

    Returns
    -------
    TrainedNetwork
    """
    network, field = task.architecture.build(task.seed)
    network.to(task.device)
    with _module_draws(task):
        training = Trainer(
            network,
            task.images,
            task.settings,
            torch.Generator().manual_seed(task.seed),
            validation=task.validation,
            on_row=on_row,
        ).run()
    return TrainedNetwork(
        training=training,
        receptive_field=field,
        state={name: value.cpu().numpy().copy() for name, value in network.state_dict().items()},
        network=network,
    )


def _module_draws(task: TrainingTask) -> AbstractContextManager[None]:
    """Dropout draws from global state, and only modules of the user's may hold one."""
    if isinstance(task.architecture.backbone, nn.Module):
        return seeded_draws(task.seed, task.device)
    return nullcontext()


@cache
def _sources_digest() -> str:
    """Digest the code that trains networks."""
    package, hasher = Path(__file__).parents[1], blake2b(digest_size=16)
    for name in INFLUENTIAL_SOURCES:
        for path in sorted([package / name, *(package / name).glob("*.py")]):
            if path.is_file():
                hasher.update(path.read_bytes())
    return hasher.hexdigest()


class _ModuleHasher(NumpyHasher):  # type: ignore[misc]  # joblib ships no types
    """Hashes tensors by their values; pickled, they hold addresses.

    `joblib.hash` cannot be told to, and sets and strings must not depend on the process either.
    """

    def save(self, obj: Any) -> None:
        if isinstance(obj, Tensor):
            as_bytes = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            shape = ",".join(map(str, obj.shape))
            obj = (type(obj).__name__, str(obj.dtype), shape, obj.requires_grad, as_bytes)
        super().save(obj)


def _module_digest(backbone: str | nn.Module) -> str | None:
    """Digest a module: its attributes and parameters, which of these are one, and its code."""
    if isinstance(backbone, str):
        return None
    try:
        module = copy.deepcopy(backbone).eval()  # training sets the mode by itself
        digest: str = _ModuleHasher(hash_name="md5").hash(module)
    except Exception as error:  # what a user's module holds may fail in any way
        raise ValueError(
            "memory needs a backbone that can be pickled, got an error from "
            f"{type(backbone).__name__}: {error}"
        ) from error
    tensors = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first = {id(tensor): name for name, tensor in reversed(tensors)}
    classes = {cls for part in module.modules() for cls in type(part).__mro__}
    code = sorted(
        _code_of(function.__code__)
        for cls in classes
        if cls.__module__.partition(".")[0] not in {"builtins", "torch", "torchvision"}
        for function in vars(cls).values()
        if hasattr(function, "__code__")
    )
    return f"{digest} {[first[id(tensor)] for _, tensor in tensors]} {code}"


def _code_of(code: CodeType) -> str:
    """Give what a function does as text, wherever its source may be."""
    constants = [_constant_of(constant) for constant in code.co_consts]
    return f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"


def _constant_of(constant: object) -> str:
    if isinstance(constant, CodeType):
        return _code_of(constant)
    if isinstance(constant, frozenset):  # whose order depends on the process
        return str(sorted(map(repr, constant)))
    return repr(constant)


def _images_digest(images: LabelledImages) -> str:
    """Digest images in the order of the set, with their labels and weights."""
    hasher = blake2b(digest_size=16)
    for row in images.members.rows:
        hasher.update(canonical_numbers(images.source.pixels[row]))
    for array in (images.members.labels, images.members.weights):
        hasher.update(array.tobytes())
    return hasher.hexdigest()
