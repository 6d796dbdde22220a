"""What the log of an editor says of an edit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EditRow:
    """One edit: what was done to which prototypes, and what it cost on the editor's images."""

    action: str
    """The method of the editor."""
    prototypes: list[int]
    """Their numbers."""
    detail: str
    """What else was asked for, in words."""
    objective_before: float
    objective: float
    """Of the last layer."""
    gap_before: float
    gap: float
    """Certified bound on the objective minus its minimum under the constraints."""
    train_score_before: float
    train_score: float
    """Accuracy on the images that the last layer is solved for."""
    train_score_known: float
    """Accuracy, afterwards, on those images that were there before."""
    validation_score_before: float
    validation_score: float
    """NaN without validation images."""
    n_weights_before: int
    n_weights: int
    """Weights that are not zero."""
    n_prototypes_in_use_before: int
    n_prototypes_in_use: int
    """Prototypes with a weight that is not zero."""
    n_changed: int
    """Images, of those that the last layer is solved for, that are predicted otherwise."""
