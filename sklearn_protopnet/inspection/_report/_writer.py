"""A report: what a classifier looks at in any number of images, in one HTML file.

Shapes: n images, P prototypes, K classes, k rows of evidence for an image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from sklearn_protopnet._files import check_place, replacing
from sklearn_protopnet._fitted import FittedClassifier
from sklearn_protopnet._validation import check_positive, class_indices
from sklearn_protopnet.inspection._explanation import located_sources
from sklearn_protopnet.inspection._localizers import check_localizer
from sklearn_protopnet.inspection._pipelines import open_images
from sklearn_protopnet.inspection._plot._canvas import COLOURS
from sklearn_protopnet.inspection._plot._explanation import WIDTHS
from sklearn_protopnet.inspection._report import _page as page
from sklearn_protopnet.inspection._report._evidence import Found, Labels, Settings, Spool, look
from sklearn_protopnet.inspection._report._pictures import LARGEST_PIXELATED

IMAGES_PER_BLOCK: Final = 25
"""Images that the page reads at once."""

STATIC_ROWS: Final = 20
"""Images of the table that is shown where scripts do not run."""


def write_report(
    estimator: Any,
    X: Any,
    path: str | os.PathLike[str],
    y: ArrayLike | None = None,
    *,
    top_k: int = 4,
    localizer: str = "receptive_field",
    title: str = "What the classifier looks at",
    max_images: int = 10_000,
    image_size_px: int = 96,
    verbose: int = 0,
) -> Path:
    """Write one HTML file that shows what a classifier looks at, image by image.

    A summary, all prototypes, and a table of the images, wrong predictions first, then those
    where the next class is closest. A row opens to the evidence: this part of the image looks
    like that part of a training image, and so adds this much to the logit; if the prediction is
    wrong, also to the evidence for the true class. The table is sorted and filtered in the
    browser, with the keyboard too, and the page can be printed.

    The file needs nothing else, and no network: it loads nothing, and runs no script but its own.
    Images are explained some at a time: memory does not grow with their number. The file appears
    when all is written; if that fails, there is none, or the one that was there. A process that is
    killed leaves a hidden file beside it, which the next report in the same place removes (from
    the same machine, and not on Windows). The same input gives the same bytes.

    Parameters
    ----------
    estimator : ProtoPNetClassifier, Pipeline or search over parameters
        Fitted.
    X : array-like, frame, CPU tensor, list of images or paths of images
        What the estimator's ``predict`` takes. Pictures and boxes are of the images that reach
        the classifier.
    path : str or path-like
        The file to write; through a link, the one that it points to.
    y : array-like of shape (n,), default=None
        True classes. With None the table begins with the images where the next class is closest.
    top_k : int, default=4
        Prototypes that are shown for each image, those of the largest contributions; the others
        are summed up.
    localizer : str, default="receptive_field"
        How boxes are found, as for `ProtoPNetClassifier.explain`.
    title : str, default="What the classifier looks at"
        Heading of the page.
    max_images : int, default=10_000
        Images whose pixels are stored, at most: the first ones of the table. All images have
        their evidence.
    image_size_px : int, default=96
        Pixels of the longer side of stored images, at most.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    OSError
        If the file cannot be written.
    TypeError
        If there is no ProtoPNetClassifier at the estimator's end, or the title is no text.
    ValueError
        If a number or the localizer is not as described, `y` does not have a label for each
        image or none of the training classes, or as by `ProtoPNetClassifier.explain`.

    See Also
    --------
    ExplanationDisplay : One explanation as a picture.
    export_evidence : All of the evidence, as a table in a file.

    Notes
    -----
    An image takes 0.25 kB for its evidence, twice that if it is predicted wrongly, and 0.2 kB
    (8 x 8 pixels) to 2 kB (a photograph, 96 pixels) for itself: 21 MB for 10,000 photographs, or
    2.7 MB with ``max_images=0``. Such a file stays usable, since the table shows 50 rows at a
    time, evidence is drawn when a row is opened, and an image is read when it is seen: Chromium
    began to show it after 0.3 s, had it whole after 1.2 s, and sorts it in 0.15 s (2 cores).
    Up to 500 of the rows that are chosen are printed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import write_report
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     image_shape=(8, 8), n_prototypes_per_class=2, pretraining_epochs=5, random_state=0
    ... ).fit(X[:200], y[:200])
    >>> write_report(clf, X[200:], Path(mkdtemp(), "report.html"), y[200:]).name
    'report.html'
    """
    check_localizer(localizer)
    check_positive("top_k", top_k)
    check_positive("image_size_px", image_size_px)
    if not isinstance(max_images, Integral) or max_images < 0:
        raise ValueError(f"max_images must be an integer from 0 on, got {max_images!r}.")
    if not isinstance(title, str):
        raise TypeError(f"title must be a str, got {title!r}.")
    target = Path(path)
    check_place(target)
    classifier, fitted, source, names = open_images(estimator, X)
    labels = Labels.of(fitted.classes, y, len(source))
    prototypes = np.arange(len(fitted.prototypes.samples))
    record, _ = located_sources(fitted, fitted.prototypes, localizer, prototypes)
    settings = Settings(labels, record, int(top_k), localizer, int(image_size_px))
    with (
        replacing(target) as temporary,
        TemporaryFile(dir=temporary.parent) as texts,
        TemporaryFile(dir=temporary.parent) as pictures,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        found = Found(Spool(texts), Spool(pictures))
        look(fitted, source, names, settings, found, verbose=verbose)
        report = _Report(classifier, settings, found, title, int(max_images))
        file.writelines(report.parts())
    return target


@dataclass(frozen=True)
class _Report:
    """All that the page says."""

    classifier: FittedClassifier
    settings: Settings
    found: Found
    title: str
    max_images: int

    def parts(self) -> Iterator[str]:
        """Write the page, one piece after the other."""
        labels, truth = self.settings.labels
        predicted, margins = self.found.predicted, self.found.margins
        is_right = np.zeros(len(predicted), bool) if truth is None else truth == predicted
        order = np.lexsort((margins, is_right))  # wrong ones first, then the least certain
        counts = (
            None
            if truth is None
            else confusion_matrix(truth, predicted, labels=np.arange(len(labels)))
        )
        yield page.head(self.title)
        yield page.summary(self._facts(counts), labels, counts)
        yield from page.gallery(
            self.settings.record,
            self._prototype_labels(),
            labels,
            self.settings.record.images,
            self.settings.record.sizes,
            largest=self.settings.image_size,
        )
        first = [json.loads(self.found.texts[i]) for i in order[:STATIC_ROWS]]
        yield page.images_section(first, labels, self._notes(len(order)))
        yield from page.data_script("report-data", self._data(order))
        yield page.foot()
        shown = order[: self.max_images]
        for k, start in enumerate(range(0, len(shown), IMAGES_PER_BLOCK)):
            block = shown[start : start + IMAGES_PER_BLOCK]
            yield from page.data_script(f"images-{k}", _array(self.found.pictures, block))
        yield page.end()

    def _prototype_labels(self) -> NDArray[np.int64]:
        """Numbers of the prototypes' classes, (P,)."""
        return class_indices(self.settings.record.classes, self.classifier.classes_)

    def _facts(self, counts: NDArray[np.int64] | None) -> dict[str, str]:
        record = self.settings.record
        n_images, n_prototypes = len(self.found.predicted), len(record.classes)
        n_distinct = len(np.unique(record.vectors, axis=0))
        facts = {"Images": f"{n_images:,}"}
        if counts is not None:
            n_right = int(np.trace(counts))
            facts["Accuracy"] = f"{100 * n_right / n_images:.1f} % ({n_right:,} right)"
            facts["Wrong predictions"] = f"{n_images - n_right:,}"
        return {
            **facts,
            "Classes": f"{len(record.coef):,}",
            "Prototypes": f"{n_prototypes:,} ({n_distinct:,} distinct)",
            "Weights that are 0": f"{100 * np.mean(record.coef == 0):.1f} %",
            "Gap of the last layer": f"at most {self.classifier.last_layer_gap_:.1e}",
            "Boxes": self.settings.localizer,
            "sklearn-protopnet": version("sklearn-protopnet"),
        }

    def _notes(self, n_images: int) -> list[str]:
        order = "Those where the next class is closest come first."
        if self.settings.labels.truth is not None:
            order = "Wrong predictions come first, then those where the next class is closest."
        notes = [f"{order} The margin is by how much the logit of the next class is smaller."]
        if n_images > self.max_images:
            notes.append(
                f"The pictures of the first {self.max_images:,} images are stored, those of the "
                f"other {n_images - self.max_images:,} were left out. All have their evidence."
            )
        return notes

    def _data(self, order: NDArray[np.int64]) -> Iterator[str]:
        """Write all that the script takes, but for images."""
        record, sizes = self.settings.record, self.settings.record.sizes
        facts = {
            "labels": self.settings.labels.names,
            "hasTruth": self.settings.labels.truth is not None,
            "imagesPerBlock": IMAGES_PER_BLOCK,
            "largestPixelated": LARGEST_PIXELATED,
            "nColours": len(COLOURS),
            "widths": ["", *(f": {said}" for said in WIDTHS.values())],
            "prototypes": [
                {
                    "sample": int(record.samples[j]),
                    "box": record.boxes[j].tolist(),
                    "height": int(sizes[j, 0]),
                    "width": int(sizes[j, 1]),
                    "label": int(label),
                }
                for j, label in enumerate(self._prototype_labels())
            ],
        }
        yield f'{page.as_json(facts)[:-1]},"rows":'
        yield from _array(self.found.texts, order)
        yield "}"


def _array(texts: Spool, order: NDArray[np.int64]) -> Iterator[str]:
    """Write texts of JSON as an array of JSON."""
    for place, i in enumerate(order):
        yield "[" if place == 0 else ",\n"
        yield texts[i]
    yield "]"
