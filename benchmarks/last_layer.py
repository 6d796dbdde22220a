"""The last layer: our solver beside other ways to train it, on the same similarities.

``python benchmarks/last_layer.py`` measures everything and writes results.md;
``python benchmarks/last_layer.py N_IMAGES N_PROTOTYPES N_CLASSES`` solves one synthetic problem
in a process of its own, whose peak memory it prints.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from common import in_a_process, load_fashion_mnist, publish, resident_memory, split_digits
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, solve_last_layer
from sklearn_protopnet._last_layer import LastLayer, Problem, off_class_mask

Array = NDArray[np.float64]
CUB = (5_994, 2_000, 200)
"""Images, prototypes and classes of the paper's CUB-200-2011."""
DEFAULTS = ProtoPNetClassifier()
PENALTIES = {"l1_weight": DEFAULTS.l1_weight, "l2_weight": DEFAULTS.l2_weight}


def synthetic(n_images: int, n_prototypes: int, n_classes: int, seed: int = 0) -> Problem:
    """Make similarities like real ones: positive, strongly correlated, a few high ones per row.

    Images and prototypes of a class lie around its centre in 12 dimensions; squared distances
    differ by factors of the image, the prototype and the pair, and become similarities by the
    paper's formula.
    """
    rng, depth = np.random.default_rng(seed), 12
    labels, owners = np.arange(n_images) % n_classes, np.arange(n_prototypes) % n_classes
    centres = rng.normal(size=(n_classes, depth))
    images = centres[labels] + 0.6 * rng.normal(size=(n_images, depth))
    prototypes = centres[owners] + 0.6 * rng.normal(size=(n_prototypes, depth))
    squares = np.square(images).sum(1)[:, None] + np.square(prototypes).sum(1)
    distances = np.maximum(squares - 2 * images @ prototypes.T, 0) / depth / 2
    distances *= rng.lognormal(0, 0.2, (n_images, 1)) * rng.lognormal(0, 0.3, n_prototypes)
    distances *= rng.lognormal(0, 0.3, distances.shape)
    similarities = np.log((distances + 1) / (distances + 1e-4))
    return problem(similarities, labels, owners, n_classes)


def problem(similarities: Array, labels: Array, owners: Array, n_classes: int) -> Problem:
    """State the problem with the default penalties."""
    return Problem(
        similarities=similarities,
        labels=labels,
        weights=np.ones(len(labels)),
        penalty_mask=off_class_mask(owners, n_classes),
        **PENALTIES,
    )


def certified(given: Problem, tol: float = 1e-6) -> LastLayer:
    """Solve to a certified gap; the mask takes the place of the prototypes' classes."""
    return solve_last_layer(
        given.similarities,
        given.labels,
        np.zeros(given.penalty_mask.shape[1], dtype=int),
        l1_weight=given.l1_weight,
        l2_weight=given.l2_weight,
        penalty_mask=given.penalty_mask,
        tol=tol,
    )


def ours(given: Problem) -> Array:
    """Solve to a certified gap of 1e-6."""
    return certified(given).coef


def adam(given: Problem) -> Array:
    """Take the paper's 20 passes at rate 1e-4, from 1 to own prototypes and -0.5 to others.

    The objective is that of all ways, with a ridge that the paper does not have.
    """
    torch.manual_seed(0)
    head = nn.Parameter(torch.from_numpy(np.where(given.penalty_mask, -0.5, 1.0)))
    optimizer = torch.optim.Adam([head], lr=1e-4)
    similarities, labels = torch.from_numpy(given.similarities), torch.from_numpy(given.labels)
    mask = torch.from_numpy(given.penalty_mask)
    for _ in range(20):
        for batch in torch.randperm(len(labels)).split(80):
            loss = nn.functional.cross_entropy(similarities[batch] @ head.T, labels[batch])
            loss = loss + given.l1_weight * head[mask].abs().sum()
            loss = loss + given.l2_weight / 2 * head.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.detach().numpy()


def lbfgs(given: Problem) -> Array:
    """Split weights into positive and negative parts with bounds: scipy's L-BFGS-B."""
    shape, mask = given.penalty_mask.shape, given.penalty_mask.ravel()

    def join(parts: Array) -> Array:
        positive, negative = parts.reshape(2, *shape)
        return positive - negative

    def value_and_gradient(parts: Array) -> tuple[float, Array]:
        point = given.point(join(parts))
        smooth = given.smooth_gradient(point).ravel()
        l1 = given.l1_weight * mask
        # |w| is the sum of its parts where one of them is 0; elsewhere this is an upper bound.
        excess = l1 @ (parts.reshape(2, -1).sum(0) - np.abs(point.coef.ravel()))
        return given.objective(point) + excess, np.concatenate([smooth + l1, -smooth + l1])

    bounds = [(0, None)] * mask.size + [(0, None if is_penalized else 0) for is_penalized in mask]
    bounds[: mask.size] = [(0 if is_penalized else None, None) for is_penalized in mask]
    options = {"maxiter": 3_000, "maxfun": 10_000, "ftol": 1e-14, "gtol": 1e-8}
    result = minimize(
        value_and_gradient,
        np.zeros(2 * mask.size),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    return join(result.x)


def saga(given: Problem) -> Array:
    """Solve scikit-learn's elastic net, which penalises all weights."""
    l1, l2 = given.l1_weight, given.l2_weight
    model = LogisticRegression(
        C=1 / ((l1 + l2) * len(given.labels)),
        l1_ratio=l1 / (l1 + l2),
        fit_intercept=False,
        solver="saga",
        tol=1e-6,
        max_iter=1_000,
        random_state=0,
    )
    return model.fit(given.similarities, given.labels).coef_


def compare(name: str, given: Problem, test: tuple[Array, Array]) -> list[str]:
    """Lines of a table, one for each way to train the last layer."""
    everything = replace(given, penalty_mask=np.ones_like(given.penalty_mask))
    ways: list[tuple[str, Problem, Callable[[Problem], Array]]] = [
        ("solve_last_layer", given, ours),
        ("20 passes of Adam at 1e-4, as in the paper", given, adam),
        ("scipy L-BFGS-B, split variables", given, lbfgs),
        ("solve_last_layer, all weights penalised", everything, ours),
        ("scikit-learn saga, all weights penalised", everything, saga),
    ]
    lines = [
        f"### {name}",
        "",
        "| method | objective | certified gap / objective | zeros among penalised "
        "| training accuracy | test accuracy | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, stated, method in ways:
        start = time.perf_counter()
        coef = method(stated)
        seconds = time.perf_counter() - start
        point = stated.point(coef)
        objective = stated.objective(point)
        zeros = np.mean(coef[stated.penalty_mask] == 0)
        scores = [
            f"{np.mean((similarities @ coef.T).argmax(1) == labels):.4f}"
            for similarities, labels in ((given.similarities, given.labels), test)
        ]
        lines.append(
            f"| {label} | {objective:.5f} | {stated.gap(point) / objective:.1e} | {zeros:.0%} | "
            f"{' | '.join(scores)} | {seconds:.2f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def real_problem(
    clf: ProtoPNetClassifier, train: tuple[Array, Array], *others: tuple[Array, Array]
) -> tuple[Problem, list[tuple[Array, Array]]]:
    """Fit a network and compute its similarities, to other images too."""
    clf.set_params(random_state=0).fit(*train)
    labels = [np.searchsorted(clf.classes_, y) for _, y in (train, *others)]
    similarities = [clf.transform(X) for X, _ in (train, *others)]
    owners = np.searchsorted(clf.classes_, clf.prototype_classes_)
    given = problem(similarities[0], labels[0], owners, len(clf.classes_))
    return given, list(zip(similarities[1:], labels[1:], strict=True))


def ridges(problems: dict[str, Problem], validation: tuple[Array, Array]) -> list[str]:
    """Zeros for many ridge penalties, and accuracy on images that are no test images."""
    lines = [
        "### Ridge penalties, with the default l1_weight",
        "",
        f"| l2_weight | {' | '.join(f'zeros off class, {name}' for name in problems)} "
        "| validation accuracy, Fashion-MNIST (10,000 further training images) |",
        "|---|---|---|---|",
    ]
    for l2_weight in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2):
        cells = []
        for given in problems.values():
            coef = ours(replace(given, l2_weight=l2_weight))
            cells.append(f"{np.mean(coef[given.penalty_mask] == 0):.0%}")
        similarities, labels = validation
        accuracy = np.mean((similarities @ coef.T).argmax(1) == labels)
        lines.append(f"| {l2_weight:g} | {' | '.join(cells)} | {accuracy:.4f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def quick_target(problems: dict[str, Problem]) -> list[str]:
    """Seconds to a gap of 1e-6 with 2,000 images, 100 prototypes and 10 classes."""
    lines = [
        "### 2,000 images x 100 prototypes x 10 classes, gap below 1e-6 of the objective",
        "",
        "| similarities | l1_weight | l2_weight | iterations | s (median of 5) |",
        "|---|---|---|---|---|",
    ]
    for name, given in problems.items():
        for l1, l2 in ((1e-4, 3e-4), (1e-4, 1e-4), (1e-3, 1e-3), (1e-4, 1e-2), (1e-3, 1e-5)):
            seconds, stated = [], replace(given, l1_weight=l1, l2_weight=l2)
            for _ in range(5):
                start = time.perf_counter()
                solution = certified(stated)
                seconds.append(time.perf_counter() - start)
            assert solution.gap <= 1e-6 * solution.objective
            lines.append(
                f"| {name} | {l1:g} | {l2:g} | {solution.n_iter} | {np.median(seconds):.2f} |"
            )
            print(lines[-1], flush=True)
    return [*lines, ""]


def large_targets() -> list[str]:
    """CUB's size, and the cost of doubling each of its three numbers."""
    n, m, k = CUB
    sizes = {
        "CUB": (n, m, k),
        "twice the images": (2 * n, m, k),
        "twice the prototypes": (n, 2 * m, k),
        "twice the classes": (n, m, 2 * k),
    }
    lines = [
        "### CUB scale, synthetic similarities, gap below 1e-4 of the objective",
        "",
        "| problem | images x prototypes x classes | iterations | s | ratio | peak memory, GB | "
        "gap / objective |",
        "|---|---|---|---|---|---|---|",
    ]
    first = 0.0
    for name, size in sizes.items():
        found = in_a_process(__file__, *size)
        assert found["gap"] <= 1e-4 * found["objective"]
        assert found["gigabytes"] < 4
        first = first or found["seconds"]
        lines.append(
            f"| {name} | {' x '.join(f'{number:,}' for number in size)} | {found['n_iter']} | "
            f"{found['seconds']:.0f} | {found['seconds'] / first:.2f} | {found['gigabytes']:.2f} | "
            f"{found['gap'] / found['objective']:.1e} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def solve_one(n_images: int, n_prototypes: int, n_classes: int) -> None:
    """Solve a synthetic problem and print what that took."""
    given = synthetic(n_images, n_prototypes, n_classes)
    start = time.perf_counter()
    solution = certified(given, tol=1e-4)
    found = {
        "seconds": time.perf_counter() - start,
        "n_iter": solution.n_iter,
        "objective": solution.objective,
        "gap": solution.gap,
        "gigabytes": resident_memory("VmHWM") / 1e3,
    }
    print(json.dumps(found))


def main() -> None:
    """Measure everything."""
    X_train, y_train, X_test, y_test = split_digits(0)
    clf = ProtoPNetClassifier(image_shape=(8, 8))
    digits, (digits_test,) = real_problem(clf, (X_train, y_train), (X_test, y_test))
    images, labels, *test = load_fashion_mnist()
    train, validation = (
        (images[:10_000], labels[:10_000]),
        (images[10_000:20_000], labels[10_000:20_000]),
    )
    fashion, (fashion_test, fashion_validation) = real_problem(
        ProtoPNetClassifier(), train, tuple(test), validation
    )
    part = replace(
        fashion,
        similarities=fashion.similarities[:2_000],
        labels=fashion.labels[:2_000],
        weights=fashion.weights[:2_000],
    )
    lines = [
        *compare("Digits, 1,347 training and 450 test images", digits, digits_test),
        *compare("Fashion-MNIST, 10,000 training and 10,000 test images", fashion, fashion_test),
        *ridges({"digits": digits, "Fashion-MNIST": fashion}, fashion_validation),
        *quick_target({"Fashion-MNIST": part, "synthetic": synthetic(2_000, 100, 10)}),
        *large_targets(),
    ]
    title = (
        f"The last layer (l1_weight {PENALTIES['l1_weight']:g}, l2_weight "
        f"{PENALTIES['l2_weight']:g} unless stated)"
    )
    publish(title, lines, is_quick=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        solve_one(*map(int, sys.argv[1:]))
    else:
        main()
