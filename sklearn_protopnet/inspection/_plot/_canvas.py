"""What the displays draw with: axes measured in inches, images and boxes in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet.inspection._pictures import colour_of, picture_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAINT: Final = "#555555"
"""Texts that explain have this colour."""

BOX: Final = ["y0", "y1", "x0", "x1"]
SOURCE_BOX: Final = [f"source_{edge}" for edge in BOX]
"""Columns of a table hold a box in the image, and one in the training image."""


class Canvas:
    """An axes measured in inches from its upper left corner, at the size meant for it.

    In a smaller or larger axes everything shrinks or grows, fonts and lines included.
    """

    def __init__(self, width: float, height: float, ax: Any) -> None:
        self.width, self.height = width, height
        self.ax = ax
        self.ax.set_axis_off()
        extent, dpi = self.ax.get_window_extent(), self.ax.figure.dpi
        self.scale = min(extent.width / width, extent.height / height) / dpi

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Turn inches into fractions of the axes."""
        return x / self.width, 1 - y / self.height

    def text(self, x: float, y: float, text: str, size: float, **options: Any) -> Any:
        """Write text, by default with its last line on y; no Unicode becomes a question mark."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        # Names are the user's: a dollar sign in one is no mathematics.
        options = {"va": "bottom", "linespacing": 1.25, "parse_math": False, **options}
        place = self.at(x, y)
        return self.ax.text(
            *place, text, fontsize=size * self.scale, transform=self.ax.transAxes, **options
        )

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Make axes with the upper left corner (x, y)."""
        left, bottom = self.at(x, y + height)
        inset: Axes = self.ax.inset_axes((left, bottom, width / self.width, height / self.height))
        return inset

    def image(
        self,
        x: float,
        y: float,
        side: float,
        image: NDArray[Any],
        size: Sequence[int] | None = None,
    ) -> Axes:
        """Draw an image, as large as fits into a square, in pixels of the size that it had."""
        axes = self.axes(x, y, side, side)
        rows, columns = image.shape[:2] if size is None else size
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        axes.imshow(picture_of(image), cmap="gray", vmin=0, vmax=1, extent=extent)
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

    def no_image(self, x: float, y: float, side: float, size: float) -> Axes:
        """Say that there is no training image, where it would be drawn."""
        axes = self.image(x, y, side, np.full((1, 1, 1), 235, np.uint8))
        text = "no training\nimage"
        axes.text(0, 0, text, ha="center", va="center", fontsize=size * self.scale)
        return axes

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
                "facecolor": colour_of(i),
                "edgecolor": "black",
                "linewidth": self.scale,
            },
        )
