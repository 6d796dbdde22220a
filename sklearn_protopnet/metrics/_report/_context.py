"""What a report is about: a classifier, and what it sees in images of known classes.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import (
    RECEPTIVE_FIELD,
    Evidence,
    FittedClassifier,
    FittedNetwork,
)
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._validation import check_labels
from sklearn_protopnet.inspection._pipelines import open_images
from sklearn_protopnet.metrics._size import (
    global_size,
    local_size,
    n_distinct_prototypes,
    sparsity,
)

Columns = dict[str, Any]
NAN: Final = float("nan")


@dataclass(frozen=True)
class Subject:
    """A classifier and what it sees in images of known classes."""

    classifier: FittedClassifier
    fitted: FittedNetwork
    source: ImageSource
    labels: NDArray[np.int64]
    """(n,) class indices."""
    localizer: str
    max_images: int
    evidence: Evidence

    @classmethod
    def of(cls, estimator: Any, X: Any, y: ArrayLike, localizer: str, max_images: int) -> Subject:
        classifier, fitted, source, _ = open_images(estimator, X)
        labels = check_labels("y", y, "X", len(source), fitted.classes)
        evidence = fitted.evidence(source)
        return cls(classifier, fitted, source, labels, localizer, max_images, evidence)

    @cached_property
    def own(self) -> NDArray[np.bool_]:
        """Whether an image is of a prototype's class, (n, P)."""
        classes = self.classifier.classes_[self.labels]
        is_own: NDArray[np.bool_] = classes[:, None] == self.classifier.prototype_classes_
        return is_own

    @cached_property
    def closely(self) -> NDArray[np.bool_]:
        """Whether a prototype is looked at closely in an image, (n, P)."""
        counts: NDArray[np.bool_] = self.own & (np.cumsum(self.own, axis=0) <= self.max_images)
        return counts

    @property
    def boxed(self) -> NDArray[np.bool_]:
        """Whether there is a box of the localizer, (n, P)."""
        return self.own if self.localizer == RECEPTIVE_FIELD else self.closely

    def columns(self) -> Columns:
        """Say what needs nothing but the images."""
        table = self.classifier.prototype_table()
        names = ["prototype", "prototype_class", "source_sample"]
        return {
            **{name: table[name].to_numpy() for name in names},
            "n_images": self.own.sum(0),
            "n_classes": (self.classifier.coef_ != 0).sum(0),
            "n_duplicates": table["n_duplicates"].to_numpy(),
            "similarity": means(self.evidence.similarities, self.own),
            "similarity_others": means(self.evidence.similarities, ~self.own),
        }

    def summary(self) -> dict[str, float]:
        """Say what is said of the classifier as a whole."""
        coef, predicted = self.classifier.coef_, self.evidence.logits.argmax(1)
        return {
            "accuracy": float((predicted == self.labels).mean()),
            "sparsity": sparsity(coef),
            "global_size": global_size(coef),
            "local_size": local_size(coef[predicted] * self.evidence.similarities),
            "n_distinct_prototypes": n_distinct_prototypes(self.classifier.prototypes_),
        }

    def boxes(self) -> NDArray[np.int64]:
        """Receptive fields of the nearest patches, (n, P, 4)."""
        return self.fitted.receptive_fields(self.source, self.evidence.positions).boxes

    def each(self, metric: Any, *values: NDArray[Any]) -> NDArray[np.float64]:
        """Compute a metric of values (n, P, ...) for each prototype where it has boxes; (P,)."""
        return of_each(metric, self.boxed, *values)


def of_each(metric: Any, counts: NDArray[np.bool_], *values: NDArray[Any]) -> NDArray[np.float64]:
    """Compute a metric of those values (n, P, ...) that count (n, P); (P,), NaN of none."""
    return np.array(
        [
            metric(*(each[rows, p] for each in values)) if rows.any() else NAN
            for p, rows in enumerate(counts.T)
        ]
    )


def means(values: NDArray[np.float64], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean (P,) of the values (n, P) that count; NaN of none, and NaN values do not count."""
    counted = counts & ~np.isnan(values)
    total, number = np.where(counted, values, 0).sum(0), counted.sum(0)
    found = np.full(len(total), NAN)
    np.divide(total, number, out=found, where=number > 0)
    return found
