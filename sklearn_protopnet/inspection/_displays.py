"""Evidence as pictures: what a decision rests on, and what the prototypes are.

A display holds data; `plot` draws them. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet._images import flatten_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00")
"""Okabe and Ito's colours that the colour-blind tell apart; those on which black is legible."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"
MINUS: Final = "\N{MINUS SIGN}"
APPROXIMATELY: Final = "\N{ALMOST EQUAL TO}"

NO_SOURCE: Final = -1
"""Source sample of a prototype that is no patch of a training image."""

LEGEND: Final = (
    "Boxes: the parts of the image that count most,\n"
    "numbered by how much. Each is compared with\n"
    "a part of a training image. The contributions of\n"
    "all prototypes add up to the logit of the class.\n"
    "The class with the largest logit is predicted."
)

_FAINT: Final = "#555555"
_BOX: Final = ["y0", "y1", "x0", "x1"]
_SOURCE_BOX: Final = ["source_y0", "source_y1", "source_x0", "source_x1"]


class ExplanationDisplay:
    """Evidence for one class in one image, drawn: this looks like that.

    On the left the image with the parts that count most; on the right a row for each of them:
    the part, the training patch that it looks like, and what the likeness adds to the logit.
    The last line accounts for the whole logit. Create it with `from_estimator`.

    Parameters
    ----------
    evidence : DataFrame
        All rows of `ProtoPNetClassifier.explain` for one image and one class, by rank.
    image : ndarray of shape (H, W, C)
        The image.
    source_images : sequence of ndarray of shape (H, W, C)
        The training image of each row to draw; as many rows are drawn.
    predicted_class : label
        The class that the classifier predicts for the image.
    image_name : str, default=None
        What to call the image; ``"image <sample>"`` with None.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure that was drawn on.
    bounding_ax_ : matplotlib Axes
        The axes that hold everything else.
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

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import ExplanationDisplay
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     image_shape=(8, 8), n_prototypes_per_class=2, joint_epochs=3, random_state=0
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
    ) -> None:
        self.evidence = evidence
        self.image = image
        self.source_images = source_images
        self.predicted_class = predicted_class
        self.image_name = image_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        sample: int = 0,
        class_label: Any = None,
        top_k: int = 4,
        image_name: str | None = None,
        ax: Axes | None = None,
    ) -> ExplanationDisplay:
        """Explain one image and draw the explanation.

        Parameters
        ----------
        estimator : ProtoPNetClassifier
            A fitted classifier.
        X : array-like, frame, CPU tensor or list of images
            As in `ProtoPNetClassifier.fit`.
        sample : int, default=0
            Position in `X` of the image to explain.
        class_label : label, default=None
            The class to explain; the predicted one with None.
        top_k : int, default=4
            Rows to draw: the largest contributions.
        image_name : str, default=None
            What to call the image; ``"image <sample>"`` with None.
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure with None.

        Returns
        -------
        display : ExplanationDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install sklearn-protopnet[plot]``).
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `sample` is no position in `X`, `top_k` is not positive or the class is unknown.
        """
        _pyplot()
        check_is_fitted(estimator)
        _check_positive("top_k", top_k)
        one = _only(X, sample)
        classes = "predicted" if class_label is None else [class_label]
        evidence = estimator.explain(one, classes=classes)
        if not hasattr(one, "iloc"):
            evidence["sample"] = sample
        image = np.asarray(flatten_images(one)[0]).reshape(estimator.image_shape_)
        return cls(
            evidence=evidence,
            image=image,
            source_images=estimator.prototype_images_[evidence["prototype"][:top_k]],
            predicted_class=estimator.predict(one)[0],
            image_name=image_name,
        ).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> ExplanationDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure with None.

        Returns
        -------
        self : ExplanationDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install sklearn-protopnet[plot]``).
        """
        n_rows = len(self.source_images)
        bottom = 1.5 + 1.65 * n_rows
        canvas = _Canvas(11.6, max(bottom + 1.0, 6.3), ax)
        self.figure_, self.bounding_ax_ = canvas.ax.figure, canvas.ax
        self._draw_headings(canvas, self.evidence.iloc[0].to_dict())
        self._draw_image(canvas)
        drawn = [
            self._draw_row(canvas, 1.5 + 1.65 * i, i, source)
            for i, source in enumerate(self.source_images)
        ]
        self.axes_ = np.array([pair for pair, _ in drawn], dtype=object)  # (rows, 2)
        self.texts_ = [text for _, text in drawn]
        self.sum_text_ = self._draw_sum(canvas, bottom)
        return self

    def _draw_image(self, canvas: _Canvas) -> None:
        """Draw the whole image with the boxes of all rows."""
        name = self.image_name or f"image {self.evidence['sample'].iloc[0]}"
        canvas.text(1.8, 1.45, name, 11, ha="center")
        self.image_ax_ = canvas.image(0.3, 1.75, 3.0, 3.0, self.image)
        boxes = self.evidence[_BOX].to_numpy()[: len(self.source_images)]  # (rows, 4)
        for i, box in enumerate(boxes):
            # Where boxes coincide, the later one lies inside and numbers stand side by side.
            n_inside = (boxes[i + 1 :] == box).all(axis=1).sum()
            canvas.box(self.image_ax_, box, _colour(i), 3.0 + 5.0 * n_inside)
        for i, (y0, _, x0, x1) in enumerate(boxes):
            along = x0 - 0.5 + (x1 - x0) * (i + 1) / (len(boxes) + 1)
            canvas.badge(self.image_ax_, along, y0 - 0.5, i, transform=self.image_ax_.transData)
        canvas.text(0.3, 4.95, LEGEND, 9.5, va="top", color=_FAINT)

    def _draw_headings(self, canvas: _Canvas, row: dict[Any, Any]) -> None:
        """Draw the question, the prediction and the headings of the columns."""
        label, figures = row["class"], (_percent(row["probability"]), _number(row["logit"]))
        if label == self.predicted_class:
            question = f"Why class {label}?"
            answer = "Predicted class: {}, with probability {} and logit {}".format(label, *figures)
        else:
            question = f"What speaks for class {label}?"
            answer = (
                "Class {} has probability {} and logit {}. ".format(label, *figures)
                + f"The predicted class is {self.predicted_class}."
            )
        canvas.text(0.3, 0.45, question, 19, weight="bold")
        canvas.text(0.3, 0.8, answer, 12)
        canvas.text(4.65, 1.45, "This part\nof the image", 11, ha="center")
        canvas.text(6.75, 1.45, "looks like this part\nof a training image", 11, ha="center")
        adds = (
            f"and so adds to the logit of class {label}:\nsimilarity {TIMES} weight = contribution"
        )
        canvas.text(8.0, 1.45, adds, 11)

    def _draw_row(
        self, canvas: _Canvas, y: float, i: int, source: NDArray[Any]
    ) -> tuple[list[Axes], Any]:
        """Draw one piece of evidence below y: its two images, its bar and its text."""
        row = self.evidence.iloc[i]
        canvas.badge(canvas.ax, *canvas.at(3.75, y + 0.9), i)
        part = canvas.image(4.0, y + 0.25, 1.3, 1.3, self.image)
        canvas.box(part, row[_BOX], _colour(i))
        if row["box_kind"] == "whole_image":
            canvas.text(4.65, y + 0.17, "the whole image", 9, ha="center")
        canvas.text(5.7, y + 0.9, APPROXIMATELY, 20, ha="center", va="center", color=_FAINT)
        likeness = self._draw_source(canvas, 6.1, y, i, source)
        formula = (
            f"{_number(row['similarity'])} {TIMES} {_number(row['weight'], 3)} = "
            f"{_number(row['contribution'], signed=True)}"
        )
        text = canvas.text(8.0, y + 0.8, formula, 13)
        self._draw_bar(canvas, y + 0.92, row["contribution"], _colour(i))
        return [part, likeness], text

    def _draw_source(
        self, canvas: _Canvas, x: float, y: float, i: int, source: NDArray[Any]
    ) -> Axes:
        """Draw the training patch that a prototype is, or say that there is none."""
        row = self.evidence.iloc[i]
        if row["source_sample"] == NO_SOURCE:
            axes = canvas.image(x, y + 0.25, 1.3, 1.3, np.ones((1, 1, 1), np.uint8) * 235)
            text = f"prototype {row['prototype']} of class {row['prototype_class']}"
            axes.text(0, 0, "no training\nimage", ha="center", va="center")
        else:
            axes = canvas.image(x, y + 0.25, 1.3, 1.3, source)
            canvas.box(axes, row[_SOURCE_BOX], _colour(i))
            text = f"training row {row['source_sample']}, class {row['prototype_class']}"
            text += ", all of it" if _is_whole(row[_SOURCE_BOX], source) else ""
        canvas.text(x + 0.65, y + 0.17, text, 9, ha="center")
        return axes

    def _draw_bar(self, canvas: _Canvas, y: float, value: float, colour: str) -> None:
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

    def _draw_sum(self, canvas: _Canvas, y: float) -> Any:
        """Account for the logit: rows drawn, and all others."""
        n_others = len(self.evidence) - len(self.source_images)
        shown = self.evidence["contribution"].head(len(self.source_images)).sum()
        logit = _number(self.evidence["logit"].iloc[0])
        if n_others == 0:
            return canvas.text(
                8.0, y + 0.4, f"all shown {_number(shown)} = logit {logit}", 13, weight="bold"
            )
        others = f"{n_others} prototype" + ("s" if n_others > 1 else "")
        canvas.text(7.8, y + 0.3, f"all other {others} together", 11, ha="right", va="bottom")
        self._draw_bar(canvas, y + 0.02, self._other(), "#BBBBBB")
        total = f"shown {_number(shown)} + other {others} {_number(self._other())} = logit {logit}"
        return canvas.text(11.3, y + 0.75, total, 13, weight="bold", ha="right")


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

    def __init__(self, *, table: pd.DataFrame, images: NDArray[Any]) -> None:
        self.table = table
        self.images = images

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        classes: ArrayLike | None = None,
        max_per_class: int = 10,
        ax: Axes | None = None,
    ) -> PrototypeDisplay:
        """Look the prototypes up and draw them.

        Parameters
        ----------
        estimator : ProtoPNetClassifier
            A fitted classifier.
        classes : array-like of labels, default=None
            Classes whose prototypes to draw, in this order; all with None.
        max_per_class : int, default=10
            Prototypes of a class to draw at most: those with the lowest numbers.
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
        ValueError
            If a class is unknown, there is none, or `max_per_class` is not positive.
        """
        _pyplot()
        check_is_fitted(estimator)
        _check_positive("max_per_class", max_per_class)
        known = estimator.classes_
        wanted = known if classes is None else np.atleast_1d(np.asarray(classes))
        if len(wanted) == 0 or not np.isin(wanted, known).all():
            raise ValueError(f"classes must be labels among {known.tolist()}, got {classes!r}.")
        table = estimator.prototype_table()
        groups = [table[table["prototype_class"] == label].head(max_per_class) for label in wanted]
        chosen = pd.concat(groups)
        images = estimator.prototype_images_[chosen["prototype"]]
        return cls(table=chosen, images=images).plot(ax=ax)

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
        canvas = _Canvas(width + 0.2, 1.1 + 1.4 * len(classes), ax)
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

    def _draw_cell(self, canvas: _Canvas, x: float, y: float, j: int, image: NDArray[Any]) -> Axes:
        """Draw one prototype below and to the right of (x, y)."""
        row = self.table.iloc[[j]].to_dict("records")[0]  # numbers stay integers
        if row["sample"] == NO_SOURCE:
            axes = canvas.image(x, y + 0.25, 1.0, 1.0, np.ones((1, 1, 1), np.uint8) * 235)
            axes.text(0, 0, "no training\nimage", ha="center", va="center", fontsize=8)
            origin = ""
        else:
            axes = canvas.image(x, y + 0.25, 1.0, 1.0, image)
            canvas.box(axes, [row[name] for name in _BOX], _colour(0), 2.5)
            origin = f": row {row['sample']}"
        canvas.text(x + 0.5, y + 0.19, f"{row['prototype']}{origin}", 8.5, ha="center")
        return axes


class _Canvas:
    """An axes measured in inches from its upper left corner, at the size meant for it.

    In a smaller or larger axes everything shrinks or grows, fonts and lines included.
    """

    def __init__(self, width: float, height: float, ax: Axes | None) -> None:
        self.width, self.height = width, height
        if ax is None:
            figure = _pyplot().figure(figsize=(width, height))
            ax = figure.add_axes((0, 0, 1, 1))
        self.ax: Any = ax
        self.ax.set_axis_off()
        extent, dpi = self.ax.get_window_extent(), self.ax.figure.dpi
        self.scale = min(extent.width / width, extent.height / height) / dpi

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Turn inches into fractions of the axes."""
        return x / self.width, 1 - y / self.height

    def text(self, x: float, y: float, text: str, size: float, **options: Any) -> Any:
        """Write text, by default with its last line on y."""
        options = {"va": "bottom", "linespacing": 1.25, **options}
        place = self.at(x, y)
        return self.ax.text(
            *place, text, fontsize=size * self.scale, transform=self.ax.transAxes, **options
        )

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Make axes with the upper left corner (x, y)."""
        left, bottom = self.at(x, y + height)
        inset: Axes = self.ax.inset_axes((left, bottom, width / self.width, height / self.height))
        return inset

    def image(self, x: float, y: float, width: float, height: float, image: NDArray[Any]) -> Axes:
        """Draw an image, as large as fits."""
        axes = self.axes(x, y, width, height)
        axes.imshow(_picture(image), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="#999999", linewidth=0.8 * self.scale)
        return axes

    def box(self, axes: Axes, box: Any, colour: str, width: float = 3.0) -> None:
        """Draw a box, half-open in pixels; black around it, so that it shows on any image."""
        from matplotlib.patches import Rectangle
        from matplotlib.patheffects import Normal, withStroke

        y0, y1, x0, x1 = (int(edge) for edge in box)
        width *= self.scale
        around = withStroke(linewidth=width + 2 * self.scale, foreground="black")
        axes.add_patch(
            Rectangle(
                (x0 - 0.5, y0 - 0.5),  # a pixel's centre has whole coordinates
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                clip_on=False,  # a box on the border is seen whole
                zorder=3,
                path_effects=[around, Normal()],
            )
        )

    def badge(self, axes: Axes, x: float, y: float, i: int, transform: Any = None) -> None:
        """Write the number of a row on its colour."""
        axes.text(
            x,
            y,
            str(i + 1),
            transform=transform or axes.transAxes,
            fontsize=10 * self.scale,
            weight="bold",
            ha="center",
            va="center",
            zorder=4,
            bbox={
                "boxstyle": "circle,pad=0.25",
                "facecolor": _colour(i),
                "edgecolor": "black",
                "linewidth": self.scale,
            },
        )


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install sklearn-protopnet[plot]"
        ) from error
    return pyplot


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")


def _only(X: Any, sample: Any) -> Any:
    """Cut one image out of X, as an X of one image."""
    n_samples = len(X)
    if not isinstance(sample, Integral) or not 0 <= int(sample) < n_samples:
        raise ValueError(
            f"sample must be the position of an image in X, an integer from 0 to {n_samples - 1}, "
            f"got {sample!r}."
        )
    rows = X.iloc if hasattr(X, "iloc") else X
    return rows[int(sample) : int(sample) + 1]


def _picture(image: NDArray[Any]) -> NDArray[np.float64]:
    """Bring an image (H, W, C) to what imshow draws: RGB, RGBA or grey, in [0, 1]."""
    picture: NDArray[np.float64] = image.astype(np.float64)
    if image.shape[2] not in {3, 4}:
        picture = picture.mean(2)  # (H, W)
    if image.dtype == np.uint8:
        return picture / 255
    low, high = float(picture.min()), float(picture.max())
    return (picture - low) / (high - low if high > low else 1.0)


def _is_whole(box: Any, image: NDArray[Any]) -> bool:
    y0, y1, x0, x1 = box
    return (y1 - y0, x1 - x0) == image.shape[:2]


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    rounded = round(float(value), digits) + 0.0  # no minus zero
    text = f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"
    return text.replace("-", MINUS)


def _percent(probability: float) -> str:
    """Write a probability; never 0 or 100 % unless it is."""
    if 0 < probability < 0.0005:
        return "below 0.1 %"
    if 0.9995 <= probability < 1:
        return "over 99.9 %"
    return f"{100 * probability:.1f} %"
