"""What the displays draw with: a canvas in inches, colours, and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00")
"""Okabe and Ito's colours that the colour-blind tell apart; those on which black is legible."""

MINUS: Final = "\N{MINUS SIGN}"

FAINT: Final = "#555555"
BOX: Final = ["y0", "y1", "x0", "x1"]
SOURCE_BOX: Final = [f"source_{edge}" for edge in BOX]


class Canvas:
    """An axes measured in inches from its upper left corner, at the size meant for it.

    In a smaller or larger axes everything shrinks or grows, fonts and lines included.
    """

    def __init__(self, width: float, height: float, ax: Axes | None) -> None:
        self.width, self.height = width, height
        if ax is None:
            figure = pyplot_module().figure(figsize=(width, height))
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


def pyplot_module() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install sklearn-protopnet[plot]"
        ) from error
    return pyplot


def picture_of(image: NDArray[Any]) -> NDArray[np.float64]:
    """Bring an image (H, W, C) to what imshow draws: RGB, RGBA or grey, in [0, 1]."""
    picture: NDArray[np.float64] = image.astype(np.float64)
    if image.shape[2] not in {3, 4}:
        picture = picture.mean(2)  # (H, W)
    if image.dtype == np.uint8 and image.max() > 1:
        return picture / 255
    low, high = float(picture.min()), float(picture.max())
    return (picture - low) / (high - low if high > low else 1.0)


def is_whole_image(box: Any, size: Sequence[int]) -> bool:
    y0, y1, x0, x1 = box
    return (y1 - y0, x1 - x0) == tuple(size)


def colour_of(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def format_number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    rounded = round(float(value), digits) + 0.0  # no minus zero
    text = f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"
    return text.replace("-", MINUS)


def format_percent(probability: float) -> str:
    """Write a probability; never 0 or 100 % unless it is."""
    if 0 < probability < 0.0005:
        return "below 0.1 %"
    if 0.9995 <= probability < 1:
        return "over 99.9 %"
    return f"{100 * probability:.1f} %"
