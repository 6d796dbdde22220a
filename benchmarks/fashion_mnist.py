"""Fashion-MNIST: the defaults against the same backbone with a plain linear head."""

from __future__ import annotations

import shutil
import time

import numpy as np
from common import CACHE, linear_head_accuracy, load_fashion_mnist, report

from sklearn_protopnet import ProtoPNetClassifier

N_TRAIN = 10_000


def main() -> None:
    """Train both on the first 10,000 training images, test on all 10,000 test images."""
    X, y, X_test, y_test = load_fashion_mnist()
    X, y = X[:N_TRAIN], y[:N_TRAIN]
    shutil.rmtree(CACHE, ignore_errors=True)  # the fit is timed; what it caches serves others
    clf = ProtoPNetClassifier(memory=str(CACHE), random_state=0, verbose=1)
    start = time.perf_counter()
    clf.fit(X, y)
    seconds = time.perf_counter() - start
    accuracy = clf.score(X_test, y_test)
    prototypes = clf.prototype_table()
    assert (prototypes["distance"] == 0).all(), "every prototype is a training patch"
    linear, linear_seconds = linear_head_accuracy(clf, (X, y), (X_test, y_test))
    n_duplicates = int((prototypes["n_duplicates"] > 0).sum())
    history = clf.history_table()
    last = history[history["round"] == history["round"].max()]
    projected = last[last["stage"] == "projection"].iloc[0]
    solved = last[last["stage"] == "last_layer"].iloc[0]
    off_class = clf.classes_[:, None] != clf.prototype_classes_
    zeros = np.mean(clf.coef_[off_class] == 0)
    report(
        "Fashion-MNIST (10,000 training, 10,000 test images, 28x28)",
        [
            "| classifier | test accuracy | fit, s |",
            "|---|---|---|",
            f"| ProtoPNetClassifier, defaults, seed 0 | {accuracy:.4f} | {seconds:.0f} |",
            f"| same backbone, average pooling, linear head, {clf.n_iter_} epochs | "
            f"{linear:.4f} | {linear_seconds:.0f} |",
            "",
            f"Price of interpretability: {100 * (linear - accuracy):.2f} points; time ratio "
            f"{seconds / linear_seconds:.2f}. {len(prototypes)} prototypes, all at distance 0 from "
            f"their training patch, {n_duplicates} with a duplicate. Training accuracy before "
            f"the last projection {projected['accuracy_before']:.4f}, after it "
            f"{solved['accuracy_before']:.4f}, with the last layer {solved['accuracy']:.4f}; "
            f"{zeros:.0%} of the off-class weights are zero.",
        ],
    )


if __name__ == "__main__":
    main()
