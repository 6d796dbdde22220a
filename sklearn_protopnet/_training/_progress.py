"""A progress bar over the epochs of a training."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

from sklearn_protopnet._training._history import HistoryRow


class ProgressBar:
    """Shows the stage, the loss and the accuracies after every row of the history.

    Parameters
    ----------
    n_epochs : int
    visible : bool
    """

    def __init__(self, n_epochs: int, *, visible: bool) -> None:
        self._bar = tqdm(total=n_epochs, unit="epoch", disable=not visible)
        self._epoch = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def show(self, row: HistoryRow) -> None:
        """Take in a row of the history."""
        figures = {
            "loss": row.loss,
            "accuracy": row.accuracy,
            "validation": row.validation_accuracy,
        }
        self._bar.set_description(row.stage, refresh=False)
        known = {k: f"{v:.3f}" for k, v in figures.items() if not math.isnan(v)}
        self._bar.set_postfix(known, refresh=False)
        self._bar.update(row.epoch - self._epoch)
        self._bar.refresh()
        self._epoch = row.epoch
