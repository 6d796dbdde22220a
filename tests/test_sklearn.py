"""scikit-learn to the letter: its own checks, copies, processes and names of outputs."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from unittest import SkipTest

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from joblib import Parallel, delayed
from quick import QUICK
from sklearn.base import clone, is_classifier
from sklearn.model_selection import cross_val_predict
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
    estimator_checks_generator,
    parametrize_with_checks,
)
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier


@parametrize_with_checks([ProtoPNetClassifier()])
def test_every_check_of_scikit_learn_passes(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"A check was skipped: {reason}")


def test_checks_of_all_that_it_does_are_among_them():
    """A tag that is wrong makes scikit-learn leave out checks without a word."""
    checks = estimator_checks_generator(ProtoPNetClassifier(), mark=None)
    assert {
        "check_class_weight_classifiers",
        "check_classifiers_train",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weights_shape",
        "check_transformer_general",
    } <= {getattr(check, "func", check).__name__ for _, check in checks}


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
    quick = ProtoPNetClassifier(pretraining_epochs=1, warmup_epochs=1, joint_epochs=1)
    check("ProtoPNetClassifier", quick)


SMALL = {"image_shape": (8, 8), **QUICK}


@pytest.fixture(scope="module")
def few(digits):
    """Twenty images of each of three classes."""
    X, y = digits
    return X[y < 3][:60], y[y < 3][:60]


def test_clone_copies_parameters_only(fitted):
    twin = clone(fitted)
    assert is_classifier(twin)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "classes_")


def test_processes_fit_and_predict_the_same_bits(few, fitted, digits):
    X, y = few
    here = cross_val_predict(ProtoPNetClassifier(**SMALL), X, y, cv=2, method="predict_proba")
    there = cross_val_predict(
        ProtoPNetClassifier(**SMALL), X, y, cv=2, method="predict_proba", n_jobs=2
    )
    assert np.array_equal(here, there)
    some = digits[0][:5]
    (logits,) = Parallel(n_jobs=2)([delayed(ProtoPNetClassifier.decision_function)(fitted, some)])
    assert np.array_equal(logits, fitted.decision_function(some))


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
def test_copies_predict_the_same_bits(fitted, digits, copied):
    X, _ = digits
    twin = copied(fitted)
    assert np.array_equal(twin.decision_function(X), fitted.decision_function(X))
    pd.testing.assert_frame_equal(twin.explain(X[:3]), fitted.explain(X[:3]))


def test_a_pickle_of_a_classifier_that_has_predicted_holds_nothing_of_torch(fitted, digits):
    fitted.predict(digits[0][:5])
    assert b"torch" not in pickle.dumps(fitted)


def test_a_copy_predicts_the_same_whatever_its_parameters_become(few):
    X, y = few
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    clf = ProtoPNetClassifier(**{**SMALL, "backbone": module}).fit(X, y)
    copied = pickle.loads(pickle.dumps(clf))
    copied.set_params(similarity="cosine", prototype_depth=3, n_prototypes_per_class=9)
    assert np.array_equal(copied.decision_function(X), clf.decision_function(X))


def test_a_copy_predicts_in_many_threads_at_once(fitted, digits):
    X = digits[0][:20]
    expected = fitted.decision_function(X)
    before = torch.get_num_threads()
    for _ in range(2):
        copied = pickle.loads(pickle.dumps(fitted))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: copied.decision_function(X), range(8)))  # noqa: B023
        assert all(np.array_equal(expected, logits) for logits in found)
    assert torch.get_num_threads() == before


def test_fitted_state_is_arrays_and_plain_values(fitted):
    def kinds(value):
        if isinstance(value, dict):
            return set().union(*(kinds(item) for pair in value.items() for item in pair))
        if isinstance(value, list | tuple):
            return set().union(set(), *(kinds(item) for item in value))
        return {type(value)}

    state = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    assert kinds(state) <= {np.ndarray, bool, int, float, str, type(None)}


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output_names_the_prototypes(fitted, digits, container):
    X, _ = digits
    frame = copy.deepcopy(fitted).set_output(transform=container).transform(X[:4])
    assert isinstance(frame, pd.DataFrame if container == "pandas" else pl.DataFrame)
    assert list(frame.columns) == list(fitted.get_feature_names_out())
    assert np.array_equal(frame.to_numpy(), fitted.transform(X[:4]))
