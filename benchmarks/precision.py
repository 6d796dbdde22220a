"""Accuracy of training steps in bfloat16 beside float32, on digits and Fashion-MNIST.

``python benchmarks/precision.py`` measures everything and writes results.md; ``--quick`` is a smoke
run that writes nothing. A processor without bfloat16 computes in it a hundred times as slowly.
There its rounding is emulated: what autocast would give to an operator in bfloat16 is rounded to
it, and so is what comes out, gradients included; sums are in float32, as processors have them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import load_fashion_mnist, publish, split_digits
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's name for it
from torch.overrides import TorchFunctionMode

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._network import resolve_precision

SEEDS = (0, 1, 2)
N_FASHION = 3_000


class Rounded(torch.autograd.Function):
    """Rounds to bfloat16 and stays in float32, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004 - as autograd calls it
        """Round values."""
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        """Round their gradient."""
        return gradient.bfloat16().float()


def rounded(value: Any) -> Any:
    """Round a tensor of float32; leave anything else as it is."""
    is_float = isinstance(value, Tensor) and value.dtype == torch.float32
    return Rounded.apply(value) if is_float else value


class EmulatedAutocast(TorchFunctionMode):
    """Rounds where ``torch.autocast`` would compute in bfloat16.

    Parameters
    ----------
    device_type, dtype, enabled
        As for ``torch.autocast``.
    """

    CAST = (torch.conv2d, F.linear, F.conv2d)
    """Operators that autocast runs in bfloat16."""
    AS_GIVEN = (
        F.batch_norm,
        F.relu,
        F.max_pool2d,
        F.avg_pool2d,
        torch.sigmoid,
        Tensor.sigmoid,
    )
    """Operators that give the dtype that they get, which is bfloat16 after one of these."""

    def __init__(
        self,
        device_type: str,
        dtype: torch.dtype | None = None,
        *,
        enabled: bool = True,
        cache_enabled: bool = False,  # noqa: ARG002 - nothing is kept here
    ) -> None:
        super().__init__()
        self.enabled = enabled and dtype == torch.bfloat16 and device_type == "cpu"

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if self.enabled and func in self.CAST:
            args, given = tuple(map(rounded, args)), {k: rounded(v) for k, v in given.items()}
            return rounded(func(*args, **given))
        if self.enabled and func in self.AS_GIVEN:
            return rounded(func(*args, **given))
        return func(*args, **given)


def digits(seed: int) -> tuple[Any, ...]:
    """Images and labels for training and for the test, stratified 75/25."""
    return *split_digits(seed), {"image_shape": (8, 8)}


def fashion(seed: int) -> tuple[Any, ...]:  # noqa: ARG001 - one split for all seeds
    """Images and labels for training and for the test."""
    X, y, X_test, y_test = load_fashion_mnist()
    return X[:N_FASHION], y[:N_FASHION], X_test, y_test, {}


def accuracy(data: tuple[Any, ...], seed: int, precision: str, **parameters: Any) -> float:
    """Test accuracy of a fit."""
    X, y, X_test, y_test, shape = data
    has_bfloat16 = resolve_precision("auto", torch.device("cpu"), is_small=False) == torch.bfloat16
    is_emulated = precision == "bfloat16" and not has_bfloat16
    clf = ProtoPNetClassifier(
        random_state=seed, precision=precision, device="cpu", **shape, **parameters
    )
    with mock.patch.object(torch, "autocast", EmulatedAutocast) if is_emulated else nullcontext():
        clf.fit(X, y)
    return float(clf.score(X_test, y_test))


def main(*, is_quick: bool) -> None:
    """Measure everything."""
    parameters = {"pretraining_epochs": 1, "joint_epochs": 1} if is_quick else {}
    sets = (
        {"digits, 75/25": digits}
        if is_quick
        else {
            "digits, 75/25": digits,
            f"Fashion-MNIST, {N_FASHION:,} training images": fashion,
        }
    )
    lines = [
        "Test accuracy with the defaults, paired by seed. On a processor without bfloat16 its "
        "rounding is emulated.",
        "",
        "| set | seeds | float32 | bfloat16 | difference | its standard error |",
        "|---|---|---|---|---|---|",
    ]
    for name, load in sets.items():
        found = np.array(
            [
                [accuracy(load(seed), seed, each, **parameters) for each in ("float32", "bfloat16")]
                for seed in SEEDS
            ]
        )  # (seeds, 2)
        differences = found[:, 1] - found[:, 0]
        error = differences.std(ddof=1) / np.sqrt(len(SEEDS))
        means = " | ".join(
            f"{column.mean():.4f} ({', '.join(f'{value:.4f}' for value in column)})"
            for column in found.T
        )
        lines.append(
            f"| {name} | {len(SEEDS)} | {means} | {differences.mean():+.4f} | {error:.4f} |"
        )
        print(lines[-1], flush=True)
    publish("Precision of the training steps", [*lines, ""], is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    torch.set_num_threads(1)
    main(is_quick=parser.parse_args().quick)
