"""What a report says of prototypes where images were rendered with one thing changed.

Shapes: n images, P prototypes, I interventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._images import ImageSource
from sklearn_protopnet.inspection._pipelines import open_images
from sklearn_protopnet.metrics._interventions import causal_parts
from sklearn_protopnet.metrics._report._context import NAN, Columns, Subject, means


@dataclass(frozen=True)
class Intervention:
    """What the classifier sees in images after one thing was changed."""

    similarities: NDArray[np.float64]
    """(n, P)"""
    was_there: NDArray[np.bool_]
    """(n,) whether the image is another one."""


def check_interventions(interventions: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Check that interventions have names from which columns get names of their own."""
    named = {} if interventions is None else interventions
    if not isinstance(named, Mapping):
        raise TypeError(
            f"interventions must be a dict of names to images, got {type(named).__name__}."
        )
    for name in named:
        if not isinstance(name, str) or not name:
            raise ValueError(f"Names of interventions must be text, and not empty, got {name!r}.")
        if f"{name}_others" in named:
            raise ValueError(
                "Names of interventions must differ by more than '_others', which columns for "
                f"other classes end in, got {name!r} and {f'{name}_others'!r}."
            )
    return named


def seen_interventions(
    estimator: Any, interventions: Mapping[str, Any], subject: Subject
) -> dict[str, Intervention]:
    """Look at the images of each intervention."""
    found = {}
    for name, images in interventions.items():
        opened = open_images(estimator, images)
        if len(opened.source) != len(subject.labels):
            raise ValueError(
                f"Interventions must have the {len(subject.labels)} images in X, got "
                f"{len(opened.source)} for {name!r}."
            )
        similarities = opened.fitted.evidence(opened.source).similarities
        found[name] = Intervention(similarities, _differ(subject.source, opened.source))
    return found


def cause_columns(subject: Subject, changed: dict[str, Intervention], min_count: int) -> Columns:
    """Say what interventions cost of similarities, and which of them is the cause."""
    before = subject.evidence.similarities  # (n, P)
    after = np.stack([each.similarities for each in changed.values()], axis=1)  # (n, I, P)
    was_there = np.stack([each.was_there for each in changed.values()], axis=1)  # (n, I)
    causes = causal_parts(before, after, was_there)  # (n, P)
    is_cause = causes[:, None] == np.arange(len(changed))[:, None]  # (n, I, P)
    effects = np.full(after.shape, NAN)  # (n, I, P)
    np.divide(before[:, None] - after, before[:, None], out=effects, where=before[:, None] > 0)
    names = np.array([*changed], dtype=object)
    columns: Columns = {}
    for suffix, scope in (("", subject.own), ("_others", ~subject.own)):
        counts = scope[:, None] & was_there[:, :, None]  # (n, I, P)
        counts &= counts.sum(0) >= min_count
        numbers = range(len(changed))
        rates = np.array([means(is_cause[:, i].astype(float), counts[:, i]) for i in numbers])
        largest = np.where(np.isnan(rates), -np.inf, rates).max(0)  # (P,)
        columns |= {
            f"effect_{names[i]}{suffix}": means(effects[:, i], counts[:, i]) for i in numbers
        }
        most_frequent = names[np.nan_to_num(rates).argmax(0)]
        columns[f"cause{suffix}"] = np.where(largest > 0.5, most_frequent, "")
        columns[f"cause_rate{suffix}"] = np.where(np.isinf(largest), NAN, largest)
    return columns


def _differ(one: ImageSource, other: ImageSource) -> NDArray[np.bool_]:
    """Say which images differ in any pixel, (n,)."""
    found = np.zeros(len(one), dtype=bool)
    for (index, images), (_, others) in zip(
        one.chunks(one.rows), other.chunks(other.rows), strict=True
    ):
        found[index] = (images != others).flatten(1).any(1)[: len(index)].numpy()
    return found
