"""The prototypes as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._training import NO_SOURCE
from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.inspection._explained_classes import known_classes
from sklearn_protopnet.inspection._pipelines import find_classifier
from sklearn_protopnet.inspection._plot._canvas import (
    SOURCE_BOX,
    Canvas,
    colour_of,
    pyplot_module,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PrototypeDisplay:
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
    figure_ : matplotlib Figure
        The figure that was drawn on.
    bounding_ax_ : matplotlib Axes
        The axes that hold everything else.
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
    ...     image_shape=(8, 8), n_prototypes_per_class=3, joint_epochs=3, random_state=0
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
    def from_estimator(
        cls,
        estimator: Any,
        *,
        classes: ArrayLike | None = None,
        max_per_class: int = 10,
        localizer: str = "receptive_field",
        ax: Axes | None = None,
    ) -> PrototypeDisplay:
        """Look the prototypes up and draw them.

        Parameters
        ----------
        estimator : ProtoPNetClassifier, Pipeline or search over parameters
            Fitted.
        classes : array-like of labels, default=None
            Classes whose prototypes to draw, in this order; all with None.
        max_per_class : int, default=10
            Prototypes of a class to draw at most: those with the lowest numbers.
        localizer : str, default="receptive_field"
            How boxes are found, as for `ProtoPNetClassifier.explain`.
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure with None.

        Returns
        -------
        display : PrototypeDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install sklearn-protopnet[plot]``).
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If there is no ProtoPNetClassifier at its end.
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

    def plot(self, ax: Axes | None = None) -> PrototypeDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure with None.

        Returns
        -------
        self : PrototypeDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install sklearn-protopnet[plot]``).
        """
        labels = self.table["prototype_class"]
        classes = labels.drop_duplicates().tolist()
        column = labels.groupby(labels).cumcount()
        longest = max(len(str(label)) for label in classes)
        left, n_columns = 0.9 + 0.1 * longest, int(column.max()) + 1
        width = max(left + 1.15 * n_columns, 5.2)
        canvas = Canvas(width + 0.2, 1.1 + 1.4 * len(classes), ax)
        self.figure_, self.bounding_ax_ = canvas.ax.figure, canvas.ax
        self.axes_ = np.full((len(classes), n_columns), None, dtype=object)
        caption = (
            "A prototype is the boxed part of a training image.\n"
            "Above it: number of the prototype, row of the image."
        )
        canvas.text(0.2, 0.4, "What each class is recognised by", 15, weight="bold")
        canvas.text(0.2, 0.88, caption, 10)
        for i, label in enumerate(classes):
            canvas.text(0.2, 1.75 + 1.4 * i, f"class {label}", 12, weight="bold", va="center")
        for j, image in zip(range(len(self.table)), self.images, strict=True):
            i = classes.index(labels.iloc[j])
            corner = left + 1.15 * column.iloc[j], 1.0 + 1.4 * i
            self.axes_[i, column.iloc[j]] = self._draw_cell(canvas, *corner, j, image)
        return self

    def _draw_cell(self, canvas: Canvas, x: float, y: float, j: int, image: NDArray[Any]) -> Axes:
        """Draw one prototype below and to the right of (x, y)."""
        row = self.table.iloc[[j]].to_dict("records")[0]  # numbers stay integers
        if row["source_sample"] == NO_SOURCE:
            axes = canvas.image(x, y + 0.25, 1.0, np.ones((1, 1, 1), np.uint8) * 235)
            axes.text(0, 0, "no training\nimage", ha="center", va="center", fontsize=8)
            origin = ""
        else:
            size = None if self.sizes is None else self.sizes[j]
            axes = canvas.image(x, y + 0.25, 1.0, image, size)
            canvas.box(axes, [row[name] for name in SOURCE_BOX], colour_of(0), 2.5)
            origin = f": row {row['source_sample']}"
        canvas.text(x + 0.5, y + 0.19, f"{row['prototype']}{origin}", 8.5, ha="center")
        return axes
