"""A column of the report, as a record.

Shapes: P prototypes, Q of them that are localized in an image, I interventions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from sklearn_protopnet.metrics._report._context import Measure, ReportContext

Better = Literal["larger", "smaller"] | None
"""This direction is better; with None neither is, or what it is compared with decides."""

ARGUMENTS: Final = ("part_centres", "masks", "interventions")
"""A column may need these arguments of the report; whatever else it needs is a group."""


@dataclass(frozen=True)
class Column:
    """A column and all that the rest needs to know of it."""

    name: str
    """Of columns that there are for each intervention, with ``<name>`` in the place of its name."""
    description: str
    """Says for the documentation what it is, in sentences."""
    compute: Callable[[ReportContext], ArrayLike] | None = None
    """Gives a value for each prototype, (P,); for each intervention and prototype, (I, P), where
    there are columns for each intervention. With None, the mean of `measure`."""
    measure: Measure | None = None
    """Gives a value for each prototype in one image, (Q,), while patches are localized there."""
    needs: tuple[str, ...] = ()
    """`ARGUMENTS` that must be given, and groups that must be asked for: any other name is one."""
    metric: Callable[..., Any] | None = None
    """The function of this package that says more, if there is one."""
    better: Better = None
    unit: str | None = None
    """Goes into the units of the table; None where there is none, as of shares and counts."""
    cost: str | None = None
    """Passes of the network for each image and prototype, for the documentation."""
    summary: str | None = None
    """The mean over prototypes is called by this in the summary; with None it is not there."""
    is_of_each_intervention: bool = False

    def values(self, context: ReportContext) -> dict[str, ArrayLike]:
        """Compute values (P,) of the column, or of those of all interventions, by their names."""
        if self.compute is None:
            return {self.name: context.mean_measure(self.name)}
        found = self.compute(context)
        if not self.is_of_each_intervention:
            return {self.name: found}
        names = (self.name.replace("<name>", each) for each in context.changed.names)
        return dict(zip(names, np.asarray(found), strict=True))

    def documentation(self) -> str:
        """Define the column in reStructuredText: what it is, and what it needs."""
        groups = [f'Group ``"{need}"``.' for need in self.needs if need not in ARGUMENTS]
        arguments = [f"With `{need}`." for need in self.needs if need in ARGUMENTS]
        said = [*groups, *arguments, self.description]
        if self.metric is not None:
            said.append(f"See `{self.metric.__name__}`.")
        if self.better is not None:
            said.append(f"{self.better.capitalize()} is better.")
        if self.cost is not None:
            said.append(f"Costs {self.cost}.")
        text = textwrap.indent(textwrap.fill(" ".join(said), 88), "    ")
        return f"``{self.name}``\n{text}"
