"""How long a fit takes, beside the paper's procedure, CaBRNet and a plain linear head.

``python benchmarks/speed.py`` measures everything, writes results.md and draws the curves of
accuracy over time, of processors with and without bfloat16 apart; ``--quick`` is a smoke run of
one epoch on a few images that writes nothing; ``--without-cabrnet`` leaves CaBRNet out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cabrnet_procedure
import numpy as np
import paper_procedure
import torch
from common import load_fashion_mnist, publish, usual_epochs
from linear_head import train
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._network import FewCellProducts, resolve_precision, working_conditions

SIDE = 64
SEED = 0
"""Of all; price.py has the accuracy of ten."""
HEAD_RATES = (1e-3, 3e-3)
"""Of the linear head: ten epochs are too short for the other one, its best of as many as ours."""
PHASES = ("pretraining", "warmup", "joint", "projection", "last_layer")
PHASE_NAMES = ("pretraining", "warm-up", "joint epochs", "projection", "last layer")
PICTURES = Path(__file__).parents[1] / "docs" / "images"
SECTIONS = {
    torch.bfloat16: ("Speed", "accuracy_over_time.png"),
    torch.float32: ("Speed without bfloat16", "accuracy_over_time_float32.png"),
}
"""Title in results.md and name of the picture, by what the processor multiplies in."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    n_train: int = 2_000
    n_test: int = 10_000
    n_on_the_way: int = 2_000
    """Test images that are looked at after every epoch."""
    warmup_epochs: int = 5
    joint_epochs: int = 10
    lengths: tuple[tuple[int, int, int], ...] = (
        *((1, 1, 1), (2, 1, 2), (4, 2, 3), (8, 3, 5)),
        (0, 5, 10),
    )
    """Pretraining, warm-up and joint epochs of fits that are shorter than the defaults, the last
    one with those of the paper's procedure."""
    usual: tuple[int, int, int] | None = None
    """Those of the defaults, but in a smoke run."""


QUICK = Size(200, 200, 100, 1, 1, (), (1, 1, 1))


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
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Seconds, and the accuracy after them on the images for the way."""

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


class Contest:
    """Contestants on the same images.

    Parameters
    ----------
    size : Size
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.precision = resolve_precision("auto", torch.device("cpu"), is_small=False)
        self.train, self.test = load(size)
        images, labels = self.test.labelled_tensors()
        n = size.n_on_the_way
        self.tests = {
            "test": partial(paper_procedure.evaluate, X=images, y=labels),
            "look": partial(paper_procedure.evaluate, X=images[:n], y=labels[:n]),
        }

    def ours(self, epochs: tuple[int, int, int] | None = None, precision: str = "auto") -> Result:
        """Time `ProtoPNetClassifier`: phases from its history, the whole fit by the clock."""
        names = "pretraining_epochs", "warmup_epochs", "joint_epochs"
        lengths = {} if epochs is None else dict(zip(names, epochs, strict=True))
        clf = ProtoPNetClassifier(
            backbone="resnet18", precision=precision, random_state=SEED, **lengths
        )
        start = time.perf_counter()
        clf.fit(self.train.pixels, self.train.labels)
        total = time.perf_counter() - start
        seconds = clf.history_table().groupby("stage")["seconds"].sum().to_dict()
        is_right = clf.predict(self.test.pixels) == self.test.labels
        how = ["defaults" if epochs is None else " + ".join(map(str, epochs)) + " epochs"]
        how += [precision] if precision != "auto" else []
        name = f"ProtoPNetClassifier, {', '.join(how)}"
        on_the_way = float(is_right[: self.size.n_on_the_way].mean())
        curve = [(total, on_the_way)]
        return Result(name, {**seconds, "total": total}, float(is_right.mean()), curve)

    def paper(self, rates: paper_procedure.Rates) -> Result:
        """Time (a), the paper's procedure in plain PyTorch."""
        fit = paper_procedure.fit(
            *self.train.labelled_tensors(),
            **self.tests,
            warmup_epochs=self.size.warmup_epochs,
            joint_epochs=self.size.joint_epochs,
            rates=rates,
        )
        name = f"(a) the paper's procedure, backbone rate {rates.backbone:g}"
        return Result(name, fit.seconds, fit.accuracy, fit.curve)

    def cabrnet(self, rates: paper_procedure.Rates) -> Result:
        """Time (b), CaBRNet's training of ProtoPNet."""
        found = cabrnet_procedure.fit_and_score(
            self.train.labelled_arrays(),
            self.test.labelled_arrays(),
            warmup_epochs=self.size.warmup_epochs,
            joint_epochs=self.size.joint_epochs,
            backbone_rate=rates.backbone,
            n_on_the_way=self.size.n_on_the_way,
        )
        name = f"(b) CaBRNet {cabrnet_procedure.VERSION}, backbone rate {rates.backbone:g}"
        return Result(name, found["seconds"], found["accuracy"], found["curve"])

    def linear_head(
        self, epochs: int, rate: float, *, is_tuned: bool, precision: torch.dtype
    ) -> Result:
        """Time (c), the bare backbone with a linear head."""
        images, labels = self.train.labelled_tensors()
        layout = torch.channels_last if is_tuned else torch.contiguous_format
        watch = paper_procedure.Stopwatch(self.tests["look"])
        torch.manual_seed(SEED)
        network = nn.Sequential(
            paper_procedure.resnet18_without_head(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(512, int(labels.max()) + 1),
        ).to(memory_format=layout)
        weight_decay = paper_procedure.WEIGHT_DECAY
        with working_conditions(tiny=False) if is_tuned else nullcontext():
            train(
                network.train(),
                lambda batch: images[batch].contiguous(memory_format=layout),
                labels,
                torch.optim.Adam(network.parameters(), lr=rate, weight_decay=weight_decay),
                n_epochs=epochs,
                batch_size=paper_procedure.BATCH_SIZE,
                precision=precision,
                convolutions=FewCellProducts if is_tuned else nullcontext,
                after_epoch=lambda: watch.look(network),
            )
        seconds = {"joint": watch.now, "total": watch.now}
        how = [str(precision).removeprefix("torch."), *(["as ours works"] if is_tuned else [])]
        name = f"(c) linear head, {epochs} epochs, {', '.join(how)}, rate {rate:g}"
        return Result(name, seconds, self.tests["test"](network), watch.curve)

    def results(self, *, with_cabrnet: bool) -> Iterator[Result]:
        """Run one after the other, ours last."""
        if with_cabrnet:
            cabrnet_procedure.environment()  # if it cannot be made, better now than later
        for rates in (paper_procedure.Rates(), paper_procedure.Rates(backbone=1e-3)):
            yield self.paper(rates)
            if with_cabrnet:
                yield self.cabrnet(rates)
        low, high = HEAD_RATES
        head = partial(self.linear_head, precision=self.precision, is_tuned=True)
        usual = partial(self.linear_head, precision=torch.float32, is_tuned=False)
        yield usual(self.size.joint_epochs, low)
        yield head(self.size.joint_epochs, low)
        as_many = sum(self.size.usual or [usual_epochs(ProtoPNetClassifier(), self.size.n_train)])
        yield head(as_many, high)
        if self.precision != torch.float32:
            yield self.ours(self.size.usual, "float32")
        for epochs in self.size.lengths:
            yield self.ours(epochs)
        yield self.ours(self.size.usual)


def seconds_line(result: Result) -> str:
    """One contestant's seconds; what no phase accounts for has a column of its own."""
    parts = [f"{result.seconds[p]:.1f}" if p in result.seconds else "" for p in PHASES]
    cells = [*parts, f"{result.rest:.1f}", f"{result.seconds['total']:.1f}"]
    return f"| {result.name} | {' | '.join(cells)} | {result.accuracy:.4f} |"


def ratio_line(result: Result, mine: Result, short: list[Result]) -> str:
    """Time of another contestant in units of ours, and what ours takes to be as accurate."""
    total = result.seconds["total"]
    points = 100 * (mine.accuracy - result.accuracy)
    enough = [each for each in [*short, mine] if each.accuracy >= result.accuracy]
    least = min((each.seconds["total"] for each in enough), default=np.nan)
    share = "" if np.isnan(least) else f"{least:.1f} ({least / total:.2f})"
    return f"| {result.name} | {total / mine.seconds['total']:.2f} | {points:+.2f} | {share} |"


def draw(others: list[Result], own: list[Result]) -> Figure:
    """Draw accuracy over time: of networks on the way, and of whole fits of ours."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds of training", ylabel="test accuracy", xscale="log")
    for result in others:
        marker = "+" if len(result.curve) == 1 else ""  # a whole fit of ours
        axes.plot(*np.transpose(result.curve), label=result.name, linewidth=1, marker=marker)
    *pretrained, bare, usual = own
    points = sorted(point for result in [*pretrained, usual] for point in result.curve)
    axes.plot(*np.transpose(points), "ko--", label="ProtoPNetClassifier, whole fits", linewidth=1)
    axes.plot(*np.transpose(bare.curve), "kx", label="the same without a pretraining")
    axes.set_ylim(bottom=0.3)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=6)
    return figure


def main(size: Size, *, is_quick: bool, with_cabrnet: bool) -> None:
    """Print every result as it comes, then write the tables."""
    contest, results = Contest(size), []
    for result in contest.results(with_cabrnet=with_cabrnet):
        results.append(result)
        print(seconds_line(result), flush=True)
    n_own = len(size.lengths) + 1
    others, own = results[:-n_own], results[-n_own:]
    *short, mine = own
    title, picture = SECTIONS[contest.precision]
    if not is_quick:
        draw(others, own).savefig(PICTURES / picture, dpi=150)
    lines = [
        f"ResNet-18 from scratch, {size.n_train:,} Fashion-MNIST images at {SIDE}x{SIDE} in three "
        f"channels, batches of {paper_procedure.BATCH_SIZE}, 10 prototypes per class, depth 128, "
        f"no augmentation; accuracy on {size.n_test:,} test images. Ours with the defaults, and "
        "with fewer epochs of pretraining, warm-up and joint training; all of them whole fits, "
        f"with projection and last layer. (a) and (b) have {size.warmup_epochs} warm-up and "
        f"{size.joint_epochs} joint epochs, one projection and 20 passes for the last layer, with "
        "the paper's rate for the backbone and with ten times that, in float32. (c) as PyTorch "
        "comes, and as ours works: with the same convolutions and memory layout, "
        "in bfloat16 where the processor multiplies in it, for ten epochs and for as many as ours; "
        "its rate goes down along a cosine. Ours is in bfloat16 there as well where nothing else "
        f"is said. All in one run, one after the other, seed {SEED}. Our warm-up includes the maps "
        "of the frozen backbone, which are computed once. The rest is what no phase accounts for.",
        "",
        f"| seconds | {' | '.join(PHASE_NAMES)} | rest | whole fit | test accuracy |",
        f"|---|{'---|' * (len(PHASES) + 3)}",
        *map(seconds_line, results),
        "",
        "| | whole fit / ours with the defaults | ours more accurate, points "
        "| ours is as accurate after, s (share of its time) |",
        "|---|---|---|---|",
        *(ratio_line(result, mine, short) for result in others),
        "",
        f"Accuracy over time on the first {size.n_on_the_way:,} test images, the others' after "
        f"every epoch, out of time: ![curves](../docs/images/{picture})",
    ]
    publish(title, lines, is_quick=is_quick)


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
