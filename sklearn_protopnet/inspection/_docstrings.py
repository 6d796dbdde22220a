"""Descriptions of parameters and errors that many public functions have, written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import cleandoc
from textwrap import indent
from typing import Any, Final, TypeVar

Documented = TypeVar("Documented", bound=Callable[..., Any])

_DESCRIPTIONS: Final = {
    "{estimator}": """
        estimator : ProtoPNetClassifier, Pipeline or search over parameters
            Fitted.""",
    "{estimator_or_ensemble}": """
        estimator : ProtoPNetClassifier, ProtoPNetEnsemble, Pipeline or search over parameters
            Fitted.""",
    "{X}": """
        X : array-like, frame, CPU tensor, list of images or paths of images
            What the estimator's ``predict`` takes. Pictures and boxes are of the images that
            reach the classifier.""",
    "{localizer}": """
        localizer : str, default="receptive_field"
            How boxes are found, as for `ProtoPNetClassifier.explain`.""",
    "{image_name}": """
        image_name : str, default=None
            What to call the image; with None ``"image <sample>"``, for a frame by its index.""",
    "{ax}": """
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure with None.""",
    "{canvas_attributes}": """
        figure_ : matplotlib Figure
            The figure that was drawn on.
        bounding_ax_ : matplotlib Axes
            The axes that hold everything else.""",
    "{no_matplotlib}": """
        ImportError
            If matplotlib is not installed (``pip install sklearn-protopnet[plot]``).""",
    "{estimator_errors}": """
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If there is no ProtoPNetClassifier at its end, or an ensemble where one is wanted.""",
    "{explain_options}": """
        classes : {"predicted", "all"} or array-like of labels, default="predicted"
            As for `ProtoPNetClassifier.explain`.
        n_top_classes : int, default=None
            As for `ProtoPNetClassifier.explain`.
        top_k : int, default=None
            As for `ProtoPNetClassifier.explain`.
        localizer : str, default="receptive_field"
            As for `ProtoPNetClassifier.explain`.
        details : "all" or iterable of str, default=()
            As for `ProtoPNetClassifier.explain`.""",
}
"""A line of a docstring that is one of these keys stands for the text beside it."""


def fill_docstring(documented: Documented, descriptions: Mapping[str, str]) -> Documented:
    """Write texts into the docstring of a function or a class, each where its key is a line."""
    lines = cleandoc(documented.__doc__ or "").splitlines()
    documented.__doc__ = "\n".join(_filled(line, descriptions) for line in lines) + "\n"
    return documented


def with_shared_descriptions(documented: Documented) -> Documented:
    """Write out the shared descriptions that the docstring of a function or a class names."""
    return fill_docstring(documented, _DESCRIPTIONS)


def _filled(line: str, descriptions: Mapping[str, str]) -> str:
    """Give the text that a line stands for, indented as the line is; or the line."""
    key = line.lstrip()
    return (
        indent(cleandoc(descriptions[key]), line.removesuffix(key)) if key in descriptions else line
    )
