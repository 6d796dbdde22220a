"""Who watches a training: it is a tree of tasks, rounds of stages of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from sklearn_protopnet._training._history import HistoryRow

Result_contra = TypeVar("Result_contra", contravariant=True)
Result = TypeVar("Result")


class Observer(Protocol[Result_contra]):
    """Is told of every task when it begins and when it ends."""

    def begin(self, name: str, number: int, n_subtasks: int) -> None:
        """Take note of a task.

        Parameters
        ----------
        name : str
            ``"round"``, ``"epoch"``, or what the stage is called.
        number : int
            Its place among the tasks of its parent, from 0.
        n_subtasks : int
            So many tasks it may have.
        """

    def end(self, row: HistoryRow | None, conclude: Callable[[], Result_contra]) -> bool:
        """Take note of the end of the task that began last and has not ended.

        Parameters
        ----------
        row : HistoryRow or None
            What it did, if that is a row of the history.
        conclude : callable
            Gives what the training would leave if it ended here; it goes on unchanged. Takes as
            long as a projection and the similarities for a last layer.

        Returns
        -------
        bool
            Whether to leave out what else would come in the parent task: epochs of the stage,
            stages of gradient descent of the round, rounds.
        """

    def skip(self, n_epochs: int) -> None:
        """Take note that the result was kept, and so many epochs are not run."""


class Observers(Generic[Result]):
    """Tells several."""

    def __init__(self, observers: Sequence[Observer[Result]]) -> None:
        self._observers = observers

    def begin(self, name: str, number: int, n_subtasks: int) -> None:
        """Tell all."""
        for each in self._observers:
            each.begin(name, number, n_subtasks)

    def end(self, row: HistoryRow | None, conclude: Callable[[], Result]) -> bool:
        """Tell all, and stop if one wants to."""
        wishes = [each.end(row, conclude) for each in self._observers]
        return any(wishes)

    def skip(self, n_epochs: int) -> None:
        """Tell all."""
        for each in self._observers:
            each.skip(n_epochs)
