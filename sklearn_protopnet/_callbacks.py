"""scikit-learn's callbacks, told of a training: fit > round > stage > epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.callback import CallbackContext

from sklearn_protopnet._training import HistoryRow, TrainedNetwork


class CallbackTasks:
    """Observes a training for the callbacks of an estimator.

    Parameters
    ----------
    estimator : ProtoPNetClassifier
    fit : CallbackContext
        Of the whole fit, which has begun.
    data : dict
        ``X``, ``y`` and ``metadata``, as callbacks may ask for them.
    attributes : callable
        Gives the fitted attributes that a network leads to. Nobody calls it, nor concludes a
        training, unless a callback asks for the fitted estimator.
    """

    def __init__(
        self,
        estimator: Any,
        fit: CallbackContext,
        data: dict[str, Any],
        attributes: Callable[[TrainedNetwork], dict[str, Any]],
    ) -> None:
        self._estimator, self._data, self._attributes = estimator, data, attributes
        self._contexts = [fit]

    def begin(self, name: str, number: int, n_subtasks: int) -> None:
        """Tell of a task that begins."""
        context = self._contexts[-1].subcontext(
            task_name=name, task_id=number, max_subtasks=n_subtasks, sequential_subtasks=False
        )
        self._contexts.append(context)
        context.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self, _: HistoryRow | None, conclude: Callable[[], TrainedNetwork]) -> bool:
        """Tell of a task that ends; whether a callback wants its siblings to be left out."""
        wants_end: bool = self._contexts.pop().call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=lambda: self._attributes(conclude()),
            **self._data,
        )
        return wants_end

    def skip(self, _: int) -> None:
        """Tell nothing: a cached network comes without tasks."""
