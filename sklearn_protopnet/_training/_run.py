"""The order of a training: rounds of stages of epochs, watched, kept on disk, interrupted.

It is the same whether a training runs from its start, goes on from a checkpoint, or is asked what
it would leave if it ended here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from sklearn_protopnet._training._checkpoint import Checkpoint
from sklearn_protopnet._training._history import HistoryRow
from sklearn_protopnet._training._interruption import Interruption
from sklearn_protopnet._training._observer import Observer
from sklearn_protopnet._training._optimization import WeightAverage
from sklearn_protopnet._training._stages import (
    GradientStage,
    InitializationStage,
    LastLayerStage,
    ProjectionStage,
    Stage,
)
from sklearn_protopnet._training._trainer import Trainer, Training
from sklearn_protopnet._training._training_state import restore, state_of


@dataclass(frozen=True)
class Position:
    """The next thing to do."""

    round: int = 0
    stage: int = 0
    """Of the round."""
    epoch: int = 0
    """Of the stage."""
    is_descent_over: bool = False
    """Whether an observer wants no further gradient stage in the round."""


class TrainingRun:
    """Runs the stages of a trainer's settings.

    Parameters
    ----------
    trainer : Trainer
    observer : Observer
    checkpoint : Checkpoint
        Where the training goes on from, if there is something, and is kept meanwhile.
    """

    def __init__(
        self, trainer: Trainer, observer: Observer[Training], checkpoint: Checkpoint
    ) -> None:
        self.trainer, self.observer, self.checkpoint = trainer, observer, checkpoint
        self.rounds = trainer.settings.rounds()
        self.at = Position()
        self.average: WeightAverage | None = None
        self.is_epoch_open = False
        self.interrupted_in: tuple[str, int] | None = None
        """The gradient stage, and the number of the epoch, in which Ctrl-C came."""
        self.is_cut_short = False
        """Whether something was left out that the settings ask for."""

    def run(self) -> Training:
        """Run every stage but the last one, which solves for the last layer."""
        kept = self.trainer.ranks.from_first(self.checkpoint.read)
        if kept is not None:
            self._load(kept)
        for number in range(self.at.round, len(self.rounds)):
            stages = self.rounds[number]
            self.observer.begin("round", number, len(stages))
            training = self._run_round(stages)
            is_last = number + 1 == len(self.rounds)
            wants_end = self._end(None, training)
            if is_last or self.trainer.best.is_stale or self.interrupted_in:
                break
            if wants_end:
                self.is_cut_short = True
                break
            self.trainer.solve_last_layer(training.last_layer)
            self.at = Position(number + 1)
            self._keep()
        return training

    def _run_round(self, stages: Sequence[Stage]) -> Training:
        for number in range(self.at.stage, len(stages)):
            stage = stages[number]
            if isinstance(stage, GradientStage) and (
                self.at.is_descent_over or self.interrupted_in
            ):
                self.is_cut_short = True
                continue
            self.observer.begin(stage.name, number, getattr(stage, "epochs", 0))
            row = training = None
            if isinstance(stage, GradientStage):
                self._descend(stage)
            else:
                row, training = _settle(self.trainer, stage)
            self.at = replace(self.at, stage=number + 1, epoch=0)
            wants_end = self._end(row, training)
            if training is not None:
                return training
            self.at = replace(self.at, is_descent_over=self.at.is_descent_over or wants_end)
            self._keep()
        raise AssertionError("A round ends with a last layer.")

    def _descend(self, stage: GradientStage) -> None:
        """Run a stage's epochs until the validation score is stale; then take the best state."""
        best = self.trainer.best_of(stage)
        average = self.average or self.trainer.parts.average(stage)
        self.average = average
        with Interruption() as interruption:
            try:
                while self.at.epoch < stage.epochs and not best.is_stale:
                    self._run_epoch(stage, average, interruption)
            except (KeyboardInterrupt, Exception) as error:
                # What comes after an interrupt comes of it: it may have ended other processes.
                is_interrupt = isinstance(error, KeyboardInterrupt) or interruption.has_come
                if interruption.is_repeated or not is_interrupt:
                    raise
                self.interrupted_in, self.is_cut_short = (stage.name, self.trainer.epoch), True
                self.trainer.epoch = len(self.trainer.loss_curve)
        average.put()
        self.average = None
        if stage.is_last:
            self.trainer.parts.forget_optimizer(stage)
        if self.is_epoch_open:
            self.is_epoch_open = False
            self._end(None)
        if best.is_stale or stage.is_last or self.interrupted_in:
            best.restore()

    def _run_epoch(
        self, stage: GradientStage, average: WeightAverage, interruption: Interruption
    ) -> None:
        """Run the next epoch of a stage, and no further one if an observer does not want it.

        Raises
        ------
        KeyboardInterrupt
            If there was an interrupt, in any process.
        """
        self.is_epoch_open = True
        self.observer.begin("epoch", self.at.epoch, 0)
        score = partial(self._score, stage)
        row = self.trainer.descend(stage, average, lambda: interruption.has_come, score)
        self.at = replace(self.at, epoch=self.at.epoch + 1)
        self.is_epoch_open = False
        with average.in_place():
            wants_end = self._end(row)
        if wants_end:
            self.is_cut_short |= self.at.epoch < stage.epochs
            self.at = replace(self.at, epoch=stage.epochs)
        self._keep()
        if self.trainer.ranks.any(interruption.has_come):
            raise KeyboardInterrupt

    def _score(self, stage: GradientStage) -> float:
        """Accuracy on the validation images: where it may end a stage, of what users would get."""
        settings = self.trainer.settings
        if settings.patience is None or stage.is_pretraining or not stage.may_stop_early:
            return self.trainer.validate(stage)
        task = self._conclude(self.trainer.copy()).last_layer
        _, row = task.solve(settings.l1_weight, settings.l2_weight)
        return row.validation_accuracy

    def _best_copy(self) -> Trainer:
        """Copy the trainer, with the state that it would go back to if its stage ended here."""
        trainer, stage = self.trainer.copy(), self.rounds[self.at.round][self.at.stage]
        if isinstance(stage, GradientStage) and stage.is_last:
            trainer.best_of(stage).load(self.trainer.best_of(stage).state())
            trainer.best_of(stage).restore()
        return trainer

    def _conclude(self, trainer: Trainer) -> Training:
        """Say what the training would leave if no further epoch came."""
        with torch.random.fork_rng(devices=[]):
            for stage in self.rounds[self.at.round][self.at.stage :]:
                if not isinstance(stage, GradientStage):
                    _, training = _settle(trainer, stage)
                    if training is not None:
                        return training
        raise AssertionError("A round ends with a last layer.")

    def _end(self, row: HistoryRow | None, training: Training | None = None) -> bool:
        """Tell that a task has ended; whether an observer of any process wants its siblings out."""
        wish = self.observer.end(row, lambda: training or self._conclude(self._best_copy()))
        return self.trainer.ranks.any(wish)

    def _keep(self) -> None:
        """Keep the state, if it is time to, and nothing was left out of it."""
        is_writer = self.trainer.ranks.is_first
        if is_writer and self.checkpoint.is_due and not self.interrupted_in:
            self.checkpoint.write(
                {
                    "trainer": state_of(self.trainer),
                    "at": vars(self.at),
                    "average": self.average and self.average.state(),
                    "is_cut_short": self.is_cut_short,
                }
            )

    def _load(self, state: dict[str, Any]) -> None:
        """Go on where a run of the same task was."""
        self.at, self.is_cut_short = Position(**state["at"]), state["is_cut_short"]
        if self.is_cut_short:
            self.checkpoint.problems["cut"] = (
                "The training that was interrupted went on without the epochs that a callback had "
                f"left out of it. To train anew, delete its files in {self.checkpoint.folder!r}."
            )
        restore(self.trainer, state["trainer"])
        if state["average"]:
            stage: Any = self.rounds[self.at.round][self.at.stage]
            self.average = self.trainer.parts.average(stage)
            self.average.load(state["average"])


def _settle(
    trainer: Trainer, stage: InitializationStage | ProjectionStage | LastLayerStage
) -> tuple[HistoryRow | None, Training | None]:
    """Run a stage without epochs: the row that it has, and what the last one of a round leaves."""
    if isinstance(stage, ProjectionStage):
        return trainer.project(stage), None
    if isinstance(stage, LastLayerStage):
        return None, trainer.measure(stage)
    trainer.initialize(stage)
    return None, None
