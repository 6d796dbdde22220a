"""The evidence for any images, as tables: of one network, or of several whose logits are added.

Shapes: n images, P prototypes of all networks, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._fitted import added
from sklearn_protopnet._network import Evidence
from sklearn_protopnet.inspection._details import (
    DETAILS,
    check_details,
    detail_columns,
    explanation_units,
    prototypes_digest,
)
from sklearn_protopnet.inspection._explained_classes import check_top_classes, explained_classes
from sklearn_protopnet.inspection._localizers import check_localizer
from sklearn_protopnet.inspection._member_evidence import MemberEvidence
from sklearn_protopnet.inspection._pipelines import ClassifierImages
from sklearn_protopnet.inspection._rows import Explained, Ranked, Rows, ranked_prototypes
from sklearn_protopnet.inspection._tables import (
    MEMBER,
    build_table,
    explanation_columns,
    merge_columns,
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


class Drawn(NamedTuple):
    """What is drawn beside a row of a table."""

    source_image: NDArray[Any]
    """(H, W, C)"""
    source_size: tuple[int, int]
    """Height and width of the source image as it was given."""
    other_boxes: NDArray[np.int64]
    """(k - 1, 4) receptive fields of the other patches that are pooled."""


@dataclass
class Explainer:
    """Explains images, some or all of them at a time, by all networks whose logits are added."""

    images: Sequence[ClassifierImages]
    """Of each network the same images."""
    options: Options

    def __post_init__(self) -> None:
        self.members = [MemberEvidence(each, self.options.localizer) for each in self.images]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def names(self) -> NDArray[Any]:
        """What to call the images, (n,)."""
        return self.images[0].names

    @property
    def classes(self) -> NDArray[Any]:
        """Labels, (K,)."""
        return self.images[0].fitted.classes

    @cached_property
    def coef(self) -> NDArray[np.float64]:
        """Weights of the prototypes of all networks, (K, P)."""
        return np.hstack([each.fitted.prototypes.coef for each in self.members])

    @cached_property
    def prototypes(self) -> NDArray[np.int64]:
        """Network of each prototype, and number in it, (P, 2)."""
        counts = [len(each.fitted.prototypes.samples) for each in self.members]
        return np.array([(m, number) for m, n in enumerate(counts) for number in range(n)])

    @property
    def model_digest(self) -> str | None:
        """Digest of the prototypes of a classifier; None of an ensemble."""
        first = self.images[0]
        return prototypes_digest(first.fitted.prototypes) if first.member is None else None

    def table(self, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """Explain the images from one position up to another; a table as `explain` gives it."""
        stop = len(self) if stop is None else min(stop, len(self))
        options = self.options
        evidence = self.evidence(start, stop)
        classes = explained_classes(
            options.classes, self.classes, evidence[0].logits, options.n_top_classes
        )
        parts = self.explained(start, evidence, classes)
        has_names = any(each.fitted.prototypes.has_names for each in self.members)
        columns = [
            {
                **explanation_columns(
                    part, self.classes, member.images.member, has_names=has_names
                ),
                **detail_columns(options.details, member.context(part)),
            }
            for member, part in zip(self.members, parts, strict=True)
        ]
        merged = merge_columns(columns, [part.rows.place for part in parts])
        for column in merged.values():
            if column.dtype.kind == "f":
                column += 0.0  # for -0.0, as of linear similarities, is 0 when SQLite gives it back
        # Without a copy: the arrays are this table's own.
        return build_table(merged, "explanation", explanation_units(), copy=False)

    def evidence(self, start: int, stop: int) -> list[Evidence]:
        """Evidence of each network for the images from one position up to another.

        Logits are those of all networks together.
        """
        found = [member.evidence(start, stop) for member in self.members]
        logits = added([each.logits for each in found])
        return [replace(each, logits=logits) for each in found]

    def explained(
        self, start: int, evidence: Sequence[Evidence], classes: NDArray[np.int64]
    ) -> list[Explained]:
        """Say what the prototypes of each network contribute to classes (n, k) of images."""
        similarities = np.hstack([each.similarities for each in evidence])  # (n, P)
        order = ranked_prototypes(self.coef, similarities, classes, self.options.top_k)
        ranked = Ranked(*(numbers[order] for numbers in self.prototypes.T))
        wanted = [DETAILS[name] for name in self.options.details]
        of_patches = any(detail.of_patches for detail in wanted)
        return [
            member.explained(
                start,
                found,
                Rows.of(classes, ranked, m, found.patch_positions.shape[2] if of_patches else 1),
                n_located=self.options.n_located,
                with_effects=any(detail.needs_effects for detail in wanted),
            )
            for m, (member, found) in enumerate(zip(self.members, evidence, strict=True))
        ]

    def predicted(self, i: int) -> Any:
        """Say which class is predicted for an image."""
        return self.classes[self.evidence(i, i + 1)[0].logits[0].argmax()]

    def drawn(self, rows: pd.DataFrame) -> list[Drawn]:
        """Give what is drawn beside rows of the table of the first image."""
        evidence = self.evidence(0, 1)
        numbers = {each.member: m for m, each in enumerate(self.images)}
        members = rows[MEMBER] if MEMBER in rows else [None] * len(rows)
        drawn = []
        for name, prototype in zip(members, rows["prototype"], strict=True):
            member, found = self.members[numbers[name]], evidence[numbers[name]]
            record, pair = member.fitted.prototypes, (np.array([0]), np.array([prototype]))
            (others,) = member.other_boxes(0, found, pair)
            height, width = record.sizes[prototype].tolist()
            drawn.append(Drawn(record.images[prototype], (height, width), others))
        return drawn
