"""Memory and time of the projection, prediction, explanation and the prototype layer alone.

``python benchmarks/throughput.py`` measures everything and writes results.md; ``--quick`` is a
smoke run on small sizes that writes nothing. ``--project N`` projects on N images and ``--export
N`` writes the evidence for N images to a file, each in a process of its own, and prints what that
took. ``--single`` measures single images only, and prints.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import paper_procedure
import torch
from common import (
    forget_peak_memory,
    in_a_process,
    load_fashion_mnist,
    publish,
    resident_memory,
)
from speed import resized
from torch import Tensor

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet._network import functional, working_conditions
from sklearn_protopnet._training import _feature_cache
from sklearn_protopnet.inspection import export_evidence

UNTRAINED = {"pretraining_epochs": 0, "warmup_epochs": 0, "joint_epochs": 0, "random_state": 0}
"""Prototypes start at patches of their class, are projected, and the last layer is solved."""
REPETITIONS = 5
"""Of which the median is reported, after one that is not timed."""
SINGLE = (
    ("8x8", "auto", (8, 8, 1), 2_000),
    ("28x28", "auto", (28, 28, 1), 1_000),
    ("64x64, ResNet-18", "resnet18", (64, 64, 3), 200),
    ("224x224, ResNet-18", "resnet18", (224, 224, 3), 60),
)
"""Names, backbones and shapes of images, and how many of them are predicted at once."""
CUB = (2_000, 512, 7, 80)
"""Prototypes, depth, side of the feature map and images of a batch, as for CUB-200-2011."""


def seconds_of(function: Callable[[], object]) -> float:
    """Median wall time of a few calls, after one that is not timed."""
    function()
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def project_one(n_images: int) -> None:
    """Fit without an epoch on 28x28 images; print seconds of its phases and peak memory in MB."""
    X, y, *_ = load_fashion_mnist()
    X, y = X[:n_images].copy(), y[:n_images].copy()
    forget_peak_memory()
    before = resident_memory("VmRSS")
    clf = ProtoPNetClassifier(**UNTRAINED)
    start = time.perf_counter()
    with mock.patch.object(_feature_cache, "KEPT_IN_MEMORY", 0):
        clf.fit(X, y)
    fit = time.perf_counter() - start
    stages = clf.history_table().set_index("stage")["seconds"]
    found = {
        "projection": float(stages["projection"]),
        "last_layer": float(stages["last_layer"]),
        "fit": fit,
        "before": before,
        "peak": resident_memory("VmHWM"),
    }
    print(json.dumps(found))


def projections(sizes: Sequence[int]) -> list[str]:
    """Time and peak memory by the number of images, each in a fresh process."""
    lines = [
        "### Projection, 28x28 images, default backbone, 100 prototypes",
        "",
        "Fits without an epoch: what is left is the projection and the last layer, whose "
        "similarities (800 bytes an image) stay in memory. Feature maps of few images would be "
        "kept; here they are computed for each of the two, whatever the number. Each in a fresh "
        "process; memory is "
        "resident, images (784 bytes each) included, and its peak that of the whole fit.",
        "",
        "| images | projection, s | images/s | last layer, s | fit, s | memory before the fit, MB "
        "| peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for n_images in sizes:
        found = in_a_process(__file__, "--project", n_images)
        lines.append(
            f"| {n_images:,} | {found['projection']:.2f} | {n_images / found['projection']:,.0f} | "
            f"{found['last_layer']:.2f} | {found['fit']:.2f} | {found['before']:.0f} | "
            f"{found['peak']:.0f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def export_all(n_images: int) -> None:
    """Export the evidence for all classes; print rows, seconds, MB of the file and of memory."""
    X, y, X_test, _ = load_fashion_mnist()
    clf = ProtoPNetClassifier(**UNTRAINED).fit(X[:2_000], y[:2_000])
    clf.predict(X_test[:n_images])
    forget_peak_memory()
    before = resident_memory("VmRSS")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.parquet"
        start = time.perf_counter()
        n_rows = export_evidence(clf, X_test[:n_images], path, classes="all")
        found = {
            "rows": n_rows,
            "seconds": time.perf_counter() - start,
            "file": path.stat().st_size / 1e6,
            "before": before,
            "peak": resident_memory("VmHWM"),
        }
    print(json.dumps(found))


def exports(sizes: Sequence[int]) -> list[str]:
    """Time and memory of an export by the number of images, each in a fresh process."""
    lines = [
        "### Export of the evidence to Parquet, 28x28 images, 100 prototypes, all of 10 classes",
        "",
        "Each in a fresh process that has fitted and predicted before.",
        "",
        "| images | rows | s | file, MB | memory before, MB | growth to its peak, MB |",
        "|---|---|---|---|---|---|",
    ]
    for n_images in sizes:
        found = in_a_process(__file__, "--export", n_images)
        lines.append(
            f"| {n_images:,} | {found['rows']:,} | {found['seconds']:.1f} | {found['file']:.0f} | "
            f"{found['before']:.0f} | {found['peak'] - found['before']:.0f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def explanations(n_train: int, n_small: int, n_large: int, n_all: int) -> list[str]:
    """Images per second of `predict` and `explain`."""
    X, y, X_test, _ = load_fashion_mnist()
    X, y = X[:n_train], y[:n_train]
    networks = {
        "28x28, default backbone": (ProtoPNetClassifier(**UNTRAINED), X, X_test[:n_small]),
        "64x64x3, ResNet-18": (
            ProtoPNetClassifier(backbone="resnet18", **UNTRAINED),
            resized(X),
            resized(X_test[:n_large]),
        ),
    }
    lines = [
        "### Prediction and explanation, 100 prototypes of 10 classes",
        "",
        f"Median of {REPETITIONS}. `explain` gives every prototype's contribution to the predicted "
        "class, 100 rows an image, or the ten largest; for all classes, 1,000 rows an image, of "
        "which there are fewer.",
        "",
        "| network | images | predict, images/s | explain, images/s | explain / predict, time "
        "| explain(top_k=10), images/s | explain(top_k=10) / predict, time | images "
        '| predict_proba, images/s | explain(classes="all") / predict_proba, time |',
        f"|{'---|' * 10}",
    ]
    for name, (clf, train, test) in networks.items():
        clf.fit(train, y)
        predict = seconds_of(lambda clf=clf, test=test: clf.predict(test))
        explain = seconds_of(lambda clf=clf, test=test: clf.explain(test))
        shortest = seconds_of(lambda clf=clf, test=test: clf.explain(test, top_k=10))
        few = test[:n_all]
        proba = seconds_of(lambda clf=clf, few=few: clf.predict_proba(few))
        whole = seconds_of(lambda clf=clf, few=few: clf.explain(few, classes="all"))
        n = len(test)
        lines.append(
            f"| {name} | {n:,} | {n / predict:,.0f} | {n / explain:,.0f} | "
            f"{explain / predict:.2f} | {n / shortest:,.0f} | {shortest / predict:.2f} | "
            f"{len(few):,} | {len(few) / proba:,.0f} | {whole / proba:.2f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def single_images(sizes: Sequence[tuple[str, str, tuple[int, ...], int]]) -> list[str]:
    """Milliseconds of one image, beside the bare forward pass of its network."""
    lines = [
        "### One image, 100 prototypes of 10 classes",
        "",
        f"Median of {REPETITIONS}, one thread for 8x8 pixels. The bare pass is that of backbone, "
        "add-on layers and prototypes as a module, with one image that is a tensor already; the "
        "aim is three times as much, or 4 ms where that is less. The last columns: the largest "
        "relative difference of a logit between one image alone and among all, and images per "
        "second of all at once.",
        "",
        "| images | bare pass, ms | predict, ms | transform, ms | explain, ms | predict / bare "
        "| difference | images | predict, images/s |",
        f"|{'---|' * 9}",
    ]
    random = np.random.default_rng(0)
    for name, backbone, shape, n_images in sizes:
        X = random.integers(0, 256, (max(n_images, 60), *shape), dtype=np.uint8)
        clf = ProtoPNetClassifier(backbone=backbone, **UNTRAINED).fit(X[:60], np.arange(60) % 10)
        fitted = fitted_network(clf)
        with working_conditions(tiny=fitted.architecture.is_tiny), torch.no_grad():
            image = torch.zeros(1, shape[2], *shape[:2])
            network = fitted.network
            bare = 1_000 * seconds_of(
                lambda image=image, network=network: network(network.backbone(image))
            )
        predict, transform, explain = (
            1_000 * seconds_of(lambda ask=ask, X=X: ask(X[:1]))
            for ask in (clf.predict, clf.transform, clf.explain)
        )
        among = clf.decision_function(X[:n_images])
        alone = np.concatenate([clf.decision_function(X[i : i + 1]) for i in range(10)])
        difference = (np.abs(alone - among[:10]) / np.abs(among[:10])).max()
        many = n_images / seconds_of(lambda clf=clf, X=X, n=n_images: clf.predict(X[:n]))
        lines.append(
            f"| {name} | {bare:.2f} | {predict:.2f} | {transform:.2f} | {explain:.2f} | "
            f"{predict / bare:.1f} | {difference:.1e} | {n_images:,} | {many:,.0f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def ours_nearest(features: Tensor, prototypes: Tensor) -> Tensor:
    """Distances (N, P) as in a training step of ours."""
    patches = functional.extract_patches(features, (1, 1))
    distances = functional.squared_distances(patches, prototypes.flatten(1))
    return functional.pooled_distances(distances, ProtoPNetClassifier().n_pooled_patches)


def exact_nearest(features: Tensor, prototypes: Tensor) -> Tensor:
    """Distances (N, P) as they are reported, in float64."""
    patches = functional.extract_patches(features, (1, 1))
    distances, _ = functional.nearest_patches(
        patches, prototypes.flatten(1), functional.as_it_is, n_nearest=1
    )
    return distances[:, :, 0]


def convolution_nearest(n_sums: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Distances (N, P) as in the original code, which sums the squares `n_sums` times over."""

    def nearest(features: Tensor, prototypes: Tensor) -> Tensor:
        ones = torch.ones(n_sums, *prototypes.shape[1:])
        distances = paper_procedure.convolution_distances(features, prototypes, ones)
        return paper_procedure.nearest_distances(distances)

    return nearest


def forward_and_backward(
    nearest: Callable[[Tensor, Tensor], Tensor], features: Tensor, prototypes: Tensor
) -> None:
    """Take the gradient of the mean similarity with respect to features and prototypes."""
    leaves = [part.detach().requires_grad_() for part in (features, prototypes)]
    similarities = paper_procedure.log_similarity(nearest(*leaves))
    torch.autograd.grad(similarities.mean(), leaves)


def prototype_layer(n_prototypes: int, depth: int, side: int, n_images: int) -> list[str]:
    """Milliseconds of the layer between feature maps and similarities, for one batch."""
    torch.manual_seed(0)
    features = torch.rand(n_images, depth, side, side)
    prototypes = torch.rand(n_prototypes, depth, 1, 1)
    exact = exact_nearest(features, prototypes)
    ways = {
        "ours, training": ours_nearest,
        "convolutions, as in the original code": convolution_nearest(n_prototypes),
        "the same, squares summed once": convolution_nearest(1),
    }
    lines = [
        f"### The prototype layer alone: {n_prototypes:,} prototypes, D = {depth}, {side}x{side} "
        f"maps, {n_images} images",
        "",
        f"From features to log similarities; median of {REPETITIONS}, on uniform numbers.",
        "",
        "| how | forward, ms | forward and backward, ms | largest difference from the last row |",
        "|---|---|---|---|",
    ]
    for name, nearest in ways.items():
        with torch.no_grad():
            error = (nearest(features, prototypes) - exact).abs().max()
            forward = seconds_of(
                lambda it=nearest: paper_procedure.log_similarity(it(features, prototypes))
            )
        both = seconds_of(lambda it=nearest: forward_and_backward(it, features, prototypes))
        lines.append(f"| {name} | {1_000 * forward:.0f} | {1_000 * both:.0f} | {error:.1e} |")
        print(lines[-1], flush=True)
    inspection = seconds_of(
        lambda: paper_procedure.log_similarity(exact_nearest(features, prototypes))
    )
    lines.append(f"| ours, as reported (float64) | {1_000 * inspection:.0f} | | 0 |")
    print(lines[-1], flush=True)
    return [*lines, ""]


def main(*, is_quick: bool) -> None:
    """Measure everything."""
    layer = (200, 64, 7, 8) if is_quick else CUB
    lines = [
        *projections((200, 1_000) if is_quick else (1_000, 10_000, 60_000)),
        *(
            explanations(200, 200, 50, 50)
            if is_quick
            else explanations(2_000, 10_000, 1_000, 1_000)
        ),
        *single_images(SINGLE[:2] if is_quick else SINGLE),
        *exports((50, 200) if is_quick else (1_000, 10_000)),
        *prototype_layer(*layer),
    ]
    publish("Memory and throughput", lines, is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--project", type=int, metavar="N")
    parser.add_argument("--export", type=int, metavar="N")
    parser.add_argument("--single", action="store_true")
    given = parser.parse_args()
    if given.project:
        project_one(given.project)
    elif given.export:
        export_all(given.export)
    elif given.single:
        single_images(SINGLE)
    else:
        main(is_quick=given.quick)
