"""What a report says beside the evidence of its images: plain values for the page's template.

Shapes: n images, P prototypes of all networks, L labels: the K classes first, then those that the
classifier does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from sklearn_protopnet._prototype_record import PrototypeRecord
from sklearn_protopnet._validation import class_indices
from sklearn_protopnet.inspection._explanation import Explainer
from sklearn_protopnet.inspection._pictures import BOX_NOTES, COLOURS
from sklearn_protopnet.inspection._pipelines import picture_source
from sklearn_protopnet.inspection._report._evidence import ImageRow, Labels, SpooledImages
from sklearn_protopnet.inspection._report._html import as_json
from sklearn_protopnet.inspection._report._image_files import (
    LARGEST_PIXELATED,
    data_uri,
    picture_uris,
)

IMAGES_PER_BLOCK: Final = 25
"""The page reads so many images at once."""

STATIC_ROWS: Final = 20
"""The table that is shown where scripts do not run has so many images."""

MOST_CONFUSION_CLASSES: Final = 15
"""A confusion table of more labels than this is not readable: the most frequent confusions are."""

MOST_CONFUSIONS: Final = 20
"""So many of them are listed."""


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    explainer: Explainer
    labels: Labels
    model_digest: str | None
    """Of a classifier; None of an ensemble, which no editor takes."""
    images: SpooledImages
    title: str
    max_images: int
    image_size: int
    """Pixels of the longer side of a stored image, at most."""

    def content(self) -> dict[str, Any]:
        """Give what `report.html.jinja` names; iterators where it would be large."""
        labels, truth = self.labels
        predicted, margins = self.images.predicted, self.images.margins
        is_right = np.zeros(len(predicted), bool) if truth is None else truth == predicted
        order = np.lexsort((margins, is_right))  # wrong ones first, then the least certain
        records = self._records()
        prototypes = [
            fact
            for member, record in records.items()
            for fact in prototype_facts(record, self.explainer.classes, member)
        ]
        counts = None
        if truth is not None:
            counts = confusion_matrix(truth, predicted, labels=np.arange(len(labels)))
        return {
            "title": self.title,
            "has_truth": truth is not None,
            "labels": labels,
            "facts": self._facts(counts, records),
            "largest_pixelated": LARGEST_PIXELATED,
            **confusions(counts, labels),
            "classes": galleries([*records.values()], prototypes, labels, self.image_size),
            "notes": self._notes(len(order)),
            "first": [ImageRow(*json.loads(self.images.rows[i])) for i in order[:STATIC_ROWS]],
            "data": {
                "labels": labels,
                "hasTruth": truth is not None,
                "imagesPerBlock": IMAGES_PER_BLOCK,
                "largestPixelated": LARGEST_PIXELATED,
                "nColours": len(COLOURS),
                "boxNotes": ["", *(f": {note}" for note in BOX_NOTES.values())],
                "prototypes": prototypes,
                "modelDigest": self.model_digest,
            },
            "rows": (self.images.rows[i] for i in order),
            "blocks": self._blocks(order[: self.max_images]),
        }

    def _blocks(self, order: NDArray[np.int64]) -> Iterator[list[str]]:
        """Give pictures as the script reads them; images without one are not read again."""
        source = picture_source(self.explainer.images)
        pieces = map(as_json, picture_uris(source, source.rows[order], self.image_size))
        for _ in range(0, len(order), IMAGES_PER_BLOCK):
            yield list(islice(pieces, IMAGES_PER_BLOCK))

    def _records(self) -> dict[str | None, PrototypeRecord]:
        """Give the prototypes of each member, all with source boxes by the localizer."""
        return {
            each.images.member: each.sources(np.arange(len(each.fitted.prototypes.samples)))
            for each in self.explainer.members
        }

    def _facts(
        self, counts: NDArray[np.int64] | None, records: dict[str | None, PrototypeRecord]
    ) -> dict[str, str]:
        """Say how good the classifier is, and how large."""
        n_images, coef = len(self.images.predicted), self.explainer.coef
        n_distinct = sum(len(np.unique(each.vectors, axis=0)) for each in records.values())
        gap = max(each.classifier.last_layer_gap_ for each in self.explainer.images)
        facts = {"Images": f"{n_images:,}"}
        if counts is not None:
            n_right = int(np.trace(counts))
            facts["Accuracy"] = f"{100 * n_right / n_images:.1f} % ({n_right:,} right)"
            facts["Wrong predictions"] = f"{n_images - n_right:,}"
        members = [member for member in records if member is not None]
        if members:
            facts["Networks whose logits are added"] = ", ".join(members)
        return {
            **facts,
            "Classes": f"{len(coef):,}",
            "Prototypes": f"{coef.shape[1]:,} ({n_distinct:,} distinct)",
            "Weights that are 0": f"{100 * np.mean(coef == 0):.1f} %",
            "Gap of the last layer": f"at most {gap:.1e}" + (" each" if members else ""),
            "Boxes": self.explainer.options.localizer,
            "sklearn-protopnet": version("sklearn-protopnet"),
        }

    def _notes(self, n_images: int) -> list[str]:
        """Say what is to be known of the images that are shown."""
        order = "Those where the next class is closest come first."
        if self.labels.truth is not None:
            order = "Wrong predictions come first, then those where the next class is closest."
        notes = [f"{order} The margin is by how much the logit of the next class is smaller."]
        if n_images > self.max_images:
            notes.append(
                f"The pictures of the first {self.max_images:,} images are stored, those of the "
                f"other {n_images - self.max_images:,} were left out. All have their evidence."
            )
        if any(each.fitted.network.n_pooled_patches > 1 for each in self.explainer.members):
            notes.append(
                "A similarity is the mean over the parts of the image in all boxes; the thick one "
                "has the most similar part."
            )
        return notes


def confusions(counts: NDArray[np.int64] | None, labels: list[str]) -> dict[str, Any]:
    """Say what is taken for what: all of it, or what is confused most often.

    Parameters
    ----------
    counts : int64 array of shape (L, L), or None
        Images by true and predicted class.
    labels : list of L str
    """
    if counts is None:
        return {"confusion": None, "confused": []}
    if len(labels) > MOST_CONFUSION_CLASSES:
        wrong = counts * ~np.eye(len(counts), dtype=bool)
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
        pairs = [divmod(int(k), len(counts)) for k in order if wrong.flat[k]]
        confused = [(labels[i], labels[j], int(wrong[i, j])) for i, j in pairs]
        return {"confusion": None, "confused": confused}
    columns = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1))
    rows = np.flatnonzero(counts.any(axis=1))
    confusion = {
        "predicted": [labels[j] for j in columns],
        "rows": [(labels[i], [(labels[j], int(counts[i, j])) for j in columns]) for i in rows],
    }
    return {"confusion": confusion, "confused": []}


def prototype_facts(
    record: PrototypeRecord, classes: NDArray[Any], member: str | None
) -> list[dict[str, Any]]:
    """Say which part of which image each prototype is, its name, and what is asked of it; (P,)."""
    return [
        {
            "number": number,
            "member": member,
            "sample": int(sample),
            "box": box.tolist(),
            "height": int(height),
            "width": int(width),
            "label": int(label),
            "name": str(name),
            "constraint": str(constraint),
        }
        for number, (sample, box, (height, width), label, name, constraint) in enumerate(
            zip(
                record.samples,
                record.boxes,
                record.sizes,
                class_indices(record.classes, classes),
                record.names,
                record.constraints,
                strict=True,
            )
        )
    ]


def galleries(
    records: Sequence[PrototypeRecord],
    prototypes: list[dict[str, Any]],
    labels: list[str],
    largest: int,
) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Show all prototypes, class by class.

    Parameters
    ----------
    records : sequence of PrototypeRecord
        Of each network.
    prototypes : list of P dict
        Of all networks.
    labels : list of L str
    largest : int
        Pixels of the longer side of an image, at most.

    Yields
    ------
    str
        The class.
    iterator of dict
        Its prototypes; the address of an image is None where there is none.
    """
    shown = [
        (record, j, n_duplicates)
        for record in records
        for j, n_duplicates in enumerate(record.n_duplicates.tolist())
    ]  # (P,)
    numbers = np.array([prototype["label"] for prototype in prototypes])  # (P,)
    for k in np.unique(numbers):
        yield (
            labels[k],
            (
                {
                    **prototypes[p],
                    "id": int(p),
                    "weight": record.coef[k, j],
                    "n_duplicates": n_duplicates,
                    "uri": (
                        data_uri(record.images[j], record.sizes[j], largest)
                        if record.has_source[j]
                        else None
                    ),
                }
                for p in np.flatnonzero(numbers == k)
                for record, j, n_duplicates in [shown[p]]
            ),
        )
