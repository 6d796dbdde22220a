"""The evidence of images for a report, found some images at a time and kept on disk.

Shapes: n images, L labels (the classes, and those of other images), k prototypes that are shown for
a class of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.extmath import softmax
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sklearn_protopnet._images import FileImages, ImageSource
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._training import ProgressBar
from sklearn_protopnet._validation import class_indices, native_order
from sklearn_protopnet.inspection._explanation import Explainer
from sklearn_protopnet.inspection._export import CHUNK_ROWS, LARGEST_CHUNK
from sklearn_protopnet.inspection._pictures import BOX_NOTES
from sklearn_protopnet.inspection._pipelines import picture_source
from sklearn_protopnet.inspection._report._html import as_json
from sklearn_protopnet.inspection._rows import Explained
from sklearn_protopnet.inspection._tables import box_columns, merge_columns

DIGITS: Final = 6
"""Numbers in the file have so many decimals; two or three are shown."""

UNKNOWN: Final = -1
"""This number stands for a true label that was not given."""


class Labels(NamedTuple):
    """Names of the classes, then of labels that the classifier does not know."""

    names: list[str]
    """(L,)"""
    truth: NDArray[np.int64] | None
    """(n,) numbers of the true labels."""

    @classmethod
    def of(cls, classes: NDArray[Any], y: ArrayLike | None, n_images: int) -> Labels:
        names = [str(name) for name in classes]
        if y is None:
            return cls(names, None)
        given: NDArray[Any] = native_order(column_or_1d(y))
        check_consistent_length(np.empty(n_images), given)
        if pd.isna(given).any():
            raise ValueError("y must have a label for each image, got missing ones.")
        truth = class_indices(given, classes)  # (n,)
        is_unknown = truth < 0
        if is_unknown.all():
            raise ValueError(
                f"y must hold classes of the training y, {classes.tolist()}, got none of them but "
                f"{pd.unique(given)[:5].tolist()}."
            )
        numbers, others = pd.factorize(given[is_unknown])
        truth[is_unknown] = len(names) + numbers
        return cls([*names, *map(str, others)], truth)


class ImageRow(NamedTuple):
    """What the page's script takes of an image, in the order of its ``FIELDS``."""

    name: str
    file: str | None
    truth: int
    predicted: int
    probability: float
    margin: float
    next: int
    height: int
    width: int
    claims: list[Any]
    """Evidence for the predicted class, and for the true one if that is another: logit, what the
    prototypes that are not shown contribute, and `_shown_prototypes`."""


class Spool:
    """Pieces of JSON on disk, read back in any order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = [0]

    def append(self, value: Any) -> None:
        self._ends.append(self._ends[-1] + self._file.write(as_json(value).encode("ascii")))

    def __getitem__(self, i: int) -> str:
        self._file.seek(self._ends[i])
        return self._file.read(self._ends[i + 1] - self._ends[i]).decode("ascii")


@dataclass(frozen=True)
class SpooledImages:
    """Images of a report: most of it on disk, two numbers of each in memory."""

    rows: Spool
    """(n,) each an `ImageRow`."""
    predicted: NDArray[np.int64]
    """(n,) numbers of classes."""
    margins: NDArray[np.float64]
    """(n,) by how much the next logit is smaller."""


def spool_images(
    explainer: Explainer,
    labels: Labels,
    file: IO[bytes],
    *,
    verbose: int,
) -> SpooledImages:
    """Find the evidence of all images, some at a time.

    Parameters
    ----------
    explainer : Explainer
        Of n images.
    labels : Labels
    file : file
        For rows.
    verbose : int
    """
    n_images = len(explainer)
    source = picture_source(explainer.images)
    rows = Spool(file)
    predicted, margins = np.empty(n_images, np.int64), np.empty(n_images)
    size = min(LARGEST_CHUNK, max(1, CHUNK_ROWS // len(explainer.prototypes)))
    with ProgressBar(n_images, "image", visible=bool(verbose)) as bar:
        for start in range(0, n_images, size):
            images = source.part(slice(start, start + size))
            truth = labels.truth
            truth = np.full(n_images, UNKNOWN) if truth is None else truth
            found = _image_rows(explainer, images, start, truth[start : start + size])
            for i, row in enumerate(found, start):
                rows.append(row)
                predicted[i], margins[i] = row.predicted, row.margin
            bar.update(len(images))
    return SpooledImages(rows, predicted, margins)


def _image_rows(
    explainer: Explainer, source: ImageSource, start: int, truth: NDArray[np.int64]
) -> Iterator[ImageRow]:
    """Explain images: the steps of `ProtoPNetClassifier.explain`, of the rows that are shown.

    `explain` itself tells the logits of the explained classes only.
    """
    evidence = explainer.evidence(start, start + len(source))
    logits, probabilities = evidence[0].logits, softmax(evidence[0].logits)
    first, second = np.argsort(-logits, axis=1, kind="stable")[:, :2].T  # (n,) each
    is_known = (truth != UNKNOWN) & (truth < logits.shape[1])
    classes = np.stack([first, np.where(is_known, truth, first)], axis=1)  # (n, 2)
    shown = _shown_prototypes(explainer, start, evidence, classes)
    sums = shown["contribution"].sum(2)  # (n, 2)
    others = shown.pop("others").tolist()
    columns = [*(np.round(column, DIGITS).tolist() for column in shown.values()), others]
    paths = source.images.paths if isinstance(source.images, FileImages) else None
    for i, name in enumerate(explainer.names[start : start + len(source)]):
        predicted = int(first[i])
        claims = [
            [
                _rounded(logits[i, label]),
                _rounded(logits[i, label] - sums[i, place]),
                list(zip(*(column[i][place] for column in columns), strict=True)),
            ]
            for place, label in enumerate(dict.fromkeys(classes[i].tolist()))
        ]
        yield ImageRow(
            name=str(name),
            file=None if paths is None else Path(paths[source.rows[i]]).name,
            truth=int(truth[i]),
            predicted=predicted,
            probability=float(probabilities[i, predicted]),
            margin=_rounded(logits[i, predicted] - logits[i, second[i]]),
            next=int(second[i]),
            height=int(source.sizes[i, 0]),
            width=int(source.sizes[i, 1]),
            claims=claims,
        )


def _shown_prototypes(
    explainer: Explainer,
    start: int,
    evidence: Sequence[Evidence],
    classes: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """Columns of the prototypes that contribute most to classes (n, 2), in the script's order.

    Returns
    -------
    dict of arrays of shape (n, 2, k)
    """
    parts = explainer.explained(start, evidence, classes)
    columns, first = [], 0
    for member, part in zip(explainer.members, parts, strict=True):
        pairs = part.rows.sample, part.rows.prototype
        others = member.other_boxes(start, part.evidence, pairs)
        columns.append(_shown_columns(part, first, others))
        first += len(part.sources.samples)
    shown = merge_columns(columns, [part.rows.place for part in parts])
    return {name: column.reshape(*classes.shape, -1) for name, column in shown.items()}


def _shown_columns(
    part: Explained, first: int, others: list[NDArray[np.int64]]
) -> dict[str, NDArray[Any]]:
    """Columns (rows,) of one network, whose prototypes have numbers on the page from `first` on.

    The note is the number of what is said of the box in `BOX_NOTES`, from 1, or 0. The last column
    has the receptive fields of the other patches that are pooled, as lists.
    """
    rows = part.rows
    pair = rows.sample, rows.prototype
    similarity, weight = part.evidence.similarities[pair], part.sources.coef[rows.class_, pair[1]]
    kinds = part.located.kinds[(*pair, rows.patch)]
    lists = np.empty(len(others), dtype=object)
    lists[:] = [boxes.tolist() for boxes in others]
    return {
        "prototype": first + rows.prototype,
        "similarity": similarity,
        "weight": weight,
        "contribution": weight * similarity,
        **box_columns(part.located.boxes[(*pair, rows.patch)]),
        "note": np.select([kinds == kind for kind in BOX_NOTES], range(1, len(BOX_NOTES) + 1)),
        "others": lists,
    }


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
