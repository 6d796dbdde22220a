"""Scorers in cross-validation and searches."""

import pickle

import numpy as np
import pytest
from quick import QUICK
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.metrics import (
    distinct_prototypes_scorer,
    local_size,
    neg_global_size_scorer,
    neg_local_size_scorer,
    sparsity_scorer,
)

SCORERS = {
    "sparsity": sparsity_scorer,
    "global": neg_global_size_scorer,
    "local": neg_local_size_scorer,
    "distinct": distinct_prototypes_scorer,
}
SMALL = {"image_shape": (8, 8), **QUICK}


def test_they_score_what_the_metrics_say(fitted, digits):
    X, y = digits
    assert sparsity_scorer(fitted, X, y) == (fitted.coef_ == 0).mean()
    assert neg_global_size_scorer(fitted, X) == -(fitted.coef_ != 0).any(0).sum()
    vectors = fitted.prototypes_.reshape(len(fitted.prototypes_), -1)
    distinct = len({tuple(each) for each in vectors.tolist()})
    assert distinct_prototypes_scorer(fitted, X) == distinct / len(vectors)
    why = fitted.explain(X)
    table = why.pivot_table("contribution", "sample", "prototype")
    assert neg_local_size_scorer(fitted, X) == pytest.approx(-local_size(table.to_numpy()))


def test_they_go_to_other_processes():
    for scorer in SCORERS.values():
        assert pickle.loads(pickle.dumps(scorer)) is scorer


def test_they_score_two_classes(digits):
    X, y = digits
    rows = y < 2
    clf = ProtoPNetClassifier(**SMALL).fit(X[rows], y[rows])
    why = clf.explain(X[rows]).pivot_table("contribution", "sample", "prototype")
    assert neg_local_size_scorer(clf, X[rows]) == pytest.approx(-local_size(why.to_numpy()))


def test_they_choose_in_a_search_over_a_pipeline(digits):
    X, y = digits
    rows = y < 3
    search = GridSearchCV(
        make_pipeline(StandardScaler(), ProtoPNetClassifier(**SMALL)),
        {"protopnetclassifier__l1_weight": [1e-5, 1e-1]},
        scoring={"accuracy": "accuracy", **SCORERS},
        refit="sparsity",
        cv=2,
    ).fit(X[rows], y[rows])
    assert search.best_params_ == {"protopnetclassifier__l1_weight": 1e-1}
    results = search.cv_results_
    assert results["mean_test_sparsity"][1] > results["mean_test_sparsity"][0]
    for name in SCORERS:
        assert np.isfinite(results[f"mean_test_{name}"]).all()
    assert sparsity_scorer(search, X[rows]) == (search.best_estimator_[-1].coef_ == 0).mean()


def test_another_estimator_is_refused(digits):
    X, y = digits
    with pytest.raises(TypeError, match="must be a ProtoPNetClassifier"):
        sparsity_scorer(PCA().fit(X), X)
    with pytest.raises(TypeError, match="must be a ProtoPNetClassifier"):
        cross_validate(PCA(), X, y, scoring=SCORERS["local"], cv=2, error_score="raise")
