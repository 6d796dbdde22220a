"""Progress bars that cannot end or hold up what they show."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from tqdm.auto import tqdm

from sklearn_protopnet._training._history import HistoryRow


class _Stream:
    """A text stream of which no error comes through.

    tqdm holds a lock of the whole process while it writes, and keeps it when writing fails: all
    later bars of other threads would wait for ever.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ProgressBar:
    """Shows how many units of work are done, on the standard error stream if there is one.

    Parameters
    ----------
    total : int
    unit : str
    visible : bool
    """

    def __init__(self, total: int, unit: str, *, visible: bool) -> None:
        self._bar: tqdm[Any] | None = None
        if visible and sys.stderr is not None:
            with contextlib.suppress(Exception):  # in notebooks, widgets may fail too
                self._bar = tqdm(
                    total=total, unit=unit, file=_Stream(sys.stderr), dynamic_ncols=True
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(Exception):
                self._bar.close()

    def update(self, n: int = 1, description: str | None = None, **figures: float) -> None:
        """Count units that are done, and show figures beside them but for those that are NaN."""
        if self._bar is None:
            return
        with contextlib.suppress(Exception):
            self._bar.set_description(description, refresh=False)
            known = {k: f"{v:.3f}" for k, v in figures.items() if not math.isnan(v)}
            self._bar.set_postfix(known, refresh=False)
            self._bar.update(n)
            self._bar.refresh()


class TrainingProgress(ProgressBar):
    """Shows the stage, the epoch, the parts of the loss and the accuracies of a training.

    Parameters
    ----------
    n_epochs : int
    visible : bool
    """

    FIGURES: Final = ("loss", "cross_entropy", "cluster", "separation", "linear_head", "accuracy")
    """What is shown of a row of the history, beside the validation accuracy."""

    def __init__(self, n_epochs: int, *, visible: bool) -> None:
        super().__init__(n_epochs, "epoch", visible=visible)
        self._epoch = 0

    def begin(self, name: str, number: int, n_subtasks: int) -> None:
        """Nothing is shown of what has only begun."""

    def end(self, row: HistoryRow | None, _: Callable[[], object]) -> bool:
        """Take in what a task did; go on."""
        if row is not None:
            figures = {name: getattr(row, name) for name in self.FIGURES}
            self.update(
                row.epoch - self._epoch, row.stage, **figures, validation=row.validation_accuracy
            )
            self._epoch = row.epoch
        return False

    def skip(self, n_epochs: int) -> None:
        """Say that a network was there already."""
        self.update(n_epochs - self._epoch, "from memory, epochs skipped")
        self._epoch = n_epochs
