"""Digits: accuracy of the defaults, and what each default that is not the paper's is worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from common import linear_head_accuracy, report, split_digits, training_starts
from joblib import Parallel, delayed

from sklearn_protopnet import ProtoPNetClassifier

SHAPE = (8, 8)
SEEDS = range(10)
"""Of the fits, and of the splits."""

VARIANTS: dict[str, dict[str, object]] = {
    "defaults": {},
    "one patch of an image, as in the paper": {"n_pooled_patches": 1},
    "no linear head beside the prototypes, as in the paper": {"linear_head_weight": 0.0},
    "backbone rate 1e-4, as in the paper": {"backbone_learning_rate": 1e-4},
    "all of these three": {
        "n_pooled_patches": 1,
        "linear_head_weight": 0.0,
        "backbone_learning_rate": 1e-4,
    },
    "prototypes start at random patches of their class": {"start": "random patches"},
    "latent channels start as PyTorch draws them": {"start": "latents as drawn"},
    "a projection every 5 joint epochs": {"projection_interval": 5},
    "the same, latent channels and prototypes as drawn, as in the paper": {
        "projection_interval": 5,
        "start": "paper",
    },
    "the same, no pretraining, 40 joint epochs": {
        "projection_interval": 5,
        "pretraining_epochs": 0,
        "joint_epochs": 40,
    },
    "no pretraining, no warm-up, 45 joint epochs in 3 rounds": {
        "pretraining_epochs": 0,
        "warmup_epochs": 0,
        "joint_epochs": 45,
        "projection_interval": 15,
    },
    "15 warm-up epochs, no joint epochs": {"joint_epochs": 0, "warmup_epochs": 15},
    "augment='no_flip'": {"augment": "no_flip"},
    "augment='paper'": {"augment": "paper"},
}


def run(seed: int, *, start: str = "defaults", **parameters: object) -> float:
    """Test accuracy of a fit."""
    X_train, y_train, X_test, y_test = split_digits(seed)
    clf = ProtoPNetClassifier(image_shape=SHAPE, random_state=seed, **parameters)
    with training_starts(start, seed):
        clf.fit(X_train, y_train)
    return clf.score(X_test, y_test)


def run_linear(seed: int) -> float:
    """Test accuracy of the defaults' backbone with a linear head, as many epochs."""
    X_train, y_train, X_test, y_test = split_digits(seed)
    like = ProtoPNetClassifier(image_shape=SHAPE, random_state=seed).fit(X_train, y_train)
    train, test = ((X.reshape(-1, *SHAPE), y) for X, y in ((X_train, y_train), (X_test, y_test)))
    return linear_head_accuracy(like, train, test, rate=1e-2)[0]  # its best of three


def main() -> None:
    """Run every variant on every split."""
    lines = [
        "| settings | test accuracy, mean | over the defaults, points |",
        "|---|---|---|",
    ]
    runs: dict[str, Callable[[int], float]] = {
        name: partial(run, **parameters) for name, parameters in VARIANTS.items()
    }
    runs["same backbone, average pooling, linear head, as many epochs"] = run_linear
    usual = None
    for name, measure in runs.items():
        scores = np.array(Parallel(n_jobs=-1)(delayed(measure)(seed) for seed in SEEDS))
        gain = ""
        if usual is None:
            usual = scores
        else:
            gains = 100 * (scores - usual)
            error = gains.std(ddof=1) / np.sqrt(len(gains))
            gain = f"{gains.mean():+.2f} \N{PLUS-MINUS SIGN} {error:.2f}"
        lines.append(f"| {name} | {scores.mean():.4f} | {gain} |")
        print(lines[-1], scores.round(4), flush=True)
    head = (
        f"{len(SEEDS)} splits, one fit each: means, and standard errors of the mean of the "
        "differences on the same split."
    )
    report("Digits (1,797 grey 8x8 images, 75/25 split)", [head, "", *lines])


if __name__ == "__main__":
    main()
