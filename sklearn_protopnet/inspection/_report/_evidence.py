"""What a report says of images, found some images at a time and kept on disk.

Shapes: n images, P prototypes, K classes, L labels (the classes, and those of other images), k rows
of evidence for a class of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.extmath import softmax
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sklearn_protopnet._fitted import FittedNetwork, PrototypeRecord
from sklearn_protopnet._images import FileImages, ImageSource, read_ahead
from sklearn_protopnet._training import ProgressBar
from sklearn_protopnet._validation import class_indices, native_order
from sklearn_protopnet.inspection._details import margins
from sklearn_protopnet.inspection._export import CHUNK_ROWS, LARGEST_CHUNK
from sklearn_protopnet.inspection._localizers import located_boxes
from sklearn_protopnet.inspection._plot._explanation import WIDTHS
from sklearn_protopnet.inspection._report._page import as_json
from sklearn_protopnet.inspection._report._pictures import data_uri
from sklearn_protopnet.inspection._tables import ranked_prototypes

DIGITS: Final = 6
"""Decimals of numbers in the file; two or three are shown."""


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
        numbers, others = pd.factorize(pd.Index(given[is_unknown]))
        truth[is_unknown] = len(names) + numbers
        return cls([*names, *map(str, others)], truth)

    def of_rows(self, part: slice) -> NDArray[np.int64] | None:
        """Numbers of the true labels of some images."""
        return None if self.truth is None else self.truth[part]


class Settings(NamedTuple):
    """What is asked for."""

    labels: Labels
    record: PrototypeRecord
    top_k: int
    localizer: str
    image_size: int


class Spool:
    """Texts on disk, read back in any order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = [0]

    def append(self, text: str) -> None:
        self._ends.append(self._ends[-1] + self._file.write(text.encode("ascii")))

    def __getitem__(self, i: int) -> str:
        self._file.seek(self._ends[i])
        return self._file.read(self._ends[i + 1] - self._ends[i]).decode("ascii")


class Found:
    """What is found in images: most of it on disk, a few numbers of each in memory."""

    def __init__(self, texts: Spool, pictures: Spool) -> None:
        self.texts, self.pictures = texts, pictures
        self._predicted: list[NDArray[np.int64]] = []
        self._margins: list[NDArray[np.float64]] = []

    def append(self, seen: _Seen) -> None:
        """Keep what was found in some images."""
        self._predicted.append(seen.predicted)
        self._margins.append(seen.margins)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) numbers of classes."""
        return np.concatenate(self._predicted)

    @property
    def margins(self) -> NDArray[np.float64]:
        """(n,) by how much the next logit is smaller."""
        return np.concatenate(self._margins)


def look(
    fitted: FittedNetwork,
    source: ImageSource,
    names: NDArray[Any],
    settings: Settings,
    found: Found,
    *,
    verbose: int,
) -> None:
    """Look at all images, some at a time."""
    n_images = len(source)
    size = min(LARGEST_CHUNK, max(1, CHUNK_ROWS // len(settings.record.classes)))
    with ProgressBar(n_images, "image", visible=bool(verbose)) as bar:
        for start in range(0, n_images, size):
            part = slice(start, start + size)
            truth = settings.labels.of_rows(part)
            seen = _Seen.of(fitted, source.part(part), settings, truth)
            for row in seen.rows([str(name) for name in names[part]], truth):
                found.texts.append(as_json(row))
            for uri in seen.pictures(settings.image_size):
                found.pictures.append(as_json(uri))
            found.append(seen)
            bar.update(len(seen.logits))


@dataclass(frozen=True)
class _Seen:
    """What the network sees in some images."""

    source: ImageSource
    logits: NDArray[np.float64]
    """(n, K)"""
    explained: NDArray[np.int64]
    """(n, 2) the predicted class, and the true one where it is known."""
    evidence: list[NDArray[Any]]
    """Columns of shape (n, 2, k): prototype, similarity, weight, contribution, y0, y1, x0, x1, and
    the number of what is said of the box in `WIDTHS`, from 1, or 0."""

    @classmethod
    def of(
        cls,
        fitted: FittedNetwork,
        source: ImageSource,
        settings: Settings,
        truth: NDArray[np.int64] | None,
    ) -> _Seen:
        """Look at images: the steps of `ProtoPNetClassifier.explain`, of the rows that are shown.

        `explain` itself tells the logits of the explained classes only.
        """
        evidence = fitted.evidence(source)
        similarities, logits = evidence.similarities, evidence.logits
        explained = np.repeat(logits.argmax(1)[:, None], 2, axis=1)  # (n, 2)
        if truth is not None:
            is_known = truth < logits.shape[1]
            explained[is_known, 1] = truth[is_known]
        coef = settings.record.coef
        ranked = ranked_prototypes(coef, similarities, explained, settings.top_k)  # (n, 2, k)
        located = located_boxes(
            fitted,
            source,
            settings.localizer,
            evidence.positions,
            lambda i: np.unique(ranked[i]),
        )
        row = np.arange(len(logits))[:, None, None]
        similarity, weight = similarities[row, ranked], coef[explained[..., None], ranked]
        kinds = located.kinds[row, ranked]  # (n, 2, k)
        widths = np.select([kinds == kind for kind in WIDTHS], range(1, len(WIDTHS) + 1))
        return cls(
            source=source,
            logits=logits,
            explained=explained,
            evidence=[
                ranked,
                similarity,
                weight,
                weight * similarity,
                *np.moveaxis(located.boxes[row, ranked], 3, 0),
                widths,
            ],
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class of the largest logit, (n,)."""
        return self.explained[:, 0]

    @property
    def following(self) -> NDArray[np.int64]:
        """The class of the second largest logit, (n,)."""
        following: NDArray[np.int64] = np.argsort(-self.logits, axis=1, kind="stable")[:, 1]
        return following

    @property
    def margins(self) -> NDArray[np.float64]:
        """By how much the next logit is smaller, (n,)."""
        return margins(self.logits)[np.arange(len(self.logits)), self.predicted]

    def rows(self, names: list[str], truth: NDArray[np.int64] | None) -> Iterator[list[Any]]:
        """Say of each image what the page's script takes: values in the order of its ``FIELDS``."""
        images, sizes = self.source.images, self.source.sizes
        files = images.paths if isinstance(images, FileImages) else None
        probabilities, contributions = softmax(self.logits), self.evidence[3]
        shown = contributions.sum(2)  # (n, 2)
        evidence = [np.round(column, DIGITS).tolist() for column in self.evidence]
        following, leads = self.following, self.margins
        for i, name in enumerate(names):
            true = -1 if truth is None else int(truth[i])
            logits, (j, known) = self.logits[i], self.explained[i].tolist()
            claims = [
                [
                    _rounded(logits[label]),
                    _rounded(logits[label] - shown[i, place]),
                    list(zip(*(column[i][place] for column in evidence), strict=True)),
                ]
                for place, label in enumerate([j, known] if known != j else [j])
            ]
            yield [
                name,
                None if files is None else Path(files[self.source.rows[i]]).name,
                true,
                j,
                float(probabilities[i, j]),
                _rounded(leads[i]),
                int(following[i]),
                *sizes[i].tolist(),
                claims,
            ]

    def pictures(self, largest: int) -> Iterator[str]:
        """Give the addresses of all images."""
        source, sizes = self.source, self.source.sizes
        chunks = source.chunk_indices(len(self.logits))
        readers = (source.images.reader(source.rows[chunk]) for chunk in chunks)
        n_jobs = 1 if source.images.is_quick else source.images.n_jobs
        row = count()
        for pixels in read_ahead(readers, n_jobs):
            for image in pixels:
                yield data_uri(image, sizes[next(row)], largest)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
