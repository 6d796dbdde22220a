"""What can be done about prototypes: whether it works, how long it takes, and what it costs.

``python benchmarks/editing.py`` measures everything and writes results.md; ``--parts`` measures
some of it, and ``--quick`` is a smoke run that writes nothing.

The spurious cue is that of `spurious_cue.py`, with its report and its measure of guilt. What an
expert would do is done by rule: where all prototypes of a class are accused, each part of the
first image of that class is pointed at, by the box around it; then all that are accused are
forbidden, and training goes on for five epochs.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import load_fashion_mnist, publish, split_digits
from last_layer import CUB, synthetic
from numpy.typing import NDArray
from spurious_cue import CUE, N_PARTS, guilty_prototypes, interventions
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, ProtoPNetEnsemble
from sklearn_protopnet._last_layer import solve, solve_near
from sklearn_protopnet.datasets import make_part_images, render_part_image
from sklearn_protopnet.editing import PrototypeEditor
from sklearn_protopnet.metrics import prototype_report

BETRAYED = 0
"""The cue betrays this class."""
N_EPOCHS = 5
"""So many joint epochs follow the edits."""
MEMBERS = ("auto", "resnet18", "wide")
"""These backbones are added up."""


def parameters(backbone: str) -> dict[str, Any]:
    """Give the parameters of a member; all start from random weights."""
    if backbone == "resnet18":
        return {"backbone": "resnet18", "feature_stride": 8}
    if backbone == "wide":
        torch.manual_seed(0)
        layers = [
            *(nn.Conv2d(1, 64, 5, padding=2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 128, 5, padding=2), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2)),
        ]
        rates = {"pretraining_epochs": 15, "backbone_learning_rate": 3e-3}
        return {"backbone": nn.Sequential(*layers), **rates}
    return {}


def box_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Give the smallest box around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def edited_by_rule(clf: ProtoPNetClassifier, train: Any, accused: NDArray[np.int64]) -> Any:
    """Point at parts where a class has none but accused prototypes, and forbid these."""
    editor = PrototypeEditor(clf, train.images, train.target)
    for label in clf.classes_:
        members = np.flatnonzero(clf.prototype_classes_ == label)
        if np.isin(members, accused).all():
            row = int(np.flatnonzero(train.target == label)[0])
            for part in range(N_PARTS):
                box = box_around(train.part_masks[row, part])
                editor.add_prototypes(label, sample=row, box=box)
    return editor.forbid(accused) if len(accused) else editor


def spurious_cue(*, is_quick: bool) -> list[str]:
    """Say what becomes of a classifier that looks at a square, edit by edit."""
    lines = [
        "| seed | accused | accuracy, other classes | with the square | edited: accuracy, all "
        "classes | other classes | with the square | trained on: accuracy, all classes | other "
        "classes | with the square | prototypes of the class that follow the square, before "
        "| after |",
        f"|{'---|' * 12}",
    ]
    rows = []
    for seed in range(1 if is_quick else 10):
        rows.append(cured(seed, is_quick=is_quick))
        lines.append(line(seed, rows[-1]))
        print(lines[-1], flush=True)
    return [*lines, line("mean", np.mean(rows, axis=0))]


def cured(seed: int, *, is_quick: bool) -> list[float]:
    """Give the figures of one seed: before, after the edits, and after a training on."""
    n_images = 60 if is_quick else 300
    train = make_part_images(n_images, spurious="patch", random_state=seed)
    seen = make_part_images(
        n_images, spurious="patch", spurious_align=0.5, spurious_leak=0.5, random_state=1000 + seed
    )
    unseen = make_part_images(n_images, random_state=2000 + seed)
    added = np.stack([render_part_image(each, add_spurious="patch") for each in unseen.params])
    clf = ProtoPNetClassifier(random_state=seed).fit(train.images, train.target)
    accused = accused_prototypes(clf, seen, min_count=1 if is_quick else 10)
    edited = edited_by_rule(clf, train, accused).classifier_
    trained = copy.deepcopy(edited).set_params(warm_start=True, joint_epochs=N_EPOCHS)
    trained.fit(train.images, train.target)
    return [
        len(accused),
        *scores(clf, unseen, added)[1:],
        *scores(edited, unseen, added),
        *scores(trained, unseen, added),
        *(count_followers(each, unseen, added) for each in (clf, trained)),
    ]


def accused_prototypes(clf: Any, seen: Any, min_count: int) -> NDArray[np.int64]:
    """Give the prototypes in use that the report accuses."""
    report = prototype_report(
        clf, seen.images, seen.target, groups=(), interventions=interventions(seen.params),
        min_count=min_count,
    )  # fmt: skip
    is_accused = (report[["cause", "cause_others"]] == CUE).any(axis=1).to_numpy()
    return np.flatnonzero(is_accused & clf.coef_.any(0))


def scores(clf: Any, unseen: Any, added: NDArray[Any]) -> list[float]:
    """Accuracy on all classes, on the others than the betrayed one, and these with the square."""
    others, y = unseen.target != BETRAYED, unseen.target
    return [
        clf.score(unseen.images, y),
        clf.score(unseen.images[others], y[others]),
        clf.score(added[others], y[others]),
    ]


def count_followers(clf: Any, unseen: Any, added: NDArray[Any]) -> int:
    """Count prototypes of the betrayed class that the square makes more similar."""
    guilty = guilty_prototypes(clf, unseen, added)
    return int((guilty & (clf.prototype_classes_ == BETRAYED)).sum())


def line(name: object, figures: Any) -> str:
    """One line of a table."""
    cells = [f"{each:.3f}" if isinstance(each, float) else str(each) for each in figures]
    return f"| {name} | {' | '.join(cells)} |"


def times(*, is_quick: bool) -> list[str]:
    """Time edits and costs: of Fashion-MNIST, and of a problem of CUB's size."""
    X, y, *_ = load_fashion_mnist()
    n_images = 500 if is_quick else 10_000
    clf = ProtoPNetClassifier(random_state=0).fit(X[:3_000], y[:3_000])
    clf.refit_last_layer(X[:n_images], y[:n_images])
    start = time.perf_counter()
    editor = PrototypeEditor(clf, X[:n_images], y[:n_images])
    lines = [
        f"Fashion-MNIST, {n_images:,} images, 100 prototypes, 10 classes: to compare all images "
        f"with all prototypes took {time.perf_counter() - start:.1f} s, once.",
        "",
        "| what | s (median) | certified gap, of the objective | objective |",
        "|---|---|---|---|",
    ]
    random = np.random.default_rng(0)
    edits: dict[str, Callable[[], Any]] = {
        "forbid one": lambda: editor.forbid(random.integers(100)),
        "forbid ten": lambda: editor.forbid(random.choice(100, 10, replace=False)),
        "forbid half": lambda: editor.forbid(random.permutation(100)[:50]),
        "require one": lambda: editor.require(random.integers(100), min_weight=1.0),
        "merge duplicates": editor.merge_duplicates,
        "prune": editor.prune,
    }
    start = time.perf_counter()
    row = editor.forbid(0).log().iloc[-1]  # computes the Hessian, once
    cells = f"{time.perf_counter() - start:.3f} | {row['gap'] / row['objective']:.1e}"
    lines.append(f"| the first edit: forbid one | {cells} | {row['objective']:.4f} |")
    editor.undo()
    for name, edit in edits.items():
        taken, gaps = [], []
        for _ in range(5):
            start = time.perf_counter()
            edit()
            taken.append(time.perf_counter() - start)
            row = editor.log().iloc[-1]
            gaps.append(row["gap"] / row["objective"])
            editor.undo()
        lines.append(
            f"| {name} | {np.median(taken):.3f} | {max(gaps):.1e} | {row['objective']:.4f} |"
        )
        print(lines[-1], flush=True)
    for tol in (1e-3, 1e-4):
        start = time.perf_counter()
        table = editor.costs(tol=tol)
        taken_s = time.perf_counter() - start
        gap = (1 - table["objective_lower"] / table["objective_upper"]).max()
        lines.append(f"| costs of all 100, tol={tol:g} | {taken_s:.1f} | {gap:.1e} | |")
        print(lines[-1], flush=True)
    return [*lines, "", *times_of_cub(is_quick=is_quick)]


def times_of_cub(*, is_quick: bool) -> list[str]:
    """Time what an edit solves, at the size of CUB-200-2011."""
    shape = (300, 60, 6) if is_quick else CUB
    given = synthetic(*shape)
    start = time.perf_counter()
    now = solve(given)
    lines = [
        f"{shape[0]:,} images, {shape[1]:,} prototypes and {shape[2]} classes, synthetic "
        f"similarities; solved from zeros to 1e-6 in {time.perf_counter() - start:.0f} s.",
        "",
        "| forbidden | gap below | s (median of 3) | iterations |",
        "|---|---|---|---|",
    ]
    random = np.random.default_rng(0)
    for n in (1, 20):
        for tol in (1e-4, 1e-6):
            taken, n_iter = [], []
            for _ in range(1 if is_quick else 3):
                bound = np.full(given.penalties.shape, np.inf)
                bound[:, random.choice(shape[1], n, replace=False)] = 0.0
                start = time.perf_counter()
                edited = replace(given, lower=-bound, upper=bound)
                solution, _ = solve_near(edited, now.coef, None, tol=tol)
                taken.append(time.perf_counter() - start)
                n_iter.append(solution.n_iter)
                assert solution.converged
            lines.append(f"| {n} | {tol:g} | {np.median(taken):.1f} | {np.median(n_iter):.0f} |")
            print(lines[-1], flush=True)
    return lines


def digits(*, is_quick: bool) -> list[str]:
    """Forbid half of the prototypes at random, and add a digit to a classifier without it."""
    epochs = {"joint_epochs": 2, "pretraining_epochs": 2} if is_quick else {}
    rows = []
    for seed in range(1 if is_quick else 10):
        X, y, X_test, y_test = split_digits(seed)
        clf = ProtoPNetClassifier(random_state=seed, **epochs).fit(X, y)
        half = np.random.default_rng(seed).permutation(len(clf.prototypes_))[::2]
        thinned = PrototypeEditor(clf, X, y).forbid(half).classifier_
        rows.append([clf.score(X_test, y_test), thinned.score(X_test, y_test)])
        print(rows[-1], flush=True)
    full, thinned = np.mean(rows, axis=0)
    lines = [
        f"All ten classes at once: {full:.4f}. Half of the prototypes forbidden: {thinned:.4f}.",
        "",
        "| added | nine classes: accuracy | all ten, a new image counts a quarter | the old nine "
        "| the new one | all ten, images count alike | the old nine | the new one |",
        f"|{'---|' * 8}",
    ]
    for title, splits in (
        ("9, ten splits", [(seed, 9) for seed in range(10)]),
        ("0 to 9 in turn, ten other splits", [(20 + digit, digit) for digit in range(10)]),
    ):
        rows = []
        for seed, digit in splits[: 1 if is_quick else None]:
            rows.append(grown(seed, digit, epochs))
            print(line(digit, [f"{each:.4f}" for each in rows[-1]]), flush=True)
        means, rows = np.mean(rows, axis=0), np.array(rows)
        cells = [f"{each:.4f}" for each in means]
        for column in (2, 5):
            lost = 100 * (rows[:, 0] - rows[:, column])
            error = lost.std(ddof=1) / len(lost) ** 0.5 if len(lost) > 1 else np.nan
            cells[column] += f" ({-lost.mean():+.2f} \N{PLUS-MINUS SIGN} {error:.2f})"
        lines.append(line(title, cells))
    return lines


def grown(seed: int, digit: int, epochs: dict[str, int]) -> list[float]:
    """Add a digit to a classifier of the other nine, and score it on all, the old and the new.

    First as it comes, then with new images that count as much as old ones; in front of both, what
    the nine have without the new one.
    """
    X, y, X_test, y_test = split_digits(seed)
    old, is_old = y != digit, y_test != digit
    nine = ProtoPNetClassifier(random_state=seed, **epochs).fit(X[old], y[old])
    found = [nine.score(X_test[is_old], y_test[is_old])]
    for weights in (None, np.ones((~old).sum())):
        editor = PrototypeEditor(nine, X[old], y[old])
        ten = editor.add_class(X[~old], digit, n_prototypes=10, sample_weight=weights).classifier_
        for rows in (np.ones_like(is_old), is_old, ~is_old):
            found.append(ten.score(X_test[rows], y_test[rows]))
    return found


def ensembles(*, is_quick: bool) -> list[str]:
    """Add the logits of three backbones."""
    X, y, X_test, y_test = load_fashion_mnist()
    n_images = 300 if is_quick else 3_000
    X, y = X[:n_images], y[:n_images]
    epochs = {"joint_epochs": 1, "pretraining_epochs": 1} if is_quick else {}
    lines = [
        f"| seed | {' | '.join(MEMBERS)} | ensemble | largest miss of the table's sums |",
        f"|{'---|' * (len(MEMBERS) + 3)}",
    ]
    for seed in range(1 if is_quick else 3):
        ensemble = ProtoPNetEnsemble(
            [
                (name, ProtoPNetClassifier(random_state=seed, **{**parameters(name), **epochs}))
                for name in MEMBERS
            ]
        ).fit(X, y)
        alone = [each.score(X_test, y_test) for each in ensemble.named_estimators_.values()]
        why = ensemble.explain(X_test[:50], classes="all")
        sums = why.groupby(["sample", "class"])["contribution"].sum().unstack().to_numpy()
        logits = ensemble.decision_function(X_test[:50])
        miss = np.abs(sums - logits).max() / np.abs(logits).max()
        figures = [*alone, ensemble.score(X_test, y_test), f"{miss:.1e}"]
        lines.append(line(seed, [f"{each:.4f}" for each in figures[:-1]] + figures[-1:]))
        print(lines[-1], flush=True)
    return lines


PARTS: dict[str, tuple[str, str, Callable[..., list[str]]]] = {
    "cue": (
        "Editing: a spurious cue",
        "In training, a black and white square betrays one class of six (300 images with known "
        "parts). `prototype_report` accuses; where it accuses all prototypes of the class, the "
        "parts of its first training image are pointed at; those that are accused are forbidden; "
        f"then training goes on for {N_EPOCHS} joint epochs. Test images have no square, or have "
        "one added. A prototype follows the square if that raises its "
        "similarity by a tenth at least in most images of other classes.",
        spurious_cue,
    ),
    "times": ("Editing: time", "Every edit is solved to a certified gap of 1e-6.", times),
    "digits": (
        "Editing: digits",
        "Half of the prototypes, drawn at random, forbidden (ten splits); and a digit, 10 "
        "prototypes, added without training to a classifier of the other nine. Test accuracy; in "
        "brackets what the old nine gain, in points, with its standard error.",
        digits,
    ),
    "ensembles": (
        "Ensembles (Fashion-MNIST, 3,000 training images)",
        "Accuracy on 10,000 test images of three backbones from random weights, and of the sum of "
        "their logits.",
        ensembles,
    ),
}


def main() -> None:
    """Measure the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    for name in given.parts:
        title, head, measure = PARTS[name]
        publish(title, [head, "", *measure(is_quick=given.quick)], is_quick=given.quick)


if __name__ == "__main__":
    main()
