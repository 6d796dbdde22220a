"""How similar every patch of an image is to prototypes, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_protopnet._validation import check_positive
from sklearn_protopnet.inspection._analysis import explain
from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._localization import localize
from sklearn_protopnet.inspection._pictures import colour_of, format_number, picture_of, shortened
from sklearn_protopnet.inspection._pipelines import classifier_image, only_image
from sklearn_protopnet.inspection._plot._canvas import Canvas
from sklearn_protopnet.inspection._plot._display import CanvasDisplay, pyplot_module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

SIDE: Final = 2.0
STEP: Final = 2.2
"""A panel has so many inches a side, and the next one begins so many after it."""

OPACITY: Final = 0.65
"""A map hides so much of the image below it."""

LEGEND: Final = (
    "Each square is a place of the feature map, about where it lies, and its colour how similar\n"
    "the patch there is to the prototype. The number above is the mean over the patches that are\n"
    "most similar. The thick box holds the pixels that count for the first of them, thin boxes\n"
    "those of the others: what a square sees is larger than the square."
)
"""The picture says this of itself, below the maps."""


@with_shared_descriptions
class SimilarityMapDisplay(CanvasDisplay):
    """Where in an image patches are similar to prototypes, drawn at the resolution that it has.

    On the left the image; then for each prototype its map over the image, and the boxes of the
    most similar patches. What counts is the mean over the `n_pooled_patches` most similar ones,
    which stands above. The maps share a scale of colours. They are not smoothed: a map has as many
    numbers as it has squares. Create it with `from_estimator`.

    Parameters
    ----------
    image : ndarray of shape (H, W, C)
        The image.
    maps : ndarray of shape (n_prototypes, h, w)
        Similarities, as by `similarity_maps`.
    prototypes : ndarray of shape (n_prototypes,)
        Numbers of the prototypes.
    prototype_classes : ndarray of shape (n_prototypes,)
        Their classes.
    boxes : ndarray of shape (n_prototypes, 4)
        ``y0, y1, x0, x1`` of the most similar patches, half-open.
    prototype_size : (int, int), default=(1, 1)
        Height and width of a prototype on the feature map.
    image_name : str, default=None
        What to call the image; ``"image"`` with None.
    image_size : (int, int), default=None
        Height and width of the image in whose pixels boxes are, if `image` was resized.
    prototype_names : ndarray of str of shape (n_prototypes,), default=None
        What the prototypes are called; empty for no name.
    similarities : float64 ndarray of shape (n_prototypes,), default=None
        Similarities of the image, the means over the patches that are pooled; the largest of each
        map with None.
    other_boxes : int64 ndarray of shape (n_prototypes, n_others, 4), default=None
        ``y0, y1, x0, x1`` of the other patches that are pooled, if there are several: their
        receptive fields.

    Attributes
    ----------
    {canvas_attributes}
    image_ax_ : matplotlib Axes
        The image alone.
    axes_ : ndarray of shape (n_prototypes,) of matplotlib Axes
        The image with the map of each prototype.
    maps_ : list of matplotlib AxesImage
        The maps, drawn.
    colorbar_ : matplotlib Colorbar
        Their scale.

    See Also
    --------
    similarity_maps : The numbers.
    ExplanationDisplay : The evidence for one class in one image.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import SimilarityMapDisplay
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> display = SimilarityMapDisplay.from_estimator(clf, X[100:], sample=1, top_k=2)
    >>> display.axes_.shape
    (2,)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        image: NDArray[Any],
        maps: NDArray[np.float64],
        prototypes: NDArray[np.int64],
        prototype_classes: NDArray[Any],
        boxes: NDArray[np.int64],
        prototype_size: Sequence[int] = (1, 1),
        image_name: str | None = None,
        image_size: Sequence[int] | None = None,
        prototype_names: NDArray[np.str_] | None = None,
        similarities: NDArray[np.float64] | None = None,
        other_boxes: NDArray[np.int64] | None = None,
    ) -> None:
        self.image = image
        self.maps = maps
        self.prototypes = prototypes
        self.prototype_classes = prototype_classes
        self.boxes = boxes
        self.prototype_size = prototype_size
        self.image_name = image_name
        self.image_size = image_size
        self.prototype_names = prototype_names
        self.similarities = similarities
        self.other_boxes = other_boxes

    @classmethod
    @with_shared_descriptions
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        sample: int = 0,
        prototypes: ArrayLike | None = None,
        top_k: int = 3,
        localizer: str = "receptive_field",
        image_name: str | None = None,
        ax: Axes | None = None,
    ) -> SimilarityMapDisplay:
        """Compare one image to prototypes and draw the maps.

        Parameters
        ----------
        {estimator}
        {X}
        sample : int, default=0
            Position in `X` of the image.
        prototypes : array-like of int, default=None
            Numbers of the prototypes to draw; with None those that contribute most to the
            predicted class.
        top_k : int, default=3
            How many, with None.
        {localizer}
        {image_name}
        {ax}

        Returns
        -------
        display : SimilarityMapDisplay
            The display, drawn.

        Raises
        ------
        {no_matplotlib}
        {estimator_errors}
        ValueError
            If `sample` is no position in `X`, `top_k` is not positive, or a prototype or the
            localizer is unknown.
        """
        pyplot_module()
        check_positive("top_k", top_k)
        classifier, fitted, source, names, *_ = classifier_image(estimator, X, sample)
        one = only_image(X, sample)
        if prototypes is None:
            prototypes = explain(estimator, one, top_k=top_k)["prototype"].to_numpy()
        found = localize(estimator, one, prototypes=prototypes, localizer=localizer)
        evidence = fitted.evidence(source)
        others = evidence.patch_positions[:, found.prototypes, 1:]  # (1, n_prototypes, n_others)
        return cls(
            image=source.images.read(source.rows)[0],
            maps=fitted.similarity_maps(source)[0, found.prototypes],
            prototypes=found.prototypes,
            prototype_classes=classifier.prototype_classes_[found.prototypes],
            boxes=found.boxes[0],
            prototype_size=classifier.prototypes_.shape[2:],
            image_name=f"image {names[0]}" if image_name is None else image_name,
            image_size=source.sizes[0],
            prototype_names=classifier.prototype_names_[found.prototypes],
            similarities=evidence.similarities[0, found.prototypes],
            other_boxes=fitted.receptive_fields(source, others).boxes[0],
        ).plot(ax=ax)

    def _size(self) -> tuple[float, float]:
        return max(0.4 + STEP * (len(self.maps) + 1) + 0.8, 7.4), 1.1 + SIDE + 1.2

    def _draw_canvas(self, canvas: Canvas) -> None:
        name = "image" if self.image_name is None else self.image_name
        canvas.text(0.2, 0.4, f"Where {name} is similar to prototypes", 15, weight="bold")
        self.image_ax_ = canvas.image(0.2, 1.0, SIDE, self.image, self.image_size)
        canvas.text(0.2, 0.95, name, 10)
        self.maps_: list[Any] = []
        self.axes_ = np.empty(len(self.maps), dtype=object)
        for i in range(len(self.maps)):
            self.axes_[i] = self._draw_map(canvas, 0.2 + STEP * (i + 1), 1.0, i)
        scale = canvas.axes(0.3 + STEP * (len(self.maps) + 1), 1.0, 0.12, SIDE)
        self.colorbar_ = self.figure_.colorbar(self.maps_[-1], cax=scale)
        self.colorbar_.set_label("similarity", size=10 * canvas.scale)
        self.colorbar_.ax.tick_params(labelsize=9 * canvas.scale)
        canvas.text(0.2, 1.0 + SIDE + 0.2, LEGEND, 10, va="top")

    def _draw_map(self, canvas: Canvas, x: float, y: float, i: int) -> Axes:
        """Draw one prototype's map below and to the right of (x, y)."""
        grey = picture_of(self.image)
        grey = grey if grey.ndim == 2 else grey[..., :3].mean(2)  # (H, W)
        axes = canvas.image(x, y, SIDE, np.repeat(grey[..., None], 3, axis=2), self.image_size)
        limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
        self.maps_.append(
            axes.imshow(
                self.maps[i],
                cmap="viridis",
                vmin=self.maps.min(),
                vmax=self.maps.max(),
                alpha=OPACITY,
                extent=self._extent(),
                interpolation="nearest",
            )
        )
        axes.set(**limits)
        for box in () if self.other_boxes is None else self.other_boxes[i]:
            canvas.box(axes, box, colour_of(0), 1.0)
        canvas.box(axes, self.boxes[i], colour_of(0))
        likeness = self.maps[i].max() if self.similarities is None else self.similarities[i]
        title = f"prototype {self.prototypes[i]}, class {self.prototype_classes[i]}: "
        title += format_number(likeness)
        canvas.text(x, y - 0.05, title, 10)
        if self.prototype_names is not None:
            canvas.text(x, y + SIDE + 0.2, shortened(self.prototype_names[i], 28), 10)
        return axes

    def _extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of a map in pixels: each square is a patch's middle."""
        size = self.image.shape[:2] if self.image_size is None else self.image_size
        edges = []
        for pixels, places, length in zip(
            size, self.maps.shape[1:], self.prototype_size, strict=True
        ):
            cell, border = pixels / (places + length - 1), (length - 1) / 2
            edges.append((border * cell - 0.5, (border + places) * cell - 0.5))
        (top, bottom), (left, right) = edges
        return left, right, bottom, top
