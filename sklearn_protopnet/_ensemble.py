"""`ProtoPNetEnsemble`: several networks whose logits are added, and their evidence with them."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn import get_config
from sklearn.base import ClassifierMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch, Tags
from sklearn.utils.extmath import softmax
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_protopnet._classifier import ProtoPNetClassifier
from sklearn_protopnet._compat import (
    HeterogeneousEnsemble,
    VisualBlock,
    check_feature_names_in,
    fit_context,
)
from sklearn_protopnet._fitted import added
from sklearn_protopnet._validation import check_text
from sklearn_protopnet.inspection import _tables
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._localizers import check_localizer
from sklearn_protopnet.inspection._pipelines import find_classifier, member_images


class ProtoPNetEnsemble(ClassifierMixin, TransformerMixin, HeterogeneousEnsemble):
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
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    named_estimators_ : Bunch
        The fitted members by their names, in order, less those that were dropped.
    n_features_in_ : int
        That of the first member, if it has one.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` was a frame with string names.

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
        members = self._checked_members()
        routed = self._routed(members, sample_weight, fit_params)
        fitted = Parallel(n_jobs=self.n_jobs)(
            delayed(_fitted)(clone(member), X, y, routed[name]) for name, member in members.items()
        )
        named = Bunch(**dict(zip(members, fitted, strict=True)))
        _check_classes(named)
        first = fitted[0]
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit
            vars(self).pop(name, None)
        if hasattr(first, "n_features_in_"):
            self.n_features_in_ = first.n_features_in_
        if hasattr(first, "feature_names_in_"):
            self.feature_names_in_ = first.feature_names_in_
        self.classes_ = first.classes_
        self.named_estimators_ = named
        return self

    @property
    def estimators_(self) -> list[Any]:
        """The fitted members, in order.

        Returns
        -------
        list of estimators
            Less those that were dropped.
        """
        return list(self.named_estimators_.values())

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict class labels.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,)
            The class with the largest logit.
        """
        labels: NDArray[Any] = self._logits(X).argmax(1)
        return self.classes_[labels]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict class probabilities: the softmax of the added logits.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_classes)
            Columns are in the order of `classes_`.
        """
        probabilities: NDArray[np.float64] = softmax(self._logits(X))
        return probabilities

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict logarithms of class probabilities.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_classes)
            Columns are in the order of `classes_`. Finite where a probability is too small for
            a number.
        """
        logarithms: NDArray[np.float64] = log_softmax(self._logits(X), axis=1)
        return logarithms

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Add the logits of the members.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_classes), or (n,) for two classes
            The sums; for two classes the second logit minus the first.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

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
            if not _is_dropped(member):
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

    def _checked_members(self) -> dict[str, Any]:
        """Check names and members; those that are not dropped."""
        pairs = self.estimators
        are_pairs = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs)
        if not are_pairs or not all(isinstance(name, str) for name, _ in pairs):
            raise ValueError(f"estimators must be a list of (name, estimator), got {pairs!r}.")
        names = [name for name, _ in pairs]
        self._validate_names(names)
        check_text("Names of members", np.array(names, dtype=object))
        members = {name: member for name, member in pairs if not _is_dropped(member)}
        if not members:
            raise ValueError(
                f"estimators must have a member at least that is not 'drop', got {pairs!r}."
            )
        for name, member in members.items():
            _check_member(name, member)
        return members

    def _routed(
        self,
        members: dict[str, Any],
        sample_weight: ArrayLike | None,
        fit_params: dict[str, Any],
    ) -> dict[str, dict[str, Any]]:
        """Say what the `fit` of each member is given beside images and labels."""
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **weights, **fit_params)
            return {name: routed[name]["fit"] for name in members}
        if fit_params:
            raise TypeError(
                "fit takes X, y and sample_weight unless metadata routing is enabled, got "
                f"{sorted(fit_params)}."
            )
        return {
            name: {f"{_prefix(member)}{key}": value for key, value in weights.items()}
            for name, member in members.items()
        }

    def _logits(self, X: Any) -> NDArray[np.float64]:
        return added([each.fitted.logits(each.source) for each in member_images(self, X)])


def _is_dropped(member: Any) -> bool:
    return isinstance(member, str) and member == "drop"


def _check_member(name: str, member: Any) -> None:
    """Raise unless there is a classifier at the end of a member; a frozen one must be fitted."""
    last = member
    while isinstance(last, FrozenEstimator | Pipeline):
        last = last.estimator if isinstance(last, FrozenEstimator) else last.steps[-1][1]
    if not isinstance(last, ProtoPNetClassifier):
        raise TypeError(
            "A member must be a ProtoPNetClassifier, a pipeline that ends in one, or one of both "
            f"in a FrozenEstimator, got {last!r} for {name!r}."
        )
    if isinstance(member, FrozenEstimator):
        check_is_fitted(last)


def _prefix(member: Any) -> str:
    """Say what stands before the name of a parameter of `fit` for the end of a pipeline."""
    if not isinstance(member, Pipeline):
        return ""
    name, last = member.steps[-1]
    return f"{name}__{_prefix(last)}"


def _fitted(member: Any, X: Any, y: ArrayLike, fit_params: dict[str, Any]) -> Any:
    """Fit a member, maybe in another process, which gives it back."""
    return member.fit(X, y, **fit_params)


def _check_classes(named: dict[str, Any]) -> None:
    """Raise unless all members have the same classes."""
    (first, *_), classes = named, [member.classes_ for member in named.values()]
    for name, others in zip(named, classes, strict=True):
        if not np.array_equal(others, classes[0]):
            raise ValueError(
                f"Members must have the same classes, and {first!r} has {classes[0].tolist()}, "
                f"{name!r} {others.tolist()}."
            )
