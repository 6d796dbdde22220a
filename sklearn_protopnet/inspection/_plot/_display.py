"""What all displays share: how they are drawn, and in which axes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from sklearn_protopnet.inspection._plot._canvas import Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Display(ABC):
    """A picture: ``from_estimator`` computes what is in it, and `plot` draws it."""

    figure_: Any
    """The figure that was drawn on."""

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; a new figure with None.

        Returns
        -------
        self : display
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install sklearn-protopnet[plot]``).
        """
        ax = self._new_axes() if ax is None else ax
        self.figure_ = ax.figure
        self._draw(ax)
        return self

    @abstractmethod
    def _new_axes(self) -> Axes:
        """Make a figure, and axes to draw in."""

    @abstractmethod
    def _draw(self, ax: Axes) -> None:
        """Draw in axes."""


class CanvasDisplay(Display):
    """A picture that is laid out in inches; its axes fill the figure."""

    bounding_ax_: Any
    """The axes that hold everything else."""

    def _new_axes(self) -> Axes:
        ax: Axes = pyplot_module().figure(figsize=self._size()).add_axes((0, 0, 1, 1))
        return ax

    def _draw(self, ax: Axes) -> None:
        self.bounding_ax_ = ax
        self._draw_canvas(Canvas(*self._size(), ax))

    @abstractmethod
    def _size(self) -> tuple[float, float]:
        """Width and height in inches."""

    @abstractmethod
    def _draw_canvas(self, canvas: Canvas) -> None:
        """Draw on a canvas of that size."""


def pyplot_module() -> Any:
    """Import what makes figures, which is not installed with the package.

    Raises
    ------
    ImportError
        If it is not there.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install sklearn-protopnet[plot]"
        ) from error
    return pyplot
