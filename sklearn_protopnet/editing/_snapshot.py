"""A classifier between two edits, and how the next one is made of it.

Shapes: n images, P prototypes, K classes.
"""

from __future__ import annotations

import warnings
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklearn_protopnet._compat import CALLBACKS
from sklearn_protopnet._edits import EditRow
from sklearn_protopnet._fitted import (
    FittedClassifier,
    FittedNetwork,
    fitted_network,
    share_network,
)
from sklearn_protopnet._last_layer import Constraints, Hessian, Point, Problem, solve_near
from sklearn_protopnet._last_layer._function import not_converged
from sklearn_protopnet._network import copied
from sklearn_protopnet._validation import class_indices
from sklearn_protopnet.editing._comparison import Comparison
from sklearn_protopnet.inspection._details import prototypes_digest

SHARED: Final = ("backbone", "memory", *CALLBACKS)
"""Attributes of a classifier that fits leave as they are, and that copies share."""


@dataclass(frozen=True)
class Edit:
    """What is done to a classifier."""

    action: str
    """The editor's method."""
    prototypes: NDArray[np.int64]
    """(q,) numbers of those that it is done to."""
    detail: str = ""
    """What else was asked for, in words."""
    constraints: Constraints | None = None
    """Of the last layer from now on; with None as before."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Fitted attributes that become others, but for those of the last layer."""
    coef_init: NDArray[np.float64] | None = None
    """(K, P) where the solver starts; with None at the weights that there are."""
    is_solved: bool = True
    """Whether the last layer is solved for; otherwise it has the weights that the solver would
    start from."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A classifier after some edits, which never changes."""

    classifier: FittedClassifier
    training: Comparison
    """What the last layer is solved for."""
    validation: Comparison | None
    known_hessian: Hessian | None = None
    """At weights that are near."""

    @cached_property
    def fitted(self) -> FittedNetwork:
        """Its network."""
        return fitted_network(self.classifier)

    @cached_property
    def coef(self) -> NDArray[np.float64]:
        """Weights of the last layer, (K, P)."""
        return self.classifier.coef_.copy()

    @cached_property
    def constraints(self) -> Constraints:
        """What has been asked of the last layer."""
        return Constraints(**self.classifier.state_["constraints"])

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """Class index of each prototype, (P,)."""
        return class_indices(self.classifier.prototype_classes_, self.classifier.classes_)

    @cached_property
    def problem(self) -> Problem:
        """What the last layer minimises."""
        clf = self.classifier
        return self.training.weighted(clf.class_weight, clf.classes_).problem(
            self.owners,
            len(clf.classes_),
            l1_weight=clf.l1_weight_,
            l2_weight=clf.l2_weight_,
            constraints=self.constraints,
        )

    @cached_property
    def point(self) -> Point:
        """The weights that there are, with what the images make of them."""
        return self.problem.point(self.coef)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Class indices of the images that the last layer is solved for, (n,)."""
        return self.training.predicted(self.coef)

    def digests(self) -> set[str]:
        """Digest the prototypes, also those of before some of them were added."""
        record, counts = self.fitted.prototypes, {len(self.owners)}
        for row in self.classifier.edits_:
            if row["action"].startswith("add_") and row["prototypes"]:
                counts.add(min(row["prototypes"]))
        return {prototypes_digest(record, count) for count in counts}

    @cached_property
    def hessian(self) -> Hessian | None:
        """Second derivatives for the next edit; None where there are too many weights."""
        return self.known_hessian or Hessian.at(self.problem, self.point)

    @cached_property
    def objective(self) -> float:
        """What is minimised, at the weights that there are."""
        return self.problem.objective(self.point)

    @cached_property
    def gap(self) -> float:
        """Certified bound on the objective minus its minimum."""
        return self.problem.gap(self.point)

    def edited(
        self, edit: Edit, training: Comparison | None = None, validation: Comparison | None = None
    ) -> Snapshot:
        """Edit the classifier, solve its last layer, and write down what that did.

        Parameters
        ----------
        edit : Edit
        training, validation : Comparison, default=None
            Where images, classes or prototypes become others; as before with None.

        Warns
        -----
        ConvergenceWarning
            If the solver's iterations end before the certified gap is small enough.
        """
        draft = self.with_attributes(
            {
                **edit.attributes,
                "coef_": self.coef if edit.coef_init is None else edit.coef_init,
                "state_": {
                    **edit.attributes.get("state_", self.classifier.state_),
                    "constraints": vars(edit.constraints or self.constraints),
                },
            },
            training or self.training,
            validation or self.validation,
        )
        hessian = None
        if edit.is_solved:
            known = self.hessian if draft.coef.shape == self.coef.shape else None
            last_layer, hessian = solve_near(draft.problem, draft.coef, known)
            coef, gap = last_layer.coef, last_layer.gap
            if not last_layer.converged:
                warnings.warn(not_converged(last_layer), ConvergenceWarning, stacklevel=4)
        elif edit.coef_init is None and edit.constraints is None:
            coef, gap = draft.coef, self.classifier.last_layer_gap_  # those of the last solution
        else:
            coef, gap = draft.coef, draft.gap
        solved = draft.with_attributes({"coef_": coef, "last_layer_gap_": gap}, hessian=hessian)
        rows = [*self.classifier.edits_, asdict(self._row(edit, solved))]
        solved.classifier.edits_ = rows  # nobody else has this copy yet
        return solved

    def with_attributes(
        self,
        attributes: dict[str, Any],
        training: Comparison | None = None,
        validation: Comparison | None = None,
        hessian: Hessian | None = None,
    ) -> Snapshot:
        """Copy the classifier, with other fitted attributes."""
        classifier = copy(self.classifier)
        share_network(self.classifier, classifier)
        vars(classifier).update(attributes)
        return Snapshot(
            classifier, training or self.training, validation or self.validation, hessian
        )

    def _row(self, edit: Edit, after: Snapshot) -> EditRow:
        """Say what an edit did."""
        known = len(self.training)  # images that were there before
        changed = self.predicted != self._renumbered(after.predicted[:known], after)
        return EditRow(
            action=edit.action,
            prototypes=edit.prototypes.tolist(),
            detail=edit.detail,
            objective_before=self.objective,
            objective=after.objective,
            gap_before=self.gap,
            gap=after.gap,
            train_score_before=self.training.score(self.predicted),
            train_score=after.training.score(after.predicted),
            train_score_known=after.training.score(after.predicted, known),
            validation_score_before=self._validation_score(),
            validation_score=after._validation_score(),
            n_weights_before=int(np.count_nonzero(self.coef)),
            n_weights=int(np.count_nonzero(after.coef)),
            n_prototypes_in_use_before=int(self.coef.any(0).sum()),
            n_prototypes_in_use=int(after.coef.any(0).sum()),
            n_changed=int(changed.sum()),
        )

    def _renumbered(self, classes: NDArray[np.int64], after: Snapshot) -> NDArray[np.int64]:
        """Bring indices of the classes that there are afterwards to those of before; -1 for new."""
        return class_indices(after.classifier.classes_, self.classifier.classes_)[classes]

    def _validation_score(self) -> float:
        if self.validation is None:
            return np.nan
        return self.validation.score(self.validation.predicted(self.coef))


def copied_classifier(classifier: FittedClassifier) -> Any:
    """Copy a classifier with all that can be changed in place, but for what others share."""
    other = copy(classifier)
    for name, value in vars(classifier).items():
        if name not in SHARED:
            setattr(other, name, (copied if isinstance(value, nn.Module) else deepcopy)(value))
    return other
