"""What makes prototypes accurate, and what does not: the defaults with one change at a time.

``python benchmarks/alternatives.py`` measures what alternatives.csv does not have yet, a row for
each change, set and seed, and writes the table of all rows to results.md and the user guide.
``--sets digits`` measures these only, ``--changes "cosine similarity"`` this change, ``--seeds 5``
more of them, and ``--quick`` is a smoke run that writes nothing. On another kind of processor the
defaults are another network: there they are measured once more, and a change is compared with the
defaults of its own kind.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from common import Journal, processor, publish
from numpy.typing import NDArray
from price import PROBLEMS, mean_of
from torch import Tensor, nn

from sklearn_protopnet._network import BACKBONES, PrototypeNetwork
from sklearn_protopnet._training import _initialization, _trainer
from sklearn_protopnet._training._epochs import GradientEpochs
from sklearn_protopnet._training._loss import Costs, weighted_cross_entropy
from sklearn_protopnet._training._optimization import WeightAverage
from sklearn_protopnet._training._stages import GradientStage

ROWS = Path(__file__).with_name("alternatives.csv")
PAGE = ROWS.parents[1] / "docs" / "user_guide" / "alternatives.csv"
"""What the user guide shows of it."""
COLUMNS = ["change", "set", "seed", "score", "zeros", "consistency", "processor"]
PAIR = ["set", "seed", "processor"]
"""What a change has in common with the defaults that it is compared with."""
PLACES = {"score": 6, "zeros": 4, "consistency": 4}
SMALL = ("digits", "digits_60", "mnist", "fashion_3k", "letters", "parts")
SETS = (*SMALL, "resnet18", "solar_frozen")
"""Of price.py, with its seeds."""
ZEROS_OF = "fashion_3k"
"""The set whose zeros are in the table."""
N_SEEDS = 2
"""Which tell what is worth more of them."""
ORTHOGONALITY_WEIGHT, MARGIN = 1e-3, 0.1
"""Of Donnelly, Barnett and Chen (Deformable ProtoPNet, CVPR 2022)."""
TEMPERATURE = 2.0
"""Of soft targets (Hinton, Vinyals and Dean 2015); half of the loss is of them."""


@dataclass(frozen=True)
class Step:
    """A step of stage 1 whose loss can be changed."""

    network: PrototypeNetwork
    maps: Tensor
    """(N, F, H, W) of the backbone"""
    labels: Tensor
    weights: Tensor
    logits: Tensor
    linear_logits: Tensor
    costs: Costs


def orthogonality(step: Step) -> Tensor:
    """``sum_c |P_c P_c^T - 1|^2`` over the unit prototypes of each class, weighted."""
    network = step.network
    vectors = nn.functional.normalize(network.prototypes.flatten(1), dim=1)  # (P, D1)
    products = vectors @ vectors.T  # (P, P)
    owners = network.prototype_classes
    of_one_class = owners[:, None] == owners
    target = torch.eye(len(products), device=products.device)
    return ORTHOGONALITY_WEIGHT * (products - target)[of_one_class].square().sum()


def angular_margin(step: Step) -> Tensor:
    """Let prototypes of other classes be nearer by an angle, where similarities are cosines."""
    network = step.network
    vectors = network.comparable(network.raw_patches(step.maps).float())  # (N, L, D1)
    prototypes = network.comparable(network.prototypes.flatten(1))  # (P, D1)
    cosines = prototypes @ vectors.transpose(1, 2)  # (N, P, L)
    pooled, _ = cosines.topk(network.n_pooled_patches, dim=2)  # (N, P, k)
    angles = torch.acos(pooled.clamp(-1 + 1e-6, 1 - 1e-6))
    nearer = torch.cos((angles - MARGIN).clamp_min(0))
    is_own = network.prototype_classes == step.labels[:, None]  # (N, P)
    similarities = torch.where(is_own, pooled.mean(2), nearer.mean(2))
    logits = similarities @ network.head.float().T
    return weighted_cross_entropy(logits, step.labels, step.weights) - step.costs.cross_entropy


def soft_targets(step: Step) -> Tensor:
    """Take half of the cross-entropy from what the linear head says."""
    wanted = (step.linear_logits.detach() / TEMPERATURE).softmax(1)
    found = (step.logits / TEMPERATURE).log_softmax(1)
    soft = -(TEMPERATURE**2) * (wanted * found).sum(1)
    return ((step.weights * soft).mean() - step.costs.cross_entropy) / 2


def changed_loss(addition: Callable[[Step], Tensor]) -> AbstractContextManager[object]:
    """Add to the loss of warm-up and joint epochs."""
    usual = GradientEpochs._prototype_step

    def step(
        self: GradientEpochs, maps: Tensor, labels: Tensor, weights: Tensor, *args: Any, **how: Any
    ) -> tuple[Tensor, Costs, Tensor]:
        loss, costs, logits = usual(self, maps, labels, weights, *args, **how)
        with torch.autocast(maps.device.type, enabled=False):
            linear_logits = self.parts.linear_head(maps.float())
            found = Step(self.network, maps.float(), labels, weights, logits, linear_logits, costs)
            return loss + addition(found), costs, logits

    return mock.patch.object(GradientEpochs, "_prototype_step", step)


@contextmanager
def no_sigmoid(addition: Callable[[Step], Tensor] | None = None) -> Iterator[None]:
    """End the add-on layers with a convolution, as angles ask for, and add to the loss.

    After a sigmoid all vectors would point one way: cosines of other classes begin within the
    margin, where nothing drives them away, and a fit to digits comes to 0.63.
    """
    changes = changed_loss(addition) if addition else nullcontext()
    with mock.patch.object(nn, "Sigmoid", nn.Identity), changes:
        yield


def finer_maps() -> AbstractContextManager[object]:
    """Leave out the average pooling that ends the small network, which 8x8 images do not have."""
    usual = BACKBONES["auto"]

    def build(channels: int, image_size: tuple[int, int]) -> nn.Module:
        network = usual.build(channels, image_size)
        return network[:-1] if isinstance(network[-1], nn.AvgPool2d) else network

    return mock.patch.dict(BACKBONES, {"auto": replace(usual, build=build)})


def random_start() -> AbstractContextManager[object]:
    """Begin with patches of the class that are drawn at random."""
    draws = np.random.default_rng(0)

    def score(own: NDArray[np.float64], _: NDArray[np.float64]) -> NDArray[np.float64]:
        return draws.random(own.shape[1])

    return mock.patch.object(_initialization, "sensitivity", score)


def uniform_start() -> AbstractContextManager[object]:
    """Begin with uniform numbers, as the network was built."""
    return mock.patch.object(_trainer.Trainer, "initialize")


def no_averages() -> AbstractContextManager[object]:
    """End every stage where its last step ends."""

    def follow(self: WeightAverage) -> None:
        for mean, now in zip(self.mean, self.now, strict=True):
            mean.copy_(now)

    return mock.patch.object(WeightAverage, "update", follow)


@contextmanager
def cosine_decay() -> Iterator[None]:
    """Let rates go down along a cosine in every stage, as the linear heads' do, and end there."""
    usual, done = GradientEpochs.run, Counter[str]()

    def run(self: GradientEpochs, stage: GradientStage, *args: Any) -> list[float]:
        factor = (1 + math.cos(math.pi * done[stage.name] / stage.epochs)) / 2
        done[stage.name] += 1
        groups = self.parts.optimizer(stage).param_groups
        for group, rate in zip(groups, stage.learning_rates.values(), strict=True):
            group["lr"] = factor * rate
        return usual(self, stage, *args)

    with mock.patch.object(GradientEpochs, "run", run), no_averages():
        yield


@dataclass(frozen=True)
class Change:
    """A change of the defaults."""

    parameters: dict[str, Any] = field(default_factory=dict)
    patch: Callable[[], AbstractContextManager[object]] = nullcontext
    sets: Sequence[str] = SETS
    """Where it changes anything."""

    def measure(self, name: str, seed: int) -> dict[str, Any]:
        """Fit on a set of price.py."""
        precision = "float32" if name in SMALL else "auto"
        problem, settings = PROBLEMS[name], {"precision": precision, **self.parameters}
        data, clf = problem.load(seed), problem.classifier(seed).set_params(**settings)
        with self.patch():
            found = problem.judge(clf.fit(data.X, data.y), data)
        return {name: found[name] for name in ("score", "zeros", "consistency")}


PAPER = {"n_pooled_patches": 1, "linear_head_weight": 0.0, "backbone_learning_rate": 1e-4}
COSINE = {"similarity": "cosine"}
DEFAULTS = "the defaults"
CHANGES = {
    DEFAULTS: Change(),
    "one patch of an image, as in the paper": Change({"n_pooled_patches": 1}),
    "no linear head beside the prototypes, as in the paper": Change({"linear_head_weight": 0.0}),
    "backbone rate 1e-4, as in the paper": Change({"backbone_learning_rate": 1e-4}),
    "all of these three": Change(PAPER),
    "no averages over the steps of a stage": Change(patch=no_averages),
    "cosine decay and no averages": Change(patch=cosine_decay),
    "no pretraining, 30 joint epochs": Change({"pretraining_epochs": 0, "joint_epochs": 30}),
    "no pretraining, 5 + 10 epochs, as in the paper": Change(
        {"pretraining_epochs": 0, "warmup_epochs": 5, "joint_epochs": 10}
    ),
    "a pretraining of 15 epochs however few images": Change(
        {"pretraining_epochs": 15}, sets=("digits", "digits_60", "parts")
    ),
    "a pretraining of 5 epochs, 25 joint epochs": Change(
        {"pretraining_epochs": 5, "joint_epochs": 25}, sets=("mnist", "fashion_3k", "letters")
    ),
    "no warm-up": Change({"warmup_epochs": 0}),
    "10 joint epochs": Change({"joint_epochs": 10}),
    "20 joint epochs": Change({"joint_epochs": 20}),
    "a projection every 5 joint epochs": Change({"projection_interval": 5}),
    "prototypes start at random patches of their class": Change(patch=random_start),
    "prototypes start as uniform numbers, as in the paper": Change(patch=uniform_start),
    "three patches": Change({"n_pooled_patches": 3}),
    "nine patches": Change({"n_pooled_patches": 9}),
    "a map twice as fine": Change(patch=finer_maps, sets=SMALL[2:]),
    "a map twice as fine, 20 patches": Change({"n_pooled_patches": 20}, finer_maps, SMALL[2:]),
    "prototypes of 2x2 cells": Change({"prototype_size": (2, 2)}),
    "cosine similarity": Change(COSINE),
    "cosine, no sigmoid": Change(COSINE, no_sigmoid),
    "cosine, no sigmoid, orthogonal prototypes": Change(COSINE, partial(no_sigmoid, orthogonality)),
    "cosine, no sigmoid, angular margin": Change(COSINE, partial(no_sigmoid, angular_margin)),
    "half of the loss from the linear head": Change(patch=partial(changed_loss, soft_targets)),
    "5 prototypes of each class": Change({"n_prototypes_per_class": 5}),
    "20 prototypes of each class": Change({"n_prototypes_per_class": 20}),
    "depth 64": Change({"prototype_depth": 64}),
    "depth 256": Change({"prototype_depth": 256}),
    "no cluster cost": Change({"cluster_weight": 0.0}),
    "no separation cost": Change({"separation_weight": 0.0}),
    "rate 6e-3": Change({"learning_rate": 6e-3}),
    "batches of 8 images": Change({"batch_size": 8}, sets=("digits_60",)),
    "sixteen patches": Change({"n_pooled_patches": 16}, sets=("digits_60",)),
    "l2_weight 1e-2": Change({"l2_weight": 1e-2}, sets=("digits_60",)),
    "augment='no_flip'": Change({"augment": "no_flip"}),
    "augment='paper'": Change({"augment": "paper"}),
    "steps in bfloat16": Change({"precision": "bfloat16"}),
}


def with_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    """Put the defaults of the same set, seed and processor beside each row, if there are any."""
    usual = rows[rows["change"] == DEFAULTS]
    return rows.merge(usual, on=PAIR, suffixes=("", "_usual")).sort_values("seed")


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Average the differences from the defaults, paired by set and seed, as text."""
    lines, paired = [], with_defaults(rows)
    for change in CHANGES:
        found = paired[paired["change"] == change]
        if found.empty:
            continue
        by_set = {name: found[found["set"] == name] for name in SETS}
        if change == DEFAULTS:
            cells = {name: level_of(each) for name, each in by_set.items()}
            zeros = f"{by_set[ZEROS_OF].groupby('seed')['zeros'].mean().mean():.0%}"
        else:
            cells = {name: gain_of(each, name) for name, each in by_set.items()}
            of_set = by_set[ZEROS_OF]
            more = 100 * (of_set["zeros"] - of_set["zeros_usual"])
            zeros = "" if more.empty else f"{round(more.mean()) + 0:+d}"
        shares = found.groupby("seed")["consistency"].mean().dropna()
        consistent = f"{shares.mean():.2f} ({len(shares)})" if len(shares) else ""
        lines.append({"change": change, **cells, "zeros": zeros, "consistent": consistent})
    found = pd.DataFrame(lines)
    return found.loc[:, (found != "").any()]


def level_of(found: pd.DataFrame) -> str:
    """Write the mean over seeds, and how many there are; nothing of nothing."""
    scores = found.groupby("seed")["score"].mean()
    return "" if scores.empty else f"{scores.mean():.4f} ({len(scores)})"


def gain_of(found: pd.DataFrame, name: str) -> str:
    """Write a mean, with its standard error and how many there are; nothing of nothing."""
    gains = 100 * (found["score"] - found["score_usual"])
    return "" if gains.empty else f"{mean_of(gains, PROBLEMS[name])} ({len(gains)})"


def missing(
    journal: Journal, names: Sequence[str], changes: Sequence[str], n_seeds: int
) -> Iterator[tuple[str, str, int]]:
    """Yield the changes, sets and seeds that no processor has compared with the defaults."""
    done = with_defaults(journal.rows)[["change", "set", "seed"]]
    known = set(done.itertuples(index=False, name=None))
    for i in range(n_seeds):
        for title in changes:
            for name in [name for name in names if name in CHANGES[title].sets]:
                for seed in PROBLEMS[name].seeds[i : i + 1]:  # some sets have no more
                    if (title, name, seed) not in known:
                        yield title, name, seed


def main(names: Sequence[str], changes: Sequence[str], *, n_seeds: int, is_quick: bool) -> None:
    """Measure the rows that are missing, and write the tables of all of them."""
    journal = Journal(None if is_quick else ROWS, COLUMNS, ("change", *PAIR), PLACES)
    here = f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
    for change, name, seed in missing(journal, names, changes, 1 if is_quick else n_seeds):
        pair = {"set": name, "seed": seed, "processor": here}
        for title in dict.fromkeys([DEFAULTS, change]):
            if (title, *pair.values()) not in journal:
                journal.add({"change": title, **pair, **CHANGES[title].measure(name, seed)})
    found = table(journal.table())
    if not is_quick:
        found.to_csv(PAGE, index=False)
    lines = [
        "`ProtoPNetClassifier` with one change of its defaults at a time (that of the example on "
        "solar cells), on sets of price.py, by its names for them, with torch on one thread: in "
        "float32, and with ResNet-18 and solar cells in what the processor is faster in. Each "
        "change is compared with the defaults on the same kind of processor; alternatives.csv "
        "says which. First the test accuracy of the defaults (area under the ROC curve of solar "
        "cells), then by how many points a change is above it: means of the differences on the "
        "same seed or split with their standard errors, if there are three or more, and in "
        "brackets how many these are. Rounding alone, in another precision or on another "
        "processor, moves one seed of Fashion-MNIST by half a point, so that one or two of them "
        "tell little below 0.7. Zeros are those of the weights to other classes, and how many "
        "more there are in a hundred, on Fashion-MNIST of 28x28; consistent are prototypes that "
        "stand for one and the same part of their class by what its removal costs, the share of "
        "them. Orthogonal prototypes and the angular margin are those of Donnelly, Barnett and "
        f"Chen (CVPR 2022), with their weights, {ORTHOGONALITY_WEIGHT:g} and {MARGIN:g}.",
        "",
        "| " + " | ".join(found.columns) + " |",
        f"|{'---|' * found.shape[1]}",
        *("| " + " | ".join(cells) + " |" for cells in found.to_numpy()),
    ]
    publish("What pays, and what does not", lines, is_quick=is_quick, is_of_this_machine=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    main(given.sets, given.changes, n_seeds=given.seeds, is_quick=given.quick)
