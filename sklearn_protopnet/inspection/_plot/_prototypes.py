"""The prototypes as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._training import NO_SOURCE
from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._explained_classes import known_classes
from sklearn_protopnet.inspection._pictures import colour_of, shortened, text_of
from sklearn_protopnet.inspection._pipelines import find_classifier
from sklearn_protopnet.inspection._plot._canvas import SOURCE_BOX, Canvas
from sklearn_protopnet.inspection._plot._display import CanvasDisplay, pyplot_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@with_shared_descriptions
class PrototypeDisplay(CanvasDisplay):
    """All that a classifier compares images to: its prototypes, a row for each class.

    Each cell is the training image that a prototype comes from, with the box of the patch that
    the prototype is. Create it with `from_estimator`.

    Parameters
    ----------
    table : DataFrame
        Rows of `ProtoPNetClassifier.prototype_table` to draw.
    images : ndarray of shape (n_rows, H, W, C)
        The training image of each row.
    sizes : sequence of (int, int), default=None
        Height and width of the images in whose pixels boxes are, if `images` were resized.

    Attributes
    ----------
    {canvas_attributes}
    axes_ : ndarray of shape (n_classes, n_columns) of matplotlib Axes
        The cells; None where a class has fewer prototypes than another.

    See Also
    --------
    ExplanationDisplay : The evidence for one class in one image.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import PrototypeDisplay
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=3, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> display = PrototypeDisplay.from_estimator(clf)
    >>> display.axes_.shape
    (2, 3)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        table: pd.DataFrame,
        images: NDArray[Any],
        sizes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.table = table
        self.images = images
        self.sizes = sizes

    @classmethod
    @with_shared_descriptions
    def from_estimator(
        cls,
        estimator: Any,
        *,
        classes: ArrayLike | None = None,
        max_per_class: int = 10,
        localizer: str = "receptive_field",
        ax: Axes | None = None,
    ) -> PrototypeDisplay:
        """Take the prototypes from a classifier and draw them.

        Parameters
        ----------
        {estimator}
        classes : array-like of labels, default=None
            Classes whose prototypes to draw, in this order; all with None.
        max_per_class : int, default=10
            Prototypes of a class to draw at most: those with the lowest numbers.
        {localizer}
        {ax}

        Returns
        -------
        display : PrototypeDisplay
            The display, drawn.

        Raises
        ------
        {no_matplotlib}
        {estimator_errors}
        ValueError
            If a class or the localizer is unknown, there is no class, or `max_per_class` is not
            positive.
        """
        pyplot_module()
        classifier = find_classifier(estimator)
        check_positive("max_per_class", max_per_class)
        known = classifier.classes_
        wanted = known if classes is None else known[known_classes(classes, known)]
        table = classifier.prototype_table(localizer=localizer)
        groups = [table[table["prototype_class"] == label].head(max_per_class) for label in wanted]
        chosen = pd.concat(groups)
        images = classifier.prototype_images_[chosen["prototype"]]
        sizes = classifier.prototype_image_sizes_[chosen["prototype"]]
        return cls(table=chosen, images=images, sizes=sizes).plot(ax=ax)

    def _classes(self) -> list[Any]:
        """Labels of the rows of the picture."""
        labels: list[Any] = self.table["prototype_class"].drop_duplicates().tolist()
        return labels

    def _columns(self) -> list[int]:
        """Column of each prototype."""
        labels = self.table["prototype_class"]
        columns: list[int] = labels.groupby(labels).cumcount().tolist()
        return columns

    def _left(self) -> float:
        """Inches that the labels take."""
        return 0.9 + 0.1 * max(len(text_of(label)) for label in self._classes())

    def _size(self) -> tuple[float, float]:
        width = self._left() + 1.15 * (max(self._columns()) + 1)
        return max(width, 5.2) + 0.2, 1.1 + 1.4 * len(self._classes())

    def _draw_canvas(self, canvas: Canvas) -> None:
        classes, columns, left = self._classes(), self._columns(), self._left()
        self.axes_ = np.full((len(classes), max(columns) + 1), None, dtype=object)
        caption = (
            "A prototype is the boxed part of a training image.\n"
            "Above it: number of the prototype, row of the image."
        )
        canvas.text(0.2, 0.4, "What each class is recognised by", 15, weight="bold")
        canvas.text(0.2, 0.88, caption, 10)
        for i, label in enumerate(classes):
            said = f"class {text_of(label)}"
            canvas.text(0.2, 1.75 + 1.4 * i, said, 12, weight="bold", va="center")
        for j, label in enumerate(self.table["prototype_class"]):
            row, column = classes.index(label), columns[j]
            corner = left + 1.15 * column, 1.0 + 1.4 * row
            self.axes_[row, column] = self._draw_cell(canvas, *corner, j)

    def _draw_cell(self, canvas: Canvas, x: float, y: float, j: int) -> Axes:
        """Draw one prototype below and to the right of (x, y)."""
        row = self.table.iloc[[j]].to_dict("records")[0]  # numbers stay integers
        if row["source_sample"] == NO_SOURCE:
            axes = canvas.no_image(x, y + 0.25, 1.0, 8)
            origin = ""
        else:
            size = None if self.sizes is None else self.sizes[j]
            axes = canvas.image(x, y + 0.25, 1.0, self.images[j], size)
            canvas.box(axes, [row[name] for name in SOURCE_BOX], colour_of(0), 2.5)
            origin = f": row {row['source_sample']}"
        canvas.text(x + 0.5, y + 0.19, f"{row['prototype']}{origin}", 8.5, ha="center")
        if row.get("name"):
            canvas.text(x + 0.5, y + 0.06, shortened(row["name"], 18), 8, ha="center")
        return axes
