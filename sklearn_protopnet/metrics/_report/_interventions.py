"""What images that were rendered with one thing changed say of prototypes.

Shapes: n images, P prototypes, I interventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet.inspection._pipelines import classifier_images
from sklearn_protopnet.metrics._interventions import causal_parts
from sklearn_protopnet.metrics._report._aggregation import NAN, means


@dataclass(frozen=True)
class ChangedImages:
    """What the network finds in images after each intervention."""

    names: tuple[str, ...]
    """(I,)"""
    similarities: NDArray[np.float64]
    """(n, I, P)"""
    was_there: NDArray[np.bool_]
    """(n, I) whether an image had what the intervention changes: it is another image now."""


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


def compare_changed_images(
    estimator: Any, interventions: Mapping[str, Any], fitted: FittedNetwork, source: ImageSource
) -> ChangedImages:
    """Compare the images of each intervention with all prototypes."""
    n_images, shape = len(source), (len(source), len(interventions))
    similarities = np.empty((*shape, len(fitted.prototypes.classes)))
    was_there = np.empty(shape, dtype=bool)
    for i, (name, images) in enumerate(interventions.items()):
        changed = classifier_images(estimator, images).source
        if len(changed) != n_images:
            raise ValueError(
                f"Interventions must have the {n_images} images in X, got {len(changed)} for "
                f"{name!r}."
            )
        similarities[:, i] = fitted.similarities(changed)
        was_there[:, i] = _differ(source, changed)
    return ChangedImages(tuple(interventions), similarities, was_there)


@dataclass(frozen=True)
class InterventionEffects:
    """What interventions cost of similarities, and which of them is the cause.

    A scope (n, P) says of which images it is asked for each prototype.
    """

    similarities: NDArray[np.float64]
    """(n, P) before."""
    changed: ChangedImages
    min_count: int
    """What is there in fewer images of the scope does not count."""

    def effects(self, scope: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Mean share of the similarity that is lost, (I, P)."""
        before, after = self.similarities[:, None], self.changed.similarities  # (n, 1 or I, P)
        lost = np.full(after.shape, NAN)
        np.divide(before - after, before, out=lost, where=before > 0)
        return self._means(lost, scope)

    def causes(self, scope: NDArray[np.bool_]) -> NDArray[Any]:
        """Name of the intervention that is the cause in most images; "" if none is, (P,)."""
        rates = np.nan_to_num(self._rates(scope))
        names = np.array(self.changed.names, dtype=object)
        return np.where(rates.max(0) > 0.5, names[rates.argmax(0)], "")

    def cause_rates(self, scope: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of images in which the most frequent cause is the cause, (P,)."""
        rates = self._rates(scope)
        is_known = ~np.isnan(rates).all(0)
        return np.where(is_known, np.nan_to_num(rates).max(0), NAN)

    def _rates(self, scope: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of images in which each intervention is the cause, (I, P)."""
        return self._means(self._is_cause.astype(np.float64), scope)

    def _means(self, values: NDArray[np.float64], scope: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Means (I, P) of values (n, I, P) over images of the scope that had the thing."""
        counts = scope[:, None] & self.changed.was_there[:, :, None]  # (n, I, P)
        counts &= counts.sum(0) >= self.min_count
        return np.array([means(values[:, i], counts[:, i]) for i in range(values.shape[1])])

    @cached_property
    def _is_cause(self) -> NDArray[np.bool_]:
        """Whether an intervention is the cause, (n, I, P)."""
        changed = self.changed
        causes = causal_parts(self.similarities, changed.similarities, changed.was_there)  # (n, P)
        is_cause: NDArray[np.bool_] = (
            causes[:, None] == np.arange(len(changed.names))[:, None]  # (n, I, P)
        )
        return is_cause


def _differ(one: ImageSource, other: ImageSource) -> NDArray[np.bool_]:
    """Say which images differ in any pixel, (n,)."""
    found = np.zeros(len(one), dtype=bool)
    for (index, images), (_, others) in zip(
        one.chunks(one.rows), other.chunks(other.rows), strict=True
    ):
        found[index] = (images != others).flatten(1).any(1)[: len(index)].numpy()
    return found
