"""How long a fit takes, beside the paper's procedure, CaBRNet and a plain linear head.

``python benchmarks/speed.py`` measures everything and writes results.md; ``--quick`` is a smoke
run of one epoch on a few images that writes nothing; ``--without-cabrnet`` leaves CaBRNet out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import cabrnet_procedure
import numpy as np
import paper_procedure
import torch
from common import load_fashion_mnist, publish
from numpy.typing import NDArray
from torch import Tensor

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._network import resolve_precision, working_conditions

SIDE = 64
SEEDS = (0, 1, 2)
"""Of ours, the first of which is compared with the others: accuracy depends on them."""
BACKBONE_RATE = 1e-3
"""Ours for a backbone with random weights; the paper's 1e-4 is for a pretrained one."""
PHASES = ("warmup", "joint", "projection", "last_layer")
PHASE_NAMES = ("warm-up", "joint epochs", "projection", "last layer")


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    n_train: int = 2_000
    n_test: int = 10_000
    warmup_epochs: int = 5
    joint_epochs: int = 10


QUICK = Size(n_train=200, n_test=200, warmup_epochs=1, joint_epochs=1)


@dataclass(frozen=True)
class Data:
    """The same images for all: pixels for ours, standardised ones for the others."""

    pixels: NDArray[np.uint8]
    """(n, SIDE, SIDE, 3)"""
    labels: NDArray[np.int64]
    standardized: Tensor
    """(n, 3, SIDE, SIDE) float32"""

    def labelled_tensors(self) -> tuple[Tensor, Tensor]:
        """Standardised images and labels."""
        return self.standardized, torch.from_numpy(self.labels)

    def labelled_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Standardised images and labels as arrays."""
        return self.standardized.numpy(), self.labels


@dataclass(frozen=True)
class Result:
    """What one contestant took and reached."""

    name: str
    seconds: dict[str, float]
    """Of `PHASES`, as far as there are any, and ``total``."""
    accuracy: float

    @property
    def rest(self) -> float:
        """Seconds that no phase accounts for."""
        return self.seconds["total"] - sum(self.seconds.get(phase, 0) for phase in PHASES)


def load(size: Size) -> tuple[Data, Data]:
    """Fashion-MNIST, training and test part: resized, grey in three channels."""
    X, y, X_test, y_test = load_fashion_mnist()
    train, test = resized(X[: size.n_train]), resized(X_test[: size.n_test])
    values = train[..., 0].astype(np.float64)
    mean, scale = float(values.mean()), float(values.std())

    def data(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Data:
        standardized = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / scale
        return Data(pixels, labels.astype(np.int64), standardized.contiguous())

    return data(train, y[: size.n_train]), data(test, y_test[: size.n_test])


def resized(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize (n, height, width) images bilinearly to (n, SIDE, SIDE, 3)."""
    grey = torch.from_numpy(images.copy()).float()[:, None]
    large = torch.nn.functional.interpolate(grey, (SIDE, SIDE), mode="bilinear")
    pixels = large.round().byte().permute(0, 2, 3, 1)  # (n, SIDE, SIDE, 1)
    return pixels.expand(-1, -1, -1, 3).contiguous().numpy()


def ours(size: Size, train: Data, test: Data, seed: int) -> Result:
    """Time `ProtoPNetClassifier`: phases from its history, the whole fit by the clock."""
    clf = ProtoPNetClassifier(
        backbone="resnet18",
        pretraining_epochs=0,
        warmup_epochs=size.warmup_epochs,
        joint_epochs=size.joint_epochs,
        backbone_learning_rate=BACKBONE_RATE,
        augment=None,
        random_state=seed,
    )
    start = time.perf_counter()
    clf.fit(train.pixels, train.labels)
    total = time.perf_counter() - start
    phases = clf.history_table().groupby("stage")["seconds"].sum()
    seconds = {phase: float(phases[phase]) for phase in PHASES}
    name = f"ProtoPNetClassifier, backbone rate {BACKBONE_RATE:g}, seed {seed}"
    return Result(name, {**seconds, "total": total}, clf.score(test.pixels, test.labels))


def paper(size: Size, train: Data, test: Data, rates: paper_procedure.Rates) -> Result:
    """Time (a), the paper's procedure in plain PyTorch."""
    fit = paper_procedure.fit(
        *train.labelled_tensors(),
        warmup_epochs=size.warmup_epochs,
        joint_epochs=size.joint_epochs,
        rates=rates,
    )
    accuracy = paper_procedure.evaluate(fit.network, *test.labelled_tensors())
    name = f"(a) the paper's procedure, backbone rate {rates.backbone:g}"
    return Result(name, fit.seconds, accuracy)


def cabrnet(size: Size, train: Data, test: Data, rates: paper_procedure.Rates) -> Result:
    """Time (b), CaBRNet's training of ProtoPNet."""
    found = cabrnet_procedure.fit_and_score(
        train.labelled_arrays(),
        test.labelled_arrays(),
        warmup_epochs=size.warmup_epochs,
        joint_epochs=size.joint_epochs,
        backbone_rate=rates.backbone,
    )
    name = f"(b) CaBRNet {cabrnet_procedure.VERSION}, backbone rate {rates.backbone:g}"
    return Result(name, found["seconds"], found["accuracy"])


def linear_head(
    size: Size, train: Data, test: Data, *, channels_last: bool, bfloat16: bool
) -> Result:
    """Time (c), the bare backbone with a linear head."""
    with working_conditions(tiny=False) if channels_last else nullcontext():
        seconds, accuracy = paper_procedure.linear_head(
            train.labelled_tensors(),
            test.labelled_tensors(),
            epochs=size.joint_epochs,
            rate=BACKBONE_RATE,
            channels_last=channels_last,
            bfloat16=bfloat16,
        )
    how = [
        "bfloat16" if bfloat16 else "float32",
        *(["channels_last and freed memory kept, as ours"] if channels_last else []),
    ]
    name = f"(c) linear head, {' '.join(how)}, rate {BACKBONE_RATE:g}"
    return Result(name, {"joint": seconds, "total": seconds}, accuracy)


def contest(size: Size, *, with_cabrnet: bool) -> Iterator[Result]:
    """Run one contestant after the other, ours last: it sets up glibc's memory for itself."""
    train, test = load(size)
    if with_cabrnet:
        cabrnet_procedure.environment()  # if it cannot be made, better now than in half an hour
    for rates in (paper_procedure.Rates(), paper_procedure.Rates(backbone=BACKBONE_RATE)):
        yield paper(size, train, test, rates)
        if with_cabrnet:
            yield cabrnet(size, train, test, rates)
    for channels_last in (False, True):
        yield linear_head(size, train, test, channels_last=channels_last, bfloat16=False)
    # One that emulates it took ten times as long.
    if resolve_precision("auto", torch.device("cpu"), is_small=False) == torch.bfloat16:
        yield linear_head(size, train, test, channels_last=True, bfloat16=True)
    for seed in SEEDS:
        yield ours(size, train, test, seed)


def seconds_line(result: Result) -> str:
    """One contestant's seconds; what no phase accounts for has a column of its own."""
    parts = [f"{result.seconds[p]:.2f}" if p in result.seconds else "" for p in PHASES]
    cells = [
        *parts,
        f"{result.rest:.2f}",
        f"{result.seconds['total']:.1f}",
        f"{result.accuracy:.4f}",
    ]
    return f"| {result.name} | {' | '.join(cells)} |"


def ratio_line(result: Result, mine: Result) -> str:
    """Seconds of another contestant in units of ours, and how much more accurate ours is."""
    theirs, own, keys = result.seconds, mine.seconds, (*PHASES, "total")
    ratios = [f"{theirs[key] / own[key]:.2f}" if key in theirs else "" for key in keys]
    points = 100 * (mine.accuracy - result.accuracy)
    return f"| {result.name} | {' | '.join(ratios)} | {points:+.2f} |"


def main(size: Size, *, is_quick: bool, with_cabrnet: bool) -> None:
    """Print every result as it comes, then write the tables."""
    results = []
    for result in contest(size, with_cabrnet=with_cabrnet):
        results.append(result)
        print(seconds_line(result), flush=True)
    others, mine = results[: -len(SEEDS)], results[-len(SEEDS)]
    lines = [
        f"ResNet-18 from scratch, {size.n_train:,} Fashion-MNIST images at {SIDE}x{SIDE} in three "
        f"channels, {size.warmup_epochs} warm-up and {size.joint_epochs} joint epochs, batches of "
        f"{paper_procedure.BATCH_SIZE}, 10 prototypes per class, depth 128, no augmentation, one "
        f"projection, last layer; accuracy on {size.n_test:,} test images. All in one run, one "
        "after the other, seed 0; ours with two more seeds as well. (a) and (b) run with the "
        "paper's rate for the backbone and with ours, since accuracy depends on it. (c) trains for "
        "the joint epochs only, with ours: as PyTorch comes, under the conditions that ours makes "
        "for itself, and in bfloat16 too where the processor multiplies in it. Our warm-up "
        "includes the maps of the frozen backbone, which are computed once. The rest is what no "
        "phase accounts for.",
        "",
        f"| seconds | {' | '.join(PHASE_NAMES)} | rest | whole fit | test accuracy |",
        f"|---|{'---|' * (len(PHASES) + 3)}",
        *map(seconds_line, results),
        "",
        f"| seconds / ours | {' | '.join(PHASE_NAMES)} | whole fit | ours more accurate, points |",
        f"|---|{'---|' * (len(PHASES) + 2)}",
        *(ratio_line(result, mine) for result in others),
    ]
    publish("Speed", lines, is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without-cabrnet", action="store_true")
    given = parser.parse_args()
    main(
        QUICK if given.quick else Size(),
        is_quick=given.quick,
        with_cabrnet=not given.without_cabrnet,
    )
