"""What checkpoints cost, and two processes beside one with two threads; ResNet-18, 64x64 pixels.

``python benchmarks/long_trainings.py`` measures both and writes results.md; ``--quick`` is a smoke
run that writes nothing. ``--fit FILE`` is what the processes do that ``torchrun`` starts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
from common import load_fashion_mnist, publish
from speed import resized
from torch import distributed

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._training import Checkpoint

N_IMAGES, JOINT_EPOCHS = 2_000, 4
JOINT = {"backbone": "resnet18", "pretraining_epochs": 0, "warmup_epochs": 0, "random_state": 0}


def images(n_images: int) -> tuple[Any, Any]:
    """Give the first training images of Fashion-MNIST, in colour and at 64x64 pixels."""
    X, y, *_ = load_fashion_mnist()
    return resized(X[:n_images]), y[:n_images]


def checkpoints(n_images: int, settings: dict[str, Any]) -> list[str]:
    """Time what a fit spends on its checkpoints."""
    X, y = images(n_images)
    write, spent = Checkpoint.write, []

    def timed(self: Checkpoint, state: dict[str, Any]) -> None:
        start = time.perf_counter()
        write(self, state)
        spent.append(time.perf_counter() - start)

    with TemporaryDirectory() as folder, mock.patch.object(Checkpoint, "write", timed):
        clf = ProtoPNetClassifier(
            backbone="resnet18", checkpoint=folder, random_state=0, **settings
        )
        start = time.perf_counter()
        clf.fit(X, y)
        seconds = time.perf_counter() - start
    return [
        f"A fit with `checkpoint` to {n_images:,} images, {clf.n_iter_} epochs, took "
        f"{seconds:.0f} s, of which {sum(spent):.1f} s, {sum(spent) / seconds:.1%}, went into "
        f"{len(spent)} states, {np.mean(spent):.2f} s each.",
        "",
    ]


def fit_part(found: Path, n_images: int, n_epochs: int) -> None:
    """Fit, alone or with other processes; leave the seconds of the joint epochs, and weights."""
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    clf = ProtoPNetClassifier(**JOINT, joint_epochs=n_epochs).fit(*images(n_images))
    history = clf.history_table().query("stage == 'joint'")
    rank = os.environ.get("RANK", "0")
    result = {
        "seconds": history["seconds"].tolist()[1:],  # the first one comes with the start
        "loss": clf.loss_curve_[-1],
        "accuracy": history["accuracy"].iloc[-1],
        "coef": clf.coef_.tolist(),
    }
    found.with_suffix(f".{rank}").write_text(json.dumps(result))


def processes(n_images: int, n_epochs: int) -> list[str]:
    """Time joint epochs of two processes of a thread, and of one with two threads."""
    lines = [
        "| processes | threads of each | joint epoch, s | loss of the last | training accuracy |",
        "|---|---|---|---|---|",
    ]
    seconds, results = [], []
    with TemporaryDirectory() as folder:
        found = Path(folder, "found")
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        for n, start in ((1, []), (2, torchrun)):
            arguments = ["--fit", str(found), "--size", str(n_images), str(n_epochs)]
            threads = {"OMP_NUM_THREADS": str(3 - n)}
            subprocess.run(
                [sys.executable, *start, __file__, *arguments],
                env={**os.environ, **threads},
                check=True,
            )
            results = [json.loads(found.with_suffix(f".{i}").read_text()) for i in range(n)]
            seconds.append(float(np.mean(results[0]["seconds"])))
            lines.append(
                f"| {n} | {3 - n} | {seconds[-1]:.2f} | {results[0]['loss']:.4f} | "
                f"{results[0]['accuracy']:.3f} |"
            )
    same = "the same bits" if results[0]["coef"] == results[1]["coef"] else "other bits"
    return [
        *lines,
        "",
        f"Two processes take {seconds[1] / seconds[0]:.2f} of the time of one; their last layers "
        f"have {same}.",
    ]


def main(*, is_quick: bool) -> None:
    """Measure both."""
    quick = {"pretraining_epochs": 1, "warmup_epochs": 1, "joint_epochs": 1}
    lines = [
        *checkpoints(160 if is_quick else N_IMAGES, quick if is_quick else {}),
        *processes(160 if is_quick else N_IMAGES, 2 if is_quick else JOINT_EPOCHS),
    ]
    publish("Long trainings", lines, is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fit", type=Path)
    parser.add_argument("--size", type=int, nargs=2, metavar=("IMAGES", "EPOCHS"))
    given = parser.parse_args()
    if given.fit:
        fit_part(given.fit, *given.size)
    else:
        main(is_quick=given.quick)
