"""The evidence for any images of a source, as tables.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._images import ImageSource
from sklearn_protopnet._located_boxes import LocatedBoxes
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet.inspection._details import (
    DETAILS,
    Context,
    check_details,
    detail_columns,
    explanation_units,
    image_digest,
    model_digest,
)
from sklearn_protopnet.inspection._explained_classes import check_top_classes, explained_classes
from sklearn_protopnet.inspection._localizers import LOCALIZERS, check_localizer, located_boxes
from sklearn_protopnet.inspection._tables import (
    Explained,
    Rows,
    explanation_table,
    ranked_prototypes,
)


@dataclass(frozen=True)
class Options:
    """What to explain, and how."""

    classes: str | ArrayLike
    top_k: int | None
    localizer: str
    details: tuple[str, ...]
    n_located: int | None = None
    """Rows of each image and class, the first ones, that the localizer finds boxes of; the others
    have receptive fields. All with None."""
    n_top_classes: int | None = None
    """Instead of `classes`."""

    @classmethod
    def checked(
        cls,
        classes: str | ArrayLike,
        top_k: int | None,
        localizer: str,
        details: str | Iterable[str],
        n_top_classes: int | None = None,
    ) -> Options:
        """Check what does not depend on a classifier."""
        check_localizer(localizer)
        if top_k is not None and (not isinstance(top_k, Integral) or top_k < 1):
            raise ValueError(f"top_k must be a positive integer or None, got {top_k!r}.")
        check_top_classes(n_top_classes, classes)
        return cls(classes, top_k, localizer, check_details(details), n_top_classes=n_top_classes)


@dataclass
class Explainer:
    """Explains images of one source, some or all of them at a time."""

    fitted: FittedNetwork
    source: ImageSource
    names: NDArray[Any]
    """(n,) what to call the images."""
    options: Options
    _sources: PrototypeRecord = field(init=False)
    """With boxes of the localizer, as far as they were needed."""
    _boxed: set[int] = field(init=False, default_factory=set)
    """Prototypes whose source boxes are by the localizer."""
    _kept: tuple[range, Evidence | None] = field(init=False, default=(range(0), None))
    """The images that were compared last, and their evidence."""

    def __post_init__(self) -> None:
        self._sources = self.fitted.prototypes

    def __len__(self) -> int:
        return len(self.names)

    def table(self, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """Explain the images from one position up to another; a table as `explain` gives it."""
        stop = len(self) if stop is None else min(stop, len(self))
        part, options, labels = slice(start, stop), self.options, self.fitted.classes
        evidence = self._evidence(start, stop)
        explained = explained_classes(
            options.classes, labels, evidence.logits, options.n_top_classes
        )
        ranked = ranked_prototypes(
            self.fitted.prototypes.coef, evidence.similarities, explained, options.top_k
        )
        to_locate = ranked[:, :, : options.n_located]
        wanted = [DETAILS[name] for name in options.details]
        of_patches = any(detail.of_patches for detail in wanted)
        n_patches = evidence.patch_positions.shape[2] if of_patches else 1
        located = located_boxes(
            self.fitted,
            self.source.part(part),
            options.localizer,
            evidence.patch_positions[:, :, :n_patches],
            lambda i: np.unique(to_locate[i]),
            with_effects=any(detail.needs_effects for detail in wanted),
        )
        parts = Explained(
            evidence,
            located,
            self._located_sources(to_locate),
            self.names[part],
            Rows.of(explained, ranked, n_patches),
        )
        context = Context(self.fitted, parts, lambda: self._digests)
        columns = detail_columns(options.details, context)
        return explanation_table(parts, labels, columns, explanation_units())

    def predicted(self, i: int) -> Any:
        """Say which class the classifier predicts for an image."""
        return self.fitted.classes[self._evidence(i, i + 1).logits[0].argmax()]

    def other_boxes(self, i: int, prototypes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Receptive fields (Q, k - 1, 4) in an image of all but the most similar of its patches.

        Of those that are pooled for each of Q prototypes.
        """
        others = self._evidence(i, i + 1).patch_positions[:, prototypes, 1:]  # (1, Q, k - 1)
        one = self.source.part(slice(i, i + 1))
        boxes: NDArray[np.int64] = self.fitted.receptive_fields(one, others).boxes[0]
        return boxes

    def _evidence(self, start: int, stop: int) -> Evidence:
        """Evidence of the images from one position up to another.

        A whole chunk is compared at once: what follows is kept for the next table.
        """
        images, evidence = self._kept
        if evidence is None or start not in images or stop > images.stop:
            images = range(start, min(max(stop, start + self.source.chunk_size), len(self)))
            evidence = self.fitted.evidence(self.source.part(slice(images.start, images.stop)))
            self._kept = images, evidence
        return evidence[start - images.start : stop - images.start]

    def _located_sources(self, ranked: NDArray[np.int64]) -> PrototypeRecord:
        """Find the source boxes of prototypes, of each once, when it is first needed."""
        if not LOCALIZERS[self.options.localizer].is_exact:
            wanted = np.array(sorted(set(ranked.ravel().tolist()) - self._boxed), dtype=np.int64)
            self._sources, _ = located_sources(
                self.fitted, self._sources, self.options.localizer, wanted
            )
            self._boxed.update(wanted.tolist())
        return self._sources

    @cached_property
    def _digests(self) -> tuple[NDArray[Any], str]:
        images = self.fitted.prototypes.images
        sources = np.array([image_digest(each) for each in images], dtype=object)
        return sources, model_digest(self.fitted)


def located_sources(
    fitted: FittedNetwork,
    sources: PrototypeRecord,
    localizer: str,
    wanted: NDArray[np.int64],
) -> tuple[PrototypeRecord, NDArray[Any]]:
    """Have a localizer find the source boxes of the prototypes that are wanted.

    Parameters
    ----------
    fitted : FittedNetwork
    sources : PrototypeRecord
        With receptive fields for boxes, or boxes that were found before.
    localizer : str
    wanted : int64 array of shape (Q,)
        Numbers of prototypes.

    Returns
    -------
    sources : PrototypeRecord
        With the boxes that were found.
    kinds : object array of shape (Q,)
        What their boxes are; ``""`` of prototypes that are no patch of an image.
    """
    kinds = np.full(len(wanted), "", dtype=object)
    has_source = sources.has_source[wanted]
    chosen = wanted[has_source]
    if len(chosen) == 0:
        return sources, kinds
    images = fitted.prototype_source(chosen)
    if LOCALIZERS[localizer].is_exact:
        fields = LocatedBoxes.of_receptive_fields(sources.boxes[chosen], images.sizes)
        kinds[has_source] = fields.kinds
        return sources, kinds
    positions = fitted.evidence(images).positions  # (Q, P)
    found = located_boxes(fitted, images, localizer, positions, lambda i: chosen[i : i + 1])
    pairs = np.arange(len(chosen)), chosen
    kinds[has_source] = found.kinds[pairs]
    boxes = sources.boxes.copy()
    boxes[chosen] = found.boxes[pairs]
    return replace(sources, boxes=boxes), kinds
