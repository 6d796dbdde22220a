"""The path of last layers as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_protopnet.inspection._docstrings import with_shared_descriptions
from sklearn_protopnet.inspection._last_layer_path import last_layer_path
from sklearn_protopnet.inspection._pipelines import find_classifier
from sklearn_protopnet.inspection._plot._display import Display, pyplot_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VALIDATION, SHARE = "#0072B2", "#D55E00", "#BBBBBB"
"""Scores have colours of Okabe and Ito, which the colour-blind tell apart, and the share a grey."""


@with_shared_descriptions
class LastLayerPathDisplay(Display):
    """Score and sparsity of the last layer against `l1_weight`.

    Create it with `from_estimator`.

    Parameters
    ----------
    path : DataFrame
        What `last_layer_path` returned.
    l1_weight : float, default=None
        A penalty to mark: the classifier's.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure that was drawn on.
    ax_ : matplotlib Axes
        The scores.
    share_ax_ : matplotlib Axes
        The share of weights between a class and other classes' prototypes that are not zero.
    lines_ : list of matplotlib Line2D
        Training score, and validation score if there is one.

    See Also
    --------
    last_layer_path : The path as a table.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.inspection import LastLayerPathDisplay
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> display = LastLayerPathDisplay.from_estimator(clf, X[:100], y[:100], n_l1_weights=5)
    >>> len(display.path)
    5
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, path: pd.DataFrame, l1_weight: float | None = None) -> None:
        self.path = path
        self.l1_weight = l1_weight

    @classmethod
    @with_shared_descriptions
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        l1_weights: ArrayLike | None = None,
        n_l1_weights: int = 30,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> LastLayerPathDisplay:
        """Compute the path and draw it, with the classifier's own penalty marked.

        Parameters
        ----------
        {estimator}
        X : array-like, frame, CPU tensor, list of images or paths of images
            Training images, as the estimator's ``predict`` takes them.
        y : array-like of shape (n,)
            Their labels.
        l1_weights : array-like of shape (q,), default=None
            Penalties; automatic ones with None.
        n_l1_weights : int, default=30
            Number of automatic penalties.
        sample_weight : array-like of shape (n,), default=None
            Weights of the training images.
        X_val, y_val : as X and y, default=None
            Images to score.
        {ax}

        Returns
        -------
        display : LastLayerPathDisplay
            The display, drawn.

        Raises
        ------
        {no_matplotlib}
        {estimator_errors}
        ValueError
            If images, labels or penalties are not valid.
        """
        pyplot_module()
        path = last_layer_path(
            estimator,
            X,
            y,
            l1_weights=l1_weights,
            n_l1_weights=n_l1_weights,
            sample_weight=sample_weight,
            X_val=X_val,
            y_val=y_val,
        )
        return cls(path=path, l1_weight=find_classifier(estimator).l1_weight_).plot(ax=ax)

    def _new_axes(self) -> Axes:
        ax: Axes
        _, ax = pyplot_module().subplots(figsize=(6.4, 4.0), layout="constrained")
        return ax

    def _draw(self, ax: Axes) -> None:
        self.ax_ = ax
        self.share_ax_ = ax.twinx()
        penalties = self.path["l1_weight"]
        share = self.path["off_class_share"]
        self.share_ax_.fill_between(penalties, share, color=SHARE, alpha=0.5, linewidth=0)
        self.share_ax_.set(ylim=(0, 1), ylabel="share of off-class weights that are not zero")
        self.share_ax_.yaxis.label.set_color("#555555")
        scores = {"train_score": TRAIN, "validation_score": VALIDATION}
        self.lines_ = [
            ax.plot(penalties, self.path[name], color=colour, label=name.replace("_", " "))[0]
            for name, colour in scores.items()
            if self.path[name].notna().any()
        ]
        if self.l1_weight is not None:
            label = f"l1_weight {self.l1_weight:.2g}"
            ax.axvline(self.l1_weight, color="black", linestyle=":", linewidth=1, label=label)
        shown = penalties[np.isfinite(penalties)]
        if (shown > 0).any():  # 0 has its place below the smallest other penalty
            ax.set_xscale("symlog", linthresh=shown[shown > 0].min())
        if shown.max() > shown.min():
            ax.set_xlim(shown.max(), shown.min())  # from no weight to all
        ax.set(xlabel="l1_weight", ylabel="accuracy")
        ax.set_zorder(self.share_ax_.get_zorder() + 1)
        ax.patch.set_visible(False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
