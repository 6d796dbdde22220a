"""The evidence that one network finds in images; an ensemble has several.

Shapes: P prototypes of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._fitted import FittedNetwork
from sklearn_protopnet._located_boxes import LocatedBoxes
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet._training import NO_SOURCE
from sklearn_protopnet.inspection._details import Context, image_digest, model_digest
from sklearn_protopnet.inspection._localizers import LOCALIZERS, located_boxes
from sklearn_protopnet.inspection._pipelines import ClassifierImages
from sklearn_protopnet.inspection._rows import Explained, Rows


@dataclass
class MemberEvidence:
    """Compares images with the prototypes of one network, some or all of them at a time."""

    images: ClassifierImages
    localizer: str
    _sources: PrototypeRecord = field(init=False)
    """With boxes of the localizer, as far as they were needed."""
    _boxed: set[int] = field(init=False, default_factory=set)
    """Prototypes whose source boxes are by the localizer."""
    _kept: tuple[range, Evidence | None] = field(init=False, default=(range(0), None))
    """The images that were compared last, and their evidence."""

    def __post_init__(self) -> None:
        self._sources = self.fitted.prototypes

    @property
    def fitted(self) -> FittedNetwork:
        """The network."""
        return self.images.fitted

    def evidence(self, start: int, stop: int) -> Evidence:
        """Give the evidence of the images from one position up to another.

        A whole chunk is compared at once: what follows is kept for the next call.
        """
        images, evidence = self._kept
        source = self.images.source
        if evidence is None or start not in images or stop > images.stop:
            images = range(start, min(max(stop, start + source.chunk_size), len(source)))
            evidence = self.fitted.evidence(source.part(slice(images.start, images.stop)))
            self._kept = images, evidence
        return evidence[start - images.start : stop - images.start]

    def explained(
        self,
        start: int,
        evidence: Evidence,
        rows: Rows,
        *,
        n_located: int | None = None,
        with_effects: bool = False,
    ) -> Explained:
        """Say where the patches are that rows are about.

        Parameters
        ----------
        start : int
            Position of the first image.
        evidence : Evidence
            Of the images from there on.
        rows : Rows
        n_located : int or None
            Ranks, the first ones, that the localizer finds boxes of; the others have receptive
            fields. All with None.
        with_effects : bool
            Whether to measure what the boxes do.
        """
        part = slice(start, start + len(evidence.logits))
        is_wanted = rows.rank <= (np.inf if n_located is None else n_located)
        sample, prototype = rows.sample[is_wanted], rows.prototype[is_wanted]
        ends = np.searchsorted(sample, np.arange(len(evidence.logits) + 1))
        n_patches = int(rows.patch.max(initial=0)) + 1
        located = located_boxes(
            self.fitted,
            self.images.source.part(part),
            self.localizer,
            evidence.patch_positions[:, :, :n_patches],
            lambda i: np.unique(prototype[ends[i] : ends[i + 1]]),
            with_effects=with_effects,
        )
        return Explained(evidence, located, self.sources(prototype), self.images.names[part], rows)

    def sources(self, wanted: NDArray[np.int64]) -> PrototypeRecord:
        """Give the prototypes, those that are wanted with source boxes by the localizer.

        Each box is found once, when it is first needed.
        """
        if not LOCALIZERS[self.localizer].is_exact:
            new = np.array(sorted(set(wanted.tolist()) - self._boxed), dtype=np.int64)
            self._sources, _ = located_sources(self.fitted, self._sources, self.localizer, new)
            self._boxed.update(new.tolist())
        return self._sources

    def other_boxes(
        self, start: int, evidence: Evidence, pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Receptive fields (k - 1, 4) of all but the most similar patches that are pooled.

        Parameters
        ----------
        start : int
            Position of the first image.
        evidence : Evidence
            Of the images from there on.
        pairs : (int64 array of shape (rows,), int64 array of shape (rows,))
            An image, counted from the first one, and a prototype.
        """
        source = self.images.source
        fields = self.fitted.input_boxes(evidence.patch_positions[pairs][:, 1:])
        return list(source.images.original_boxes(source.rows[start + pairs[0]], fields))

    def context(self, explained: Explained) -> Context:
        """Give what the columns of details are made of."""
        return Context(self.fitted, explained, lambda: self._digests)

    @cached_property
    def _digests(self) -> tuple[NDArray[Any], str]:
        """Digests of the source images, (P,), and of the model."""
        prototypes = self.fitted.prototypes
        sources = [
            image_digest(image) if row != NO_SOURCE else ""
            for image, row in zip(prototypes.images, prototypes.samples, strict=True)
        ]
        return np.array(sources, dtype=object), model_digest(self.fitted)


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
