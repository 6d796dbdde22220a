"""The members of an ensemble: what they may be, what their `fit` is given, what they must share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet._classifier import ProtoPNetClassifier, check_classifier
from sklearn_protopnet._compat import OUTPUT_CONFIG
from sklearn_protopnet._validation import check_text


def is_dropped(member: Any) -> bool:
    """Tell whether there is no member in this place."""
    return isinstance(member, str) and member == "drop"


def check_members(estimators: Any) -> dict[str, Any]:
    """Check names and members; those that are not dropped.

    Parameters
    ----------
    estimators : list of (str, estimator)

    Raises
    ------
    NotFittedError
        If a frozen member is not fitted.
    TypeError
        If there is no classifier at the end of a member.
    ValueError
        If it is no such list, a name is no text for files, or there is no member.
    """
    are_pairs = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in estimators)
    if not are_pairs or not all(isinstance(name, str) for name, _ in estimators):
        raise ValueError(f"estimators must be a list of (name, estimator), got {estimators!r}.")
    members = {name: member for name, member in estimators if not is_dropped(member)}
    if not members:
        raise ValueError(
            f"estimators must have a member at least that is not 'drop', got {estimators!r}."
        )
    check_text("Names of members", np.array(list(members), dtype=object))
    for name, member in members.items():
        _check_member(name, member)
    return members


def _check_member(name: str, member: Any) -> None:
    """Raise unless there is a classifier at the end of a member, a fitted one if it is frozen."""
    last, is_frozen = _unwrapped(member)
    if not isinstance(last, ProtoPNetClassifier):
        raise TypeError(
            "A member must be a ProtoPNetClassifier, a pipeline that ends in one, or one of both "
            f"in a FrozenEstimator, got {member!r} for {name!r}."
        )
    if is_frozen:
        check_is_fitted(last)


def _unwrapped(member: Any) -> tuple[Any, bool]:
    """Give what is at the end of pipelines and in what is frozen, and whether anything was."""
    last, is_frozen = member, False
    while isinstance(last, FrozenEstimator) or (isinstance(last, Pipeline) and last.steps):
        is_frozen = is_frozen or isinstance(last, FrozenEstimator)
        last = last.steps[-1][1] if isinstance(last, Pipeline) else last.estimator
    return last, is_frozen


def weights_for(member: Any, sample_weight: ArrayLike | None) -> dict[str, Any]:
    """Give what the `fit` of a member is given beside images and labels."""
    if sample_weight is None:
        return {}
    steps = []
    while isinstance(member, Pipeline):
        step, member = member.steps[-1]
        steps.append(step)
    return {"__".join([*steps, "sample_weight"]): sample_weight}


def fit_member(member: Any, X: Any, y: ArrayLike, fit_params: Mapping[str, Any]) -> Any:
    """Fit a member, maybe in another process, which gives it back."""
    return member.fit(X, y, **fit_params)


def check_same_classes(members: Mapping[str, Any]) -> None:
    """Raise unless all fitted members have the same classes."""
    (first, *_) = members
    expected = members[first].classes_
    for name, member in members.items():
        if not np.array_equal(member.classes_, expected):
            raise ValueError(
                f"Members must have the same classes, and {first!r} has {expected.tolist()}, "
                f"{name!r} {member.classes_.tolist()}."
            )


def check_stored_members(estimators: Any, fitted: Any) -> None:
    """Check the members that are in a file, or are to be, before and after they were fitted."""
    for name, member in check_members(estimators).items():
        classifier, is_frozen = _unwrapped(member)
        if is_frozen:
            check_classifier(classifier)
            continue
        member._validate_params()
        unknown = set(vars(member)) - {*member.get_params(deep=False), OUTPUT_CONFIG}
        if unknown:
            raise ValueError(f"{name!r} must not be fitted, found {sorted(unknown)}.")
    if not isinstance(fitted, dict):
        raise TypeError(f"named_estimators_ must be a dict, found {type(fitted).__name__}.")
    for member in check_members([*fitted.items()]).values():
        check_classifier(_unwrapped(member)[0])
    check_same_classes(fitted)
