"""scikit-learn to the letter: its own checks, and its tools around the classifier."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier

N_CHECKS = 69
"""Checks that scikit-learn yields for a classifier with sample weights and a transform."""


@parametrize_with_checks([ProtoPNetClassifier()])
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


def test_scikit_learn_yields_all_its_checks_and_skips_none():
    checks = list(estimator_checks.estimator_checks_generator(ProtoPNetClassifier(), mark=None))
    assert len(checks) == N_CHECKS


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_global_output_transform_pandas,
        check_global_set_output_transform_polars,
        check_inplace_ensure_writeable,
        check_param_validation,
        check_set_output_transform,
        check_set_output_transform_pandas,
        check_set_output_transform_polars,
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
    ],
)
def test_checks_that_scikit_learn_keeps_for_itself_pass(check):
    check("ProtoPNetClassifier", ProtoPNetClassifier(pretraining_epochs=2, joint_epochs=2))


SMALL = {
    "image_shape": (8, 8),
    "n_prototypes_per_class": 2,
    "pretraining_epochs": 2,
    "joint_epochs": 2,
    "random_state": 0,
}


def test_clone_copies_parameters_only(fitted):
    twin = clone(fitted)
    assert is_classifier(twin)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "classes_")


def test_grid_search_over_depth_and_cluster_weight(digits):
    X, y = digits
    grid = {"prototype_depth": [16, 32], "cluster_weight": [0.2, 0.8]}
    search = GridSearchCV(ProtoPNetClassifier(**SMALL), grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.prototypes_.shape[1] == search.best_params_["prototype_depth"]


def test_a_pipeline_predicts_what_its_last_step_does(digits):
    X, y = digits
    pipeline = make_pipeline(FunctionTransformer(np.sqrt), ProtoPNetClassifier(**SMALL)).fit(X, y)
    alone = ProtoPNetClassifier(**SMALL).fit(np.sqrt(X), y)
    assert np.array_equal(pipeline.predict_proba(X), alone.predict_proba(np.sqrt(X)))


def test_cross_validation_in_processes_equals_that_in_one(digits):
    X, y = digits
    here = cross_val_predict(ProtoPNetClassifier(**SMALL), X, y, cv=2)
    there = cross_val_predict(ProtoPNetClassifier(**SMALL), X, y, cv=2, n_jobs=2)
    assert np.array_equal(here, there)


def test_sample_weights_pass_through_cross_validation(digits):
    X, y = digits
    scores = cross_val_score(
        ProtoPNetClassifier(**SMALL), X, y, cv=2, params={"sample_weight": np.ones(len(y))}
    )
    assert np.array_equal(scores, cross_val_score(ProtoPNetClassifier(**SMALL), X, y, cv=2))


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
def test_copies_predict_the_same_bits_and_carry_no_torch_module(fitted, digits, copied):
    X, _ = digits
    twin = copied(fitted)
    assert "_network" not in vars(twin)
    assert np.array_equal(twin.decision_function(X), fitted.decision_function(X))
    pd.testing.assert_frame_equal(twin.explain(X[:3]), fitted.explain(X[:3]))


def test_a_copy_predicts_the_same_whatever_its_parameters_become(digits):
    X, y = digits
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    clf = ProtoPNetClassifier(**{**SMALL, "backbone": module}).fit(X, y)
    copied = pickle.loads(pickle.dumps(clf))
    copied.set_params(similarity="cosine", prototype_depth=3, n_prototypes_per_class=9)
    assert np.array_equal(copied.decision_function(X), clf.decision_function(X))


def test_a_copy_predicts_in_many_threads_at_once(fitted, digits):
    X = digits[0][:20]
    expected = fitted.decision_function(X)
    before = torch.get_num_threads()
    for _ in range(5):
        copied = pickle.loads(pickle.dumps(fitted))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: copied.decision_function(X), range(8)))  # noqa: B023
        assert all(np.array_equal(expected, logits) for logits in found)
    assert torch.get_num_threads() == before


def test_a_pickle_opens_in_another_process(fitted, digits, tmp_path):
    X, _ = digits
    (tmp_path / "clf.pkl").write_bytes(pickle.dumps((fitted, X[:5])))
    code = (
        "import pickle, sys; c, X = pickle.load(open(sys.argv[1], 'rb'));"
        "print(c.predict(X).tolist())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "clf.pkl")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str(fitted.predict(X[:5]).tolist())


def test_fitted_state_is_arrays_and_plain_values(fitted):
    def kinds(value):
        if isinstance(value, dict):
            return set().union(*(kinds(item) for pair in value.items() for item in pair))
        if isinstance(value, list | tuple):
            return set().union(set(), *(kinds(item) for item in value))
        return {type(value)}

    state = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    assert kinds(state) <= {np.ndarray, int, float, str, type(None)}


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output_names_the_prototypes(fitted, digits, container):
    X, _ = digits
    frame = copy.deepcopy(fitted).set_output(transform=container).transform(X[:4])
    assert isinstance(frame, pd.DataFrame if container == "pandas" else pl.DataFrame)
    assert list(frame.columns) == list(fitted.get_feature_names_out())
    assert np.array_equal(frame.to_numpy(), fitted.transform(X[:4]))
