"""Digits: accuracy of the defaults, and what each default that is not the paper's is worth."""

from __future__ import annotations

import time

import numpy as np
from common import report, training_starts
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_protopnet import ProtoPNetClassifier

SEEDS = (0, 1, 2)

VARIANTS: dict[str, dict[str, object]] = {
    "defaults": {},
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
    "no pretraining, no warm-up, 45 joint epochs in 3 rounds, backbone rate 3e-3": {
        "pretraining_epochs": 0,
        "warmup_epochs": 0,
        "joint_epochs": 45,
        "projection_interval": 15,
        "backbone_learning_rate": 3e-3,
        "decay_interval": 15,
    },
    "15 warm-up epochs, no joint epochs": {"joint_epochs": 0, "warmup_epochs": 15},
    "augment='no_flip'": {"augment": "no_flip"},
    "augment='paper'": {"augment": "paper"},
}


def run(seed: int, *, start: str = "defaults", **parameters: object) -> tuple[float, float]:
    """Test accuracy and seconds of a fit; stratified 75/25 split."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    clf = ProtoPNetClassifier(image_shape=(8, 8), random_state=seed, **parameters)
    began = time.perf_counter()
    with training_starts(start, seed):
        clf.fit(X_train, y_train)
    return clf.score(X_test, y_test), time.perf_counter() - began


def main() -> None:
    """Run every variant on every seed."""
    lines = ["| settings | test accuracy, mean (seeds 0, 1, 2) | fit, s |", "|---|---|---|"]
    for name, parameters in VARIANTS.items():
        results = np.array([run(seed, **parameters) for seed in SEEDS])
        scores = ", ".join(f"{score:.3f}" for score in results[:, 0])
        lines.append(
            f"| {name} | {results[:, 0].mean():.3f} ({scores}) | {results[:, 1].mean():.0f} |"
        )
        print(lines[-1], flush=True)
    report("Digits (1,797 grey 8x8 images, 75/25 split)", lines)


if __name__ == "__main__":
    main()
