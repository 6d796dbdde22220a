"""Which patches of images make the best prototypes of a class, by the objective.

Shapes: n images, q patches, c candidates, K classes, L patches of an image, D1 = D H1 W1 numbers in
a patch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_protopnet._last_layer import Problem, solve_near
from sklearn_protopnet._last_layer._problem import shrink
from sklearn_protopnet.editing._snapshot import Snapshot

N_IMAGES: Final = 200
"""Candidates come from so many images of a class, those of the largest losses."""
N_CANDIDATES: Final = 400
"""So many patches of them are candidates, the most different ones. Drawn at random, digits to which
the nines were added had 0.981 and not 0.983 (ten splits)."""
N_TRIED: Final = 3
"""For so many of them, the best by a step along the gradient, the last layer is solved for."""


@dataclass(frozen=True)
class Patches:
    """Latent patches, and where they come from."""

    vectors: NDArray[np.float32]
    """(q, D1)"""
    rows: NDArray[np.int64]
    """(q,) rows of the editor's images."""
    positions: NDArray[np.int64]
    """(q,) which patches of these images."""

    def __getitem__(self, index: NDArray[np.int64]) -> Patches:
        return Patches(self.vectors[index], self.rows[index], self.positions[index])


def best_patches(now: Snapshot, k: int, n: int) -> Patches:
    """Choose patches of a class's images, one by one, that promise to lower the objective most."""
    candidates = _candidates(now, k)
    if len(candidates.rows) < n:
        label = now.classifier.classes_.tolist()[k]
        raise ValueError(
            f"There must be {n} patches of class {label!r} that are no prototypes yet, found "
            f"{len(candidates.rows)}."
        )
    columns, _ = now.training.columns(now.fitted, candidates.vectors)  # (n, c)
    problem, coef = now.problem, now.coef
    chosen: list[int] = []
    for _ in range(n):
        scores = _gains(problem, coef, columns, k)
        scores[chosen] = -np.inf
        trials = []
        for candidate in np.argsort(-scores, kind="stable")[:N_TRIED]:
            if scores[candidate] > -np.inf:
                wider = _widened(problem, columns[:, [candidate]], k)
                start = np.column_stack([coef, np.zeros(len(coef))])
                solution, _ = solve_near(wider, start, None)
                trials.append((solution.objective, int(candidate), wider, solution.coef))
        _, best, problem, coef = min(trials, key=lambda trial: trial[:2])
        chosen.append(best)
    return candidates[np.array(chosen)]


def _candidates(now: Snapshot, k: int) -> Patches:
    """Choose the most different patches of images of a class, those of the largest losses."""
    training, problem = now.training, now.problem
    point = problem.point(now.coef)
    rows = np.flatnonzero((training.labels == k) & (problem.weights > 0))
    if len(rows) == 0:
        label = now.classifier.classes_.tolist()[k]
        raise ValueError(f"There must be an image of class {label!r} of positive weight, got none.")
    losses = point.log_totals[rows] - point.logits[k, rows]
    rows = rows[np.argsort(-losses, kind="stable")[:N_IMAGES]]
    patches = np.stack([now.fitted.patches(training.image(row)[0])[0] for row in rows.tolist()])
    n_patches = patches.shape[1]
    vectors = patches.reshape(-1, patches.shape[2])
    known = now.fitted.prototypes.vectors[now.owners == k]
    index = _farthest(_comparable(now, vectors), _comparable(now, known))
    return Patches(vectors[index], rows[index // n_patches], index % n_patches)


def _comparable(now: Snapshot, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    comparable: NDArray[np.float64] = now.fitted.network.comparable(
        torch.from_numpy(vectors).double()
    ).numpy()
    return comparable


def _farthest(vectors: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.int64]:
    """Take the vector that is farthest from all known and taken ones, again and again, (c,).

    Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance" (1985).
    """
    away = np.full(len(vectors), np.inf)
    for each in known:
        away = np.minimum(away, np.square(vectors - each).sum(1))
    chosen: list[int] = []
    while len(chosen) < min(N_CANDIDATES, len(vectors)) and away.max() > 0:
        chosen.append(int(away.argmax()))
        away = np.minimum(away, np.square(vectors - vectors[chosen[-1]]).sum(1))
    return np.array(chosen, dtype=np.int64)


def _gains(
    problem: Problem, coef: NDArray[np.float64], columns: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Say by how much a step along each new weight would lower the objective, (c,)."""
    point = problem.point(coef)
    gradient = problem.residuals(point) @ columns  # (K, c)
    masses = problem.shares * point.probabilities * (1 - point.probabilities)  # (K, n)
    curvature = masses @ np.square(columns) + problem.l2_weight  # (K, c)
    penalties = np.full(len(coef), problem.l1_weight)
    penalties[k] = 0.0
    gains: NDArray[np.float64] = (
        np.square(shrink(gradient, penalties[:, None])) / (2 * curvature)
    ).sum(0)
    return gains


def _widened(problem: Problem, column: NDArray[np.float64], k: int) -> Problem:
    """Let a problem have one prototype of class k more."""
    shape, n_classes = problem.penalties.shape, len(problem.penalties)
    free = np.full((n_classes, 1), np.inf)
    return replace(
        problem,
        similarities=np.hstack([problem.similarities, column]),
        penalty_mask=np.hstack([problem.penalty_mask, np.arange(n_classes)[:, None] != k]),
        lower=np.hstack([np.broadcast_to(problem.lower, shape), -free]),
        upper=np.hstack([np.broadcast_to(problem.upper, shape), free]),
    )
