"""One explanation as a picture: this looks like that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_protopnet._training import NO_SOURCE
from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._pictures import (
    BOX_NOTES,
    colour_of,
    format_number,
    format_percent,
    is_whole_image,
    shortened,
    text_of,
)
from sklearn_protopnet.inspection._pipelines import member_image, picture_source
from sklearn_protopnet.inspection._plot._canvas import BOX, FAINT, SOURCE_BOX, Canvas
from sklearn_protopnet.inspection._plot._display import CanvasDisplay, pyplot_module
from sklearn_protopnet.inspection._tables import MEMBER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES: Final = "\N{MULTIPLICATION SIGN}"
LOOKS_LIKE: Final = "\N{ALMOST EQUAL TO}"

LEGEND: Final = (
    "Boxes: the parts of the image that count most,\n"
    "numbered by how much. Each is compared with\n"
    "a part of a training image. The contributions of\n"
    "all prototypes add up to the logit of the class.\n"
    "The class with the largest logit is predicted.\n"
    "Similarities are means over thick and thin boxes."
)
"""The picture says this of itself, below the image."""


def _row_top(i: int) -> float:
    """Where the i-th row begins, in inches from the top."""
    return 1.5 + 1.65 * i


@with_shared_descriptions
class ExplanationDisplay(CanvasDisplay):
    """Evidence for one class in one image, drawn: this looks like that.

    On the left the image with the parts that count most; on the right a row for each of them:
    the part, the training patch that it looks like, and what the likeness adds to the logit.
    The last line accounts for the whole logit. Create it with `from_estimator`.

    Parameters
    ----------
    evidence : DataFrame
        All rows of `ProtoPNetClassifier.explain` for one image and one class, by rank. By
        `from_estimator`, the rows that are drawn have boxes of its `localizer`, in the image and
        in the training image; the others, whose boxes nobody sees, have receptive fields.
    image : ndarray of shape (H, W, C)
        The image.
    source_images : sequence of ndarray of shape (H, W, C)
        The training image of each row to draw; as many rows are drawn.
    predicted_class : label
        The class that the classifier predicts for the image.
    image_name : str, default=None
        What to call the image; ``"image <sample>"`` with None.
    image_size : (int, int), default=None
        Height and width of the image in whose pixels boxes are, if `image` was resized.
    source_sizes : sequence of (int, int), default=None
        The same of the training images.
    other_boxes : sequence of int64 arrays of shape (n_others, 4), default=None
        ``y0, y1, x0, x1`` of the other patches of each row to draw, if several are pooled: their
        receptive fields.

    Attributes
    ----------
    {canvas_attributes}
    image_ax_ : matplotlib Axes
        The whole image with all the boxes.
    axes_ : ndarray of shape (n_rows, 2) of matplotlib Axes
        The image and the training image of each row.
    texts_ : list of matplotlib Text
        ``similarity x weight = contribution`` of each row.
    sum_text_ : matplotlib Text
        What the rows drawn and all others add up to.

    See Also
    --------
    PrototypeDisplay : All prototypes.
    SimilarityMapDisplay : Where in an image how similar patches are.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import ExplanationDisplay
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> display = ExplanationDisplay.from_estimator(clf, X[100:], sample=1, top_k=2)
    >>> display.axes_.shape
    (2, 2)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        evidence: pd.DataFrame,
        image: NDArray[Any],
        source_images: Sequence[NDArray[Any]] | NDArray[Any],
        predicted_class: Any,
        image_name: str | None = None,
        image_size: Sequence[int] | None = None,
        source_sizes: Sequence[Sequence[int]] | NDArray[np.int64] | None = None,
        other_boxes: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        self.evidence = evidence
        self.image = image
        self.source_images = source_images
        self.predicted_class = predicted_class
        self.image_name = image_name
        self.image_size = image_size
        self.source_sizes = source_sizes
        self.other_boxes = other_boxes

    @classmethod
    @with_shared_descriptions
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        sample: int = 0,
        class_label: Any = None,
        top_k: int = 4,
        localizer: str = "receptive_field",
        image_name: str | None = None,
        ax: Axes | None = None,
    ) -> ExplanationDisplay:
        """Explain one image and draw the explanation.

        Parameters
        ----------
        {estimator_or_ensemble}
        {X}
        sample : int, default=0
            Position in `X` of the image to explain.
        class_label : label, default=None
            The class to explain; the predicted one with None.
        top_k : int, default=4
            Rows to draw: the largest contributions.
        {localizer}
        {image_name}
        {ax}

        Returns
        -------
        display : ExplanationDisplay
            The display, drawn.

        Raises
        ------
        {no_matplotlib}
        {estimator_errors}
        ValueError
            If `sample` is no position in `X`, `top_k` is not positive, the class or the localizer
            is unknown, or members of an ensemble see images of different sizes.
        """
        pyplot_module()
        check_positive("top_k", top_k)
        classes = "predicted" if class_label is None else [class_label]
        # A localizer costs something: it finds the boxes that are drawn only.
        options = replace(Options.checked(classes, None, localizer, ()), n_located=top_k)
        explainer = Explainer(member_image(estimator, X, sample), options)
        evidence = explainer.table()
        source_images, source_sizes, others = zip(*explainer.drawn(evidence[:top_k]), strict=True)
        source = picture_source(explainer.images)
        return cls(
            evidence=evidence,
            image=source.images.read(source.rows)[0],
            image_size=source.sizes[0],
            source_images=source_images,
            source_sizes=source_sizes,
            other_boxes=others,
            predicted_class=explainer.predicted(0),
            image_name=image_name,
        ).plot(ax=ax)

    def _size(self) -> tuple[float, float]:
        return 11.6, max(_row_top(len(self.source_images)) + 1.0, 6.3)

    def _draw_canvas(self, canvas: Canvas) -> None:
        self._draw_headings(canvas, self.evidence.iloc[0].to_dict())
        self._draw_image(canvas)
        drawn = [
            self._draw_row(canvas, _row_top(i), i, source)
            for i, source in enumerate(self.source_images)
        ]
        self.axes_ = np.array([pair for pair, _ in drawn], dtype=object)  # (rows, 2)
        self.texts_ = [text for _, text in drawn]
        self.sum_text_ = self._draw_sum(canvas, _row_top(len(drawn)))

    def _draw_image(self, canvas: Canvas) -> None:
        """Draw the whole image with the boxes of all rows."""
        name = self.image_name or f"image {self.evidence['sample'].iloc[0]}"
        canvas.text(1.8, 1.45, name, 11, ha="center")
        self.image_ax_ = canvas.image(0.3, 1.75, 3.0, self.image, self.image_size)
        boxes = self.evidence[BOX].to_numpy()[: len(self.source_images)]  # (rows, 4)
        for i, box in enumerate(boxes):
            # Where boxes coincide, the later one lies inside and numbers stand side by side.
            n_inside = (boxes[i + 1 :] == box).all(axis=1).sum()
            canvas.box(self.image_ax_, box, colour_of(i), 3.0 + 5.0 * n_inside)
        for i, (y0, _, x0, x1) in enumerate(boxes):
            along = x0 - 0.5 + (x1 - x0) * (i + 1) / (len(boxes) + 1)
            canvas.badge(self.image_ax_, along, y0 - 0.5, i, transform=self.image_ax_.transData)
        canvas.text(0.3, 4.95, LEGEND, 9.5, va="top", color=FAINT)

    def _draw_headings(self, canvas: Canvas, row: dict[Any, Any]) -> None:
        """Draw the question, the prediction and the headings of the columns."""
        label, predicted = text_of(row["class"]), text_of(self.predicted_class)
        figures = f"probability {format_percent(row['probability'])}"
        figures += f" and logit {format_number(row['logit'])}"
        if row["class"] == self.predicted_class:
            question = f"Why class {label}?"
            answer = f"Predicted class: {label}, with {figures}"
        else:
            question = f"What speaks for class {label}?"
            answer = f"Class {label} has {figures}. The predicted class is {predicted}."
        canvas.text(0.3, 0.45, question, 19, weight="bold")
        canvas.text(0.3, 0.8, answer, 12)
        canvas.text(4.65, 1.45, "This part\nof the image", 11, ha="center")
        canvas.text(6.75, 1.45, "looks like this part\nof a training image", 11, ha="center")
        adds = f"and so adds to the logit of class {label}:"
        canvas.text(8.0, 1.45, f"{adds}\nsimilarity {TIMES} weight = contribution", 11)

    def _draw_row(
        self, canvas: Canvas, y: float, i: int, source: NDArray[Any]
    ) -> tuple[list[Axes], Any]:
        """Draw one piece of evidence below y: its two images, its bar and its text."""
        row = self.evidence.iloc[i]
        canvas.badge(canvas.ax, *canvas.at(3.75, y + 0.9), i)
        part = canvas.image(4.0, y + 0.25, 1.3, self.image, self.image_size)
        others: Any = () if self.other_boxes is None else self.other_boxes[i]
        for box in others:
            canvas.box(part, box, colour_of(i), 1.0)
        canvas.box(part, row[BOX], colour_of(i))
        more = f"and {len(others)} more" if len(others) else ""
        if note := ", ".join(filter(None, (BOX_NOTES.get(row["box_kind"]), more))):
            canvas.text(4.65, y + 0.17, note, 9, ha="center")
        canvas.text(5.7, y + 0.9, LOOKS_LIKE, 20, ha="center", va="center", color=FAINT)
        likeness = self._draw_source(canvas, 6.1, y, i, source)
        formula = (
            f"{format_number(row['similarity'])} {TIMES} {format_number(row['weight'], 3)} = "
            f"{format_number(row['contribution'], signed=True)}"
        )
        said = f"network {row[MEMBER]} " if MEMBER in row else ""
        said = (said + shortened(row.get("name", ""), 40)).strip()
        canvas.text(8.0, y + 0.5, said, 9.5, color=FAINT)
        self._draw_bar(canvas, y + 0.92, row["contribution"], colour_of(i))
        return [part, likeness], canvas.text(8.0, y + 0.8, formula, 13)

    def _draw_source(
        self, canvas: Canvas, x: float, y: float, i: int, source: NDArray[Any]
    ) -> Axes:
        """Draw the training patch that a prototype is, or say that there is none."""
        row = self.evidence.iloc[i]
        if row["source_sample"] == NO_SOURCE:
            axes = canvas.no_image(x, y + 0.25, 1.3, 10)
            text = f"prototype {row['prototype']} of class {text_of(row['prototype_class'])}"
        else:
            size = source.shape[:2] if self.source_sizes is None else self.source_sizes[i]
            axes = canvas.image(x, y + 0.25, 1.3, source, size)
            canvas.box(axes, row[SOURCE_BOX], colour_of(i))
            text = f"training row {row['source_sample']}, class {text_of(row['prototype_class'])}"
            text += ", all of it" if is_whole_image(row[SOURCE_BOX], size) else ""
        canvas.text(x + 0.65, y + 0.17, text, 9, ha="center")
        return axes

    def _draw_bar(self, canvas: Canvas, y: float, value: float, colour: str) -> None:
        """Draw a contribution as a bar on the scale that all rows share."""
        shown = self.evidence["contribution"].head(len(self.source_images))
        ends = np.array([0.0, *shown, self._other()])
        low, high = ends.min(), ends.max()
        axes = canvas.axes(8.0, y, 3.3, 0.3)
        axes.barh(0, value, color=colour, edgecolor="black", linewidth=0.6, clip_on=False)
        axes.axvline(0, color="black", linewidth=1.2)
        axes.set_xlim(low, high if high > low else low + 1)
        axes.set_axis_off()
        axes.set_in_layout(False)

    def _other(self) -> float:
        """Sum the contributions of the rows that are not drawn."""
        return float(self.evidence["contribution"].iloc[len(self.source_images) :].sum())

    def _draw_sum(self, canvas: Canvas, y: float) -> Any:
        """Account for the logit: rows drawn, and all others."""
        n_others = len(self.evidence) - len(self.source_images)
        shown = self.evidence["contribution"].head(len(self.source_images)).sum()
        logit = format_number(self.evidence["logit"].iloc[0])
        if n_others == 0:
            return canvas.text(
                8.0, y + 0.4, f"all shown {format_number(shown)} = logit {logit}", 13, weight="bold"
            )
        others = f"{n_others} prototype" + ("s" if n_others > 1 else "")
        canvas.text(7.8, y + 0.3, f"all other {others} together", 11, ha="right", va="bottom")
        self._draw_bar(canvas, y + 0.02, self._other(), "#BBBBBB")
        others = f"other {others} {format_number(self._other())}"
        total = f"shown {format_number(shown)} + {others} = logit {logit}"
        return canvas.text(11.3, y + 0.75, total, 13, weight="bold", ha="right")
