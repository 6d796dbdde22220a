"""A report: what a classifier looks at in any number of images, in one HTML file.

Shapes: n images.
"""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from numpy.typing import ArrayLike

from sklearn_protopnet._files import check_place, replacing
from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._localizers import check_localizer
from sklearn_protopnet.inspection._pipelines import member_images
from sklearn_protopnet.inspection._report._content import Report
from sklearn_protopnet.inspection._report._evidence import Labels, spool_images
from sklearn_protopnet.inspection._report._html import page_pieces


@with_shared_descriptions
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
    browser, with the keyboard too, and the page can be printed. Of an ensemble, prototypes of all
    members are there, each with the name of its member.

    Each prototype has two boxes to tick, to forbid it or to keep it, and a field for its name.
    "Save choice" gives them as a file, ``choice.json``, which `editing.PrototypeEditor.apply`
    carries out, and refuses for other prototypes. The page itself keeps nothing: it warns when it
    is left before the choice is saved.

    The file needs nothing else, and no network: it loads nothing, and runs no script but its own.
    Images are explained some at a time: memory does not grow with their number. The file appears
    when all is written; if that fails, there is none, or the one that was there. A process that is
    killed leaves a hidden folder beside it, which nobody removes. The same input gives the same
    bytes.

    Parameters
    ----------
    {estimator_or_ensemble}
    {X}
    path : str or path-like
        The file to write; through a link, the one that it points to.
    y : array-like of shape (n,), default=None
        True classes. With None the table begins with the images where the next class is closest.
    top_k : int, default=4
        Prototypes that are shown for each image, those of the largest contributions; the others
        are summed up.
    {localizer}
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
        If the file cannot be written, or there is something at `path` that is no regular file.
    TypeError
        If there is no such classifier at the estimator's end, or the title is no text.
    ValueError
        If a number or the localizer is not as described, `y` does not have a label for each
        image or none of the training classes, if members of an ensemble see images of different
        sizes, or as by `ProtoPNetClassifier.explain`.

    See Also
    --------
    editing.PrototypeEditor : Does what was ticked.
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
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> write_report(clf, X[300:], Path(mkdtemp(), "report.html"), y[300:]).name
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
    options = Options.checked("predicted", int(top_k), localizer, ())
    explainer = Explainer(member_images(estimator, X), options)
    labels = Labels.of(explainer.classes, y, len(explainer))
    with (
        replacing(target) as temporary,
        TemporaryFile(dir=temporary.parent) as spooled,
        # What is no Unicode, as in some names of files, becomes a question mark.
        temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file,
    ):
        images = spool_images(explainer, labels, spooled, verbose=verbose)
        report = Report(
            explainer=explainer,
            labels=labels,
            model_digest=explainer.model_digest,
            images=images,
            title=title,
            max_images=int(max_images),
            image_size=int(image_size_px),
        )
        file.writelines(page_pieces(report.content()))
    return target
