"""`PrototypeEditor`: what an expert can do about the prototypes of a fitted classifier.

Shapes: n images, P prototypes, q of them that are edited, K classes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet._fitted import FittedClassifier, fitted_network
from sklearn_protopnet._last_layer import LARGEST, Constraints
from sklearn_protopnet._validation import (
    check_given_together,
    check_images,
    check_labels,
    check_positive,
)
from sklearn_protopnet.editing import _additions, _tables
from sklearn_protopnet.editing._choice import Choice
from sklearn_protopnet.editing._comparison import Comparison
from sklearn_protopnet.editing._costs import costs
from sklearn_protopnet.editing._names import check_new_names, prototype_numbers, renamed
from sklearn_protopnet.editing._rules import crowded_out, duplicates
from sklearn_protopnet.editing._snapshot import Edit, Snapshot, copied_classifier


class PrototypeEditor:
    """Forbid, require, merge, prune, name and add prototypes of a fitted classifier.

    The similarities of the images are computed once. After each edit the last layer is solved for
    again, under all constraints so far, to its optimum: with the certificate of any last layer,
    and in a fraction of a second where there are up to some hundred prototypes. The network stays
    as it is, and so does `clf`: the edited classifier is another one, `classifier_`. Prototypes
    keep their numbers.

    Parameters
    ----------
    clf : ProtoPNetClassifier
        A fitted classifier. Its penalties `l1_weight_` and `l2_weight_`, its `class_weight`, and
        what an earlier editor asked of it hold on.
    X : array-like, frame, CPU tensor, list of images or paths of images
        Images to solve the last layer for, usually those of the fit, as `clf.predict` takes them.
    y : array-like of shape (n,)
        Their labels, known ones only.
    sample_weight : array-like of shape (n,), default=None
        Weights of the images.
    X_val, y_val : as X and y, default=None
        Images to score, in the log and in `costs`.

    Attributes
    ----------
    classifier_ : ProtoPNetClassifier
        The classifier after all edits: a fitted one of its own, which explains, saves, pickles,
        refits and trains on as any, without any consequence for the editor. Each look at this
        attribute gives a new copy.

    Raises
    ------
    NotFittedError
        If the classifier is not fitted.
    TypeError
        If `clf` is no ProtoPNetClassifier.
    ValueError
        If images, labels or weights are not valid.

    Warns
    -----
    UserWarning
        If there are no images of some classes: the last layer is solved as if there were none.

    See Also
    --------
    inspection.write_report : A page on which prototypes are ticked; `apply` reads the choice.
    metrics.prototype_report : Accuses prototypes that follow what they should not.

    Notes
    -----
    With W the weights of the last layer, every edit solves

        minimise ``f(W)`` subject to ``lower <= W <= upper``,

    where f is the objective of `solve_last_layer`. A forbidden prototype has bounds of 0, a
    required one a lower bound on its weight to its own class. The optimum exists and is unique; the
    gap that the log names is a certified bound on the objective's distance from it.

    Chen et al., "This Looks Like That" (NeurIPS 2019), prune and solve without constraints;
    Donnelly et al., "Rashomon Sets for Prototypical-Part Networks" (CVPR 2025), approximate the set
    of all good last layers by a quadratic.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> from sklearn_protopnet.editing import PrototypeEditor
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     n_prototypes_per_class=3, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... ).fit(X, y)
    >>> editor = PrototypeEditor(clf, X, y).forbid([0, 4]).rename({5: "stroke"})
    >>> editor.classifier_.coef_[:, [0, 4]].any()
    np.False_
    >>> editor.log()["action"].tolist()
    ['forbid', 'rename']
    """

    def __init__(
        self,
        clf: FittedClassifier,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> None:
        check_is_fitted(clf)
        while isinstance(clf, FrozenEstimator):
            clf = clf.estimator
        if not hasattr(clf, "prototypes_"):
            raise TypeError(
                f"clf must be a fitted ProtoPNetClassifier, got {type(clf).__name__}. Of a "
                "pipeline give the last step, and the images as they reach it."
            )
        check_given_together(X_val, y_val)
        training = _compared(clf, X, y, "", sample_weight)
        validation = None if X_val is None else _compared(clf, X_val, y_val, "_val")
        present = training.check_present(clf.class_weight, clf.classes_)
        missing = np.setdiff1d(np.arange(len(clf.classes_)), present)
        if len(missing):
            warnings.warn(
                f"No image of classes {clf.classes_[missing].tolist()} is in X: edits will solve "
                "the last layer as if there were none.",
                UserWarning,
                stacklevel=2,
            )
        self._snapshots = [Snapshot(copied_classifier(clf), training, validation)]
        self._at = 0

    @property
    def classifier_(self) -> Any:
        """The classifier after all edits so far, a new copy of it each time."""
        return copied_classifier(self._now.classifier)

    @property
    def _now(self) -> Snapshot:
        return self._snapshots[self._at]

    def forbid(self, prototypes: Any) -> Self:
        """Leave prototypes no weight to any class.

        Parameters
        ----------
        prototypes : int, str, or array-like of them
            Numbers or names of prototypes.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If there is no such prototype, one is required, or a class would have none left. Then
            nothing has changed.
        """
        numbers = self._numbers(prototypes)
        asked = self._forbidding(numbers).object_to(numbers, *self._patches(numbers))
        return self._edit(Edit("forbid", numbers, constraints=asked))

    def require(self, prototypes: Any, *, min_weight: float | ArrayLike) -> Self:
        """Ask for weights of prototypes to their own classes.

        Parameters
        ----------
        prototypes : int, str, or array-like of them
            Numbers or names of prototypes.
        min_weight : float or array-like of shape (q,)
            What each weight is at least, in the order of the prototypes, from 0 to 1e50. With 0 the
            prototype may not speak against its class; and neither `forbid` nor `prune` takes it.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If there is no such prototype, one is forbidden, merged or there twice, or a weight is
            negative, too large or no number. Then nothing has changed.
        """
        numbers = prototype_numbers(prototypes, self._now.classifier.prototype_names_)
        if len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"Each prototype must be there once, got {numbers.tolist()}.")
        weights = _check_min_weight(min_weight, len(numbers))
        constraints = self._now.constraints.require(numbers, weights)
        detail = f"min_weight={np.array2string(weights, threshold=5)}"
        return self._edit(Edit("require", numbers, detail, constraints))

    def allow(self, prototypes: Any) -> Self:
        """Take back what `forbid`, `prune`, `merge_duplicates` and `require` asked of prototypes.

        Parameters
        ----------
        prototypes : int, str, or array-like of them
            Numbers or names of prototypes.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If there is no such prototype, or nothing was asked of one. Then nothing has changed.
        """
        numbers, asked = self._numbers(prototypes), self._now.constraints
        free = np.setdiff1d(numbers, np.concatenate([asked.weightless, asked.required]))
        if len(free):
            raise ValueError(
                "Prototypes to allow must be forbidden, merged or required, got "
                f"{free.tolist()}, which are not."
            )
        asked = asked.allow(numbers, *self._patches(numbers))
        return self._edit(Edit("allow", numbers, constraints=asked))

    def merge_duplicates(self) -> Self:
        """Give the weights of prototypes with equal latent values to the first of each class.

        Not one logit changes, but for rounding, and the last layer is not solved for: under the
        ridge penalty one large weight costs more than two small ones, which the log's gap shows.
        The others have no weight from now on. What is required has no part in it.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.
        """
        now = self._now
        heirs, merged = duplicates(now.fitted.prototypes, now.owners, now.constraints)
        coef = now.coef.copy()
        np.add.at(coef.T, heirs, coef.T[merged])
        coef[:, merged] = 0.0
        constraints = now.constraints.merge(merged)
        return self._edit(
            Edit("merge_duplicates", merged, "", constraints, coef_init=coef, is_solved=False)
        )

    def prune(self, *, n_nearest: int = 6, min_same_class: int = 3) -> Self:
        """Forbid prototypes whose nearest patches are of other classes.

        The rule of Chen et al. (2019, supplement): of the `n_nearest` images that come nearest to a
        prototype, at least `min_same_class` must be of its class. A class keeps the best of its
        prototypes in any case, and a required prototype stays.

        Parameters
        ----------
        n_nearest : int, default=6
            Images of positive weight that are looked at, each at its nearest patch.
        min_same_class : int, default=3
            So many of them must be of the prototype's class.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If a number is no positive integer, or the second one is larger. Then nothing has
            changed.
        """
        check_positive("n_nearest", n_nearest)
        check_positive("min_same_class", min_same_class)
        if min_same_class > n_nearest:
            raise ValueError(
                f"min_same_class must be at most n_nearest={n_nearest}, got {min_same_class}."
            )
        now = self._now
        numbers = crowded_out(now.training, now.owners, now.constraints, n_nearest, min_same_class)
        detail = f"n_nearest={n_nearest}, min_same_class={min_same_class}"
        return self._edit(Edit("prune", numbers, detail, self._forbidding(numbers)))

    def rename(self, names: Mapping[Any, str]) -> Self:
        """Give prototypes names, which tables, pictures and reports show.

        Parameters
        ----------
        names : mapping of int or str to str
            Names by number, or by the name so far; an empty one takes a name away. Several
            prototypes may have one name, which then stands for all of them.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If there is no such prototype, one is given two names, or a name is no text, longer than
            200 characters, or has blanks around it. Then nothing has changed.
        TypeError
            If it is no mapping.
        """
        known = self._now.classifier.prototype_names_
        found = check_new_names(names, known)
        numbers = np.array(sorted(found), dtype=np.int64)
        detail = "; ".join(f"{number}: {found[number]}" for number in numbers.tolist())
        attributes = {"prototype_names_": renamed(known, found)}
        return self._edit(Edit("rename", numbers, detail, None, attributes, is_solved=False))

    def apply(self, choice: str | os.PathLike[str] | Mapping[str, Any]) -> Self:
        """Do what was chosen on the page that `inspection.write_report` wrote: one edit.

        Prototypes are forbidden, kept, and named. One that is kept is required to have the weight
        to its own class that it has, or 0 if that is negative.

        Parameters
        ----------
        choice : path-like or mapping
            The file that the page saved, or what is in it.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        OSError
            If the file cannot be read.
        TypeError
            If it is neither a path nor a mapping.
        ValueError
            If it is none that a report saves, or was made for other prototypes, or as by `forbid`,
            `require` and `rename`. Then nothing has changed.
        """
        chosen, now = Choice.read(choice), self._now
        if chosen.model_digest is not None and chosen.model_digest not in now.digests():
            raise ValueError(
                "A choice must be made on a report of the prototypes that are edited, got one of "
                "others."
            )
        ticked = np.concatenate([chosen.forbid, chosen.keep])
        if len(ticked):
            prototype_numbers(ticked, now.classifier.prototype_names_)
        names = check_new_names(chosen.names, now.classifier.prototype_names_)
        asked, held = now.constraints, np.intersect1d(chosen.forbid, now.constraints.required)
        freed = np.concatenate([chosen.keep, held]).astype(np.int64)
        asked = self._forbidding(chosen.forbid, asked.allow(freed, *self._patches(freed)))
        asked = asked.object_to(chosen.forbid, *self._patches(chosen.forbid))
        own = now.coef[now.owners[chosen.keep], chosen.keep]
        constraints = asked.require(chosen.keep, np.maximum(own, 0.0))
        numbers = np.unique([*ticked, *names]).astype(np.int64)
        detail = f"forbid={chosen.forbid.tolist()}, keep={chosen.keep.tolist()}, names={len(names)}"
        attributes = {"prototype_names_": renamed(now.classifier.prototype_names_, names)}
        return self._edit(Edit("apply", numbers, detail, constraints, attributes))

    def add_prototypes(
        self,
        label: Any,
        *,
        sample: int | None = None,
        box: ArrayLike | None = None,
        n: int | None = None,
    ) -> Self:
        """Add prototypes of a class, without training.

        Either the patch that is nearest to a box in an image becomes one; or `n` patches are
        chosen, one after the other, of 400 different ones in images of the class that the
        classifier does worst on: of the three that a step along the gradient says gain most, the
        one after which the certified objective is lowest. New prototypes have the next numbers.

        Parameters
        ----------
        label : label
            A class of the classifier.
        sample : int, default=None
            Position in the editor's X of an image of the class. The fitted attribute
            `prototype_sample_indices_` then holds it: rows of the fit's X, if both are the same.
        box : array-like of 4 int, default=None
            ``y0, y1, x0, x1`` in pixels of that image as it was given, half-open.
        n : int, default=None
            Instead of these: how many.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If the class is unknown or has no image, the sample is no image of the class, the box
            does not lie in it, or it is not clear which of both is meant. Then nothing has changed.
        """
        edit, training, validation = _additions.new_prototypes(self._now, label, sample, box, n)
        return self._edit(edit, training, validation)

    def add_class(
        self,
        X: Any,
        y: Any,
        *,
        n_prototypes: int | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add a class that the network was not trained for, without training.

        Prototypes are chosen from its images as by `add_prototypes`, and the last layer is solved
        for all images together. Rows of the new images count on behind those of the editor's X.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            Images of the new class, as `clf.predict` takes them.
        y : label or array-like of shape (n_new,)
            The new label, or as many times as there are images.
        n_prototypes : int, default=None
            Prototypes of the class; with None as many as the classifier's
            `n_prototypes_per_class`.
        sample_weight : array-like of shape (n_new,), default=None
            Weights of the images, beside those of the editor's X. With None each has a quarter of
            their mean: the more the new images count, the more of them are recognised, and the
            more of others are taken for them. The log names it; later editors and refits need it
            again. Where the classifier's `class_weight` is "balanced", all classes count alike,
            whatever the weights.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If the images are not like those of the fit, the labels are not all the same, the class
            is known, its label is of another kind than theirs, or weights are not valid. Then
            nothing has changed.
        """
        edit, training, validation = _additions.new_class(
            self._now, X, y, n_prototypes, sample_weight
        )
        return self._edit(edit, training, validation)

    def undo(self) -> Self:
        """Take the last edit back, to the last bit.

        Returns
        -------
        self : PrototypeEditor
            This editor, without the edit.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self._at == 0:
            raise ValueError("There must be an edit to undo, there is none.")
        self._at -= 1
        return self

    def redo(self) -> Self:
        """Do again what `undo` took back, to the last bit.

        Returns
        -------
        self : PrototypeEditor
            This editor, after the edit.

        Raises
        ------
        ValueError
            If there is nothing, or another edit came after it.
        """
        if self._at + 1 == len(self._snapshots):
            raise ValueError("There must be an edit that was undone to redo, there is none.")
        self._at += 1
        return self

    def costs(
        self, prototypes: Any = None, *, max_increase: float | None = None, tol: float = 1e-4
    ) -> pd.DataFrame:
        """Say what forbidding each prototype would cost; nothing is edited.

        Parameters
        ----------
        prototypes : int, str, or array-like of them, default=None
            Numbers or names; all with None.
        max_increase : float, default=None
            A loss to allow: `can_go` says which prototypes can be forbidden within it.
        tol : float, default=1e-4
            How close the bounds on an objective are, relative to it; as 1e-10 if it is smaller,
            beyond which is rounding. They are less close where 5,000 iterations do not do.

        Returns
        -------
        DataFrame
            One row per prototype.

            ``prototype``, ``prototype_class``, ``name``
                The last once prototypes have names.
            ``objective_lower``, ``objective_upper``
                Certified bounds on the objective without the prototype.
            ``increase_lower``, ``increase_upper``
                Certified bounds on what that is more than the optimum with it.
            ``train_score``, ``validation_score``
                Accuracy without it, at weights of the upper bound.
            ``n_changed``
                Images of the editor's X that would be predicted otherwise.
            ``is_last``
                Whether its class would be left without one.
            ``can_go``
                With `max_increase`: whether `forbid` would take it and the increase is certified
                to be no larger; missing where rounding does not let it be decided.

        Raises
        ------
        ValueError
            If there is no such prototype, or a number is not as described.
        """
        names = self._now.classifier.prototype_names_
        numbers = np.arange(len(names)) if prototypes is None else self._numbers(prototypes)
        if not isinstance(tol, Real) or not float(tol) > 0:
            raise ValueError(f"tol must be a positive number, got {tol!r}.")
        if max_increase is not None and not (
            isinstance(max_increase, Real) and float(max_increase) >= 0
        ):
            raise ValueError(
                f"max_increase must be a number that is not negative, got {max_increase!r}."
            )
        return _tables.costs_table(self._now, costs(self._now, numbers, tol, max_increase))

    def constraints(self) -> pd.DataFrame:
        """Say what has been asked of prototypes and holds now.

        Returns
        -------
        DataFrame
            One row per prototype that something was asked of.

            ``prototype``, ``prototype_class``, ``name``
                The last once prototypes have names.
            ``constraint``
                ``"forbidden"``, ``"merged"`` or ``"required"``.
            ``min_weight``
                Least weight of a required one to its own class, NaN for others.
        """
        return _tables.constraints_table(self._now)

    def log(self) -> pd.DataFrame:
        """Say what was done, and what it did: one row per edit, those of earlier editors too.

        Returns
        -------
        DataFrame
            ``edit``, ``action``, ``prototypes``, ``detail``
                Number from 1, method, numbers of the prototypes in a tuple, and what else was
                asked for.
            ``objective_before``, ``objective``, ``gap_before``, ``gap``
                Of the last layer, on the editor's images, with certified bounds on the distance
                from the optimum under the constraints.
            ``train_score_before``, ``train_score``, ``train_score_known``
                Accuracy on the editor's images, weighted; the last, after the edit, on those that
                were there before it.
            ``validation_score_before``, ``validation_score``
                Accuracy on its validation images; NaN without any.
            ``n_weights_before``, ``n_weights``
                Weights of the last layer that are not zero.
            ``n_prototypes_in_use_before``, ``n_prototypes_in_use``
                Prototypes with such a weight.
            ``n_changed``
                Images of the editor's X that are predicted otherwise.
        """
        return _tables.log_table(self._now.classifier.edits_)

    def _numbers(self, prototypes: Any) -> NDArray[np.int64]:
        """Find prototypes, ascending and each once."""
        return np.unique(prototype_numbers(prototypes, self._now.classifier.prototype_names_))

    def _forbidding(
        self, numbers: NDArray[np.int64], asked: Constraints | None = None
    ) -> Constraints:
        """Forbid prototypes, if every class keeps one."""
        now = self._now
        asked = now.constraints if asked is None else asked
        left = np.ones(len(now.owners), dtype=bool)
        left[np.concatenate([asked.weightless, numbers])] = False
        has_none = np.setdiff1d(now.owners[numbers], now.owners[left])
        if len(has_none):
            raise ValueError(
                "Every class must keep a prototype, none would be left of "
                f"{now.classifier.classes_[has_none].tolist()}."
            )
        return asked.forbid(numbers)

    def _patches(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Give the images and patches that prototypes are."""
        return self._now.fitted.source_patches(numbers)

    def _edit(
        self,
        edit: Edit,
        training: Comparison | None = None,
        validation: Comparison | None = None,
    ) -> Self:
        """Make an edit; what was undone cannot be done again."""
        snapshot = self._now.edited(edit, training, validation)
        self._snapshots[self._at + 1 :] = [snapshot]
        self._at += 1
        return self


def _compared(
    clf: FittedClassifier,
    X: Any,
    y: ArrayLike | None,
    suffix: str,
    sample_weight: ArrayLike | None = None,
) -> Comparison:
    """Check labelled images, and compare them with the prototypes."""
    fitted = fitted_network(clf)
    source = fitted.source(check_images(clf, X, input_name=f"X{suffix}"))
    labels = check_labels(f"y{suffix}", y, f"X{suffix}", len(source), clf.classes_)
    return Comparison.of(fitted, source, labels, sample_weight)


def _check_min_weight(min_weight: Any, n: int) -> NDArray[np.float64]:
    rule = f"min_weight must be a number from 0 to {LARGEST:g}, or one for each prototype"
    try:
        weights = np.broadcast_to(np.asarray(min_weight, dtype=np.float64), (n,)).copy()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}, found: {error}") from error
    if not ((weights >= 0) & (weights <= LARGEST)).all():
        raise ValueError(f"{rule}, got {min_weight!r}.")
    return weights
