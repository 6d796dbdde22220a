"""`ProtoPNetEnsemble`: several networks whose logits are added, and their evidence with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from copy import copy
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import ClassifierMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, Tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet import _persistence
from sklearn_protopnet._classifier import ProtoPNetClassifier, check_classifier
from sklearn_protopnet._compat import (
    OUTPUT_CONFIG,
    HeterogeneousEnsemble,
    VisualBlock,
    check_feature_names_in,
    fit_context,
)
from sklearn_protopnet._fitted import added
from sklearn_protopnet._logit_classifier import LogitClassifierMixin
from sklearn_protopnet._members import (
    check_members,
    check_same_classes,
    check_stored_members,
    fit_member,
    is_dropped,
    weights_for,
)
from sklearn_protopnet.inspection import _tables
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._localizers import check_localizer
from sklearn_protopnet.inspection._pipelines import find_classifier, member_images


class ProtoPNetEnsemble(
    TransformerMixin, LogitClassifierMixin, ClassifierMixin, HeterogeneousEnsemble
):
    """Several prototypical part networks whose logits are added.

    Each member compares an image with prototypes of its own, by a network of its own: another
    backbone, another size of the images, or another seed. The logit of a class is the sum of its
    logits in the members (Chen et al. 2019), so that the contributions of the prototypes of all
    members add up to it: the decision of an ensemble has its reasons as that of a network has.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Names and members. A member is a `ProtoPNetClassifier`, or a pipeline that ends in one. It
        is cloned and fitted, unless it comes in scikit-learn's ``FrozenEstimator``: then it must be
        fitted already, and stays as it is. ``"drop"`` stands for no member. Members of the same
        settings and the same `random_state` are the same network.
    n_jobs : int, default=None
        Members that are fitted at once. None is 1 unless in a ``joblib.parallel_config``; -1 is all
        processors. Results do not depend on it.

    Attributes
    ----------
    named_estimators_ : Bunch
        The fitted members by their names, in order, less those that were dropped. All other
        attributes are read off them.

    See Also
    --------
    ProtoPNetClassifier : One network.
    inspection.write_report : The evidence of all members in a page.

    Notes
    -----
    Contributions of different members may be added and compared, since they are parts of one logit.
    Similarities and distances may not: each network has a scale of its own.

    References
    ----------
    Chen, Li, Tao, Barnett, Su and Rudin, "This Looks Like That: Deep Learning for
    Interpretable Image Recognition", NeurIPS 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier, ProtoPNetEnsemble
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> small = ProtoPNetClassifier(
    ...     n_prototypes_per_class=2, pretraining_epochs=5, joint_epochs=3, random_state=0
    ... )
    >>> large = ProtoPNetClassifier(
    ...     image_size=(12, 12), n_prototypes_per_class=3, pretraining_epochs=5, joint_epochs=3,
    ...     random_state=0
    ... )
    >>> ensemble = ProtoPNetEnsemble([("small", small), ("large", large)]).fit(X[:100], y[:100])
    >>> ensemble.predict(X[100:105])
    array([1, 0, 1, 0, 0])
    >>> why = ensemble.explain(X[100:101])
    >>> why.groupby("member").size().to_dict()
    {'large': 6, 'small': 4}
    >>> why["contribution"].sum().round(6) == why["logit"][0].round(6)
    np.True_
    """

    _doc_link_module = "sklearn_protopnet"
    _doc_link_template = ProtoPNetClassifier._doc_link_template

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimators": [list],
        "n_jobs": [Integral, None],
    }

    def __init__(self, estimators: list[tuple[str, Any]], *, n_jobs: int | None = None) -> None:
        self.estimators = estimators
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=False)  # members check their own parameters
    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, **fit_params: Any
    ) -> Self:
        """Fit the members, each to all images.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in the `fit` of every member.
        y : array-like of shape (n,)
            Class labels.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image, for all members.
        **fit_params : dict
            What members request by metadata routing, if that is enabled
            (``sklearn.set_config(enable_metadata_routing=True)``).

        Returns
        -------
        self : ProtoPNetEnsemble
            The fitted ensemble.

        Raises
        ------
        NotFittedError
            If a member in a ``FrozenEstimator`` is not fitted.
        TypeError
            If a member is none of what it may be, or there are `fit_params` without metadata
            routing.
        ValueError
            If there is no member, or names are no text, not unique, names of parameters or with
            ``__``; if members have other classes than the first one, as frozen ones may; or as by
            the `fit` of a member. The ensemble is then as it was before.
        """
        members = check_members(self.estimators)
        self._validate_names([name for name, _ in self.estimators])
        routed = self._routed(members, sample_weight, fit_params)
        # A frozen member stays the object that it is: another process would give a copy.
        free = [name for name in members if not isinstance(members[name], FrozenEstimator)]
        fitted = Parallel(n_jobs=self.n_jobs)(
            delayed(fit_member)(clone(members[name]), X, y, routed[name]) for name in free
        )
        named = Bunch()
        # As a mapping: a member may be called "self".
        named.update({**members, **dict(zip(free, fitted, strict=True))})
        check_same_classes(named)
        self.named_estimators_ = named
        return self

    @property
    def estimators_(self) -> list[Any]:
        """The fitted members, in order, less those that were dropped."""
        return list(self.named_estimators_.values())

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels, (n_classes,)."""
        classes: NDArray[Any] = self.estimators_[0].classes_
        return classes

    @property
    def n_features_in_(self) -> int:
        """That of the first member."""
        n_features: int = self.estimators_[0].n_features_in_
        return n_features

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns, if `X` was a frame with string names, (n_features_in_,)."""
        names: NDArray[Any] = self.estimators_[0].feature_names_in_
        return names

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute the similarity of each image to each prototype of all members.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_prototypes)
            Columns of each member, as by `ProtoPNetClassifier.transform`, side by side.
        """
        members = member_images(self, X)
        return np.hstack([each.fitted.similarities(each.source) for each in members])

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Name the columns that `transform` gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Checked against the names of the columns in `fit`, and not used otherwise.

        Returns
        -------
        ndarray of shape (n_prototypes,)
            ``<member>__protopnetclassifier<number>``.
        """
        check_is_fitted(self)
        check_feature_names_in(self, input_features, generate_names=False)
        names = [
            f"{member}__{name}"
            for member, estimator in self.named_estimators_.items()
            for name in find_classifier(estimator).get_feature_names_out()
        ]
        return np.asarray(names, dtype=object)

    def explain(
        self,
        X: Any,
        *,
        classes: str | ArrayLike = "predicted",
        n_top_classes: int | None = None,
        top_k: int | None = None,
        localizer: str = "receptive_field",
        details: str | Iterable[str] = (),
    ) -> pd.DataFrame:
        """Say why: the contribution of every prototype of every member to the logits.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.
        classes : {"predicted", "all"} or array-like of labels, default="predicted"
            The classes to explain for every image; the predicted one is that of the ensemble.
        n_top_classes : int, default=None
            Instead of `classes`: the classes of the so many largest logits of each image.
        top_k : int, default=None
            Rows for each image and class, the largest contributions of all members together.
        localizer : str, default="receptive_field"
            As for `ProtoPNetClassifier.explain`.
        details : "all" or iterable of str, default=()
            As for `ProtoPNetClassifier.explain`.

        Returns
        -------
        DataFrame
            One row per image, class, member and prototype, with the columns of
            `ProtoPNetClassifier.explain` and, before ``prototype``:

            ``member``
                The name of the member whose prototype it is. A prototype has its number in its
                member.

            ``logit``, ``probability`` and ``margin`` are the ensemble's, and ``rank`` is over all
            members: with ``top_k=None`` the contributions to a class of an image add up to its
            logit. Boxes are in pixels of the images that reach the member, and ``source_sample`` is
            the row of the `X` that the member was fitted to.

        Raises
        ------
        ValueError
            As by `ProtoPNetClassifier.explain`.
        """
        options = Options.checked(classes, top_k, localizer, details, n_top_classes)
        return Explainer(member_images(self, X), options).table()

    def prototype_table(self, *, localizer: str = "receptive_field") -> pd.DataFrame:
        """Say what the prototypes of all members are: one row each, with its training patch.

        Parameters
        ----------
        localizer : str, default="receptive_field"
            How the box around a patch is found, as for `ProtoPNetClassifier.explain`.

        Returns
        -------
        DataFrame
            The columns of `ProtoPNetClassifier.prototype_table`, with ``member`` before them.

        Raises
        ------
        ValueError
            If the localizer is unknown.
        """
        check_is_fitted(self)
        check_localizer(localizer)
        return _tables.member_table(
            {
                name: find_classifier(member).prototype_table(localizer=localizer)
                for name, member in self.named_estimators_.items()
            }
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted ensemble to a file that `load` reads without executing anything.

        Parameters
        ----------
        path : str or path-like
            As by `ProtoPNetClassifier.save`.

        Raises
        ------
        ImportError
            If skops is not installed (``pip install sklearn-protopnet[files]``).
        OSError
            If the file cannot be written, or is no regular file.
        TypeError
            If a member is a pipeline, or has a module as backbone or a callable as `augment`: a
            file holds arrays and plain values only.
        ValueError
            If a fitted attribute has been changed to what `load` would refuse.
        """
        check_is_fitted(self)
        written = copy(self)
        # What `fit` would clone: a member that was fitted by itself is in the file once only.
        written.estimators = [
            (name, member if is_dropped(member) else clone(member))
            for name, member in self.estimators
        ]
        _persistence.dump(written, path, _checked)

    def get_metadata_routing(self) -> MetadataRouter:
        """Say which member is given what metadata of `fit`.

        Returns
        -------
        MetadataRouter
            Metadata go to members that request them.
        """
        router = MetadataRouter(owner=self)
        to_fit = MethodMapping().add(caller="fit", callee="fit")
        for name, member in self.estimators:
            if not is_dropped(member):
                router.add(**{name: member}, method_mapping=to_fit)
        return router

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that images may be rows, arrays of three dimensions, or paths."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def _sk_visual_block_(self) -> Any:
        """Have members stand side by side where scikit-learn draws an estimator."""
        names, members = zip(*self.estimators, strict=True)
        return VisualBlock("parallel", members, names=names)

    def _routed(
        self,
        members: dict[str, Any],
        sample_weight: ArrayLike | None,
        fit_params: dict[str, Any],
    ) -> dict[str, dict[str, Any]]:
        """Say what the `fit` of each member is given beside images and labels."""
        if get_config()["enable_metadata_routing"]:
            weights = {} if sample_weight is None else {"sample_weight": sample_weight}
            routed = process_routing(self, "fit", **weights, **fit_params)
            return {name: routed[name]["fit"] for name in members}
        if fit_params:
            raise TypeError(
                "fit takes X, y and sample_weight unless metadata routing is enabled, got "
                f"{sorted(fit_params)}."
            )
        return {name: weights_for(member, sample_weight) for name, member in members.items()}

    def _logits(self, X: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        members = member_images(self, X)
        logits = added([each.fitted.logits(each.source) for each in members])
        return members[0].fitted.classes, logits


def load(path: str | os.PathLike[str]) -> ProtoPNetClassifier | ProtoPNetEnsemble:
    """Read a classifier or an ensemble from a file that its `save` wrote.

    Nothing in the file is executed: a file that holds any other type is refused. So is one whose
    content is no longer what was written, or is none that a fit leaves.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ProtoPNetClassifier or ProtoPNetEnsemble
        Predicts the same bits as the one that was saved, on the same machine. Its `memory` and its
        `checkpoint` are None: what lies in a directory that a file names is not read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If skops is not installed (``pip install sklearn-protopnet[files]``).
    ValueError
        If the file is not one that ``save`` wrote, or no longer.
    """
    return _persistence.load(path, _checked)


def _checked(
    estimator: ProtoPNetClassifier | ProtoPNetEnsemble,
) -> ProtoPNetClassifier | ProtoPNetEnsemble:
    """Check the parameters and the fitted state that are in a file, or are to be."""
    if isinstance(estimator, ProtoPNetClassifier):
        return check_classifier(estimator)
    estimator._validate_params()
    unknown = set(vars(estimator)) - {"estimators", "n_jobs", "named_estimators_", OUTPUT_CONFIG}
    if unknown:
        raise ValueError(f"An ensemble must have parameters and members, found {sorted(unknown)}.")
    check_stored_members(estimator.estimators, estimator.named_estimators_)
    return estimator
