"""The evidence for any images of a source, as tables.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.extmath import softmax

from sklearn_protopnet._training import UNPROJECTED
from sklearn_protopnet.inspection._boxes import RECEPTIVE_FIELD, receptive_field_kinds
from sklearn_protopnet.inspection._details import (
    Background,
    Context,
    check_details,
    detail_columns,
)
from sklearn_protopnet.inspection._explained_classes import (
    check_top_classes,
    explained_classes,
)
from sklearn_protopnet.inspection._localization import check_localizer, located_boxes
from sklearn_protopnet.inspection._tables import (
    PrototypeRecord,
    Rows,
    SampleEvidence,
    explanation_table,
    ranked_prototypes,
)
from sklearn_protopnet.inspection._view import View


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


@dataclass(frozen=True)
class Sources:
    """The prototypes and the images that they come from."""

    record: PrototypeRecord
    """With receptive fields for boxes."""
    look_at: Callable[[NDArray[np.int64]], View]
    """Looks at the source images of prototypes."""

    def boxed(
        self, localizer: str, wanted: NDArray[np.int64]
    ) -> tuple[PrototypeRecord, NDArray[Any]]:
        """Have a localizer find the boxes of the prototypes that are wanted.

        Returns
        -------
        record : PrototypeRecord
        kinds : object array of shape (len(wanted),)
            What their boxes are; ``""`` of prototypes that are no patch of an image.
        """
        kinds = np.full(len(wanted), "", dtype=object)
        has_source = self.record.samples[wanted] != UNPROJECTED
        chosen = wanted[has_source]
        if len(chosen) == 0:
            return self.record, kinds
        view = self.look_at(chosen)
        if localizer == RECEPTIVE_FIELD:
            kinds[has_source] = receptive_field_kinds(self.record.boxes[chosen], view.sizes)
            return self.record, kinds
        (positions,) = view.arrays("positions")  # (n, P)
        found = located_boxes(view, localizer, positions, lambda i: chosen[i : i + 1])
        place = np.arange(len(chosen)), chosen
        kinds[has_source] = found.kinds[place]
        boxes = self.record.boxes.copy()
        boxes[chosen] = found.boxes[place]
        return replace(self.record, boxes=boxes), kinds


@dataclass
class Explainer:
    """Explains images of one view, some or all of them at a time."""

    view: View
    names: NDArray[Any]
    """(n,) what to call the images."""
    sources: Sources
    """With boxes of the localizer, as far as they were needed."""
    labels: NDArray[Any]
    """(K,)"""
    background: Background
    options: Options
    _boxed: set[int] = field(default_factory=set)
    """Prototypes whose source boxes are by the localizer."""
    _seen: tuple[range, list[NDArray[Any]]] = field(default_factory=lambda: (range(0), []))
    """Images that the network has looked at last, and what it saw."""

    def __len__(self) -> int:
        return len(self.names)

    def table(self, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """Explain the images from one position up to another; a table as `explain` gives it."""
        stop = len(self) if stop is None else min(stop, len(self))
        part, options = slice(start, stop), self.options
        view, labels = self.view.part(part), self.labels
        distances, similarities, logits, positions = self._arrays(start, stop)
        explained = explained_classes(options.classes, labels, logits, options.n_top_classes)
        ranked = ranked_prototypes(self.sources.record.coef, similarities, explained, options.top_k)
        to_locate = ranked[:, :, : options.n_located]
        located = located_boxes(
            view,
            options.localizer,
            positions,
            lambda i: np.unique(to_locate[i]),
            with_effects="box" in options.details,
        )
        evidence = SampleEvidence(
            samples=self.names[part],
            distances=distances,
            similarities=similarities,
            boxes=located.boxes,
            box_kinds=located.kinds,
            logits=logits,
            probabilities=softmax(logits),
        )
        rows = Rows.of(explained, ranked)
        context = Context(self.background, evidence, located, rows)
        details = detail_columns(options.details, context)
        return explanation_table(evidence, self._boxed_record(to_locate), labels, rows, details)

    def predicted(self, i: int) -> Any:
        """Say which class the classifier predicts for an image."""
        _, _, logits, _ = self._arrays(i, i + 1)
        return self.labels[logits[0].argmax()]

    def _arrays(self, start: int, stop: int) -> list[NDArray[Any]]:
        """Distances, similarities, logits and positions, each of (stop - start, ...).

        The network always looks at a whole chunk: what follows is kept for the next table.
        """
        images, arrays = self._seen
        if start not in images or stop > images.stop:
            images = range(start, min(max(stop, start + self.view.source.chunk_size), len(self)))
            arrays = self.view.part(slice(images.start, images.stop)).arrays(
                "distances", "similarities", "logits", "positions"
            )
            self._seen = images, arrays
        return [each[start - images.start : stop - images.start] for each in arrays]

    def _boxed_record(self, ranked: NDArray[np.int64]) -> PrototypeRecord:
        """Locate each prototype in its source once, when it is first needed."""
        if self.options.localizer != RECEPTIVE_FIELD:
            wanted = np.array(sorted(set(ranked.ravel().tolist()) - self._boxed), dtype=np.int64)
            record, _ = self.sources.boxed(self.options.localizer, wanted)
            self.sources = replace(self.sources, record=record)
            self._boxed.update(wanted.tolist())
        return self.sources.record
