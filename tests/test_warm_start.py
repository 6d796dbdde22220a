"""Warm starts: a further fit goes on with the network of the last one."""

import copy

import numpy as np
import pytest
import torch
from quick import QUICK
from test_callbacks import Notes
from test_checkpoint import Kill, KilledError
from test_classifier import assert_same_bits
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, load

STILL = {"learning_rate": 1e-30, "backbone_learning_rate": 0.0}
"""These rates move no float32."""


def backbone(n_channels=4):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, n_channels, 3), nn.BatchNorm2d(n_channels), nn.ReLU())


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60].reshape(-1, 8, 8), y[:60] % 3


@pytest.fixture(scope="module", params=["auto", "module"])
def fitted(few, request):
    settings = {**QUICK, "joint_epochs": 2, "warm_start": True, "precision": "float32"}
    if request.param == "module":
        settings["backbone"] = backbone()
    return ProtoPNetClassifier(**settings).fit(*few)


def test_what_moves_nothing_changes_nothing(fitted, few):
    again = copy.deepcopy(fitted).set_params(**STILL).fit(*few)
    X, _ = few
    assert np.array_equal(again.prototypes_, fitted.prototypes_)
    assert np.array_equal(again.decision_function(X), fitted.decision_function(X))
    for name, value in fitted.state_["network"].items():
        assert np.array_equal(again.state_["network"][name], value), name


def test_it_goes_on_where_the_last_fit_was(fitted, few):
    again = copy.deepcopy(fitted).fit(*few)
    history = again.history_table()
    n_rows = len(fitted.history_)
    assert again.history_[:n_rows] == fitted.history_
    assert history["stage"].tolist()[n_rows:] == ["joint", "joint", "projection", "last_layer"]
    assert history["round"].tolist()[n_rows:] == [2, 2, 2, 2]
    assert history["epoch"].tolist()[n_rows:] == [5, 6, 6, 6]
    assert again.n_iter_ == fitted.n_iter_ + 2 == len(again.loss_curve_)
    first = history["accuracy_before"].iloc[-2]  # of the network that was trained on
    assert first >= history["accuracy_before"].iloc[n_rows - 2]


def test_more_epochs_lower_the_loss(fitted, few):
    again = copy.deepcopy(fitted).set_params(joint_epochs=12).fit(*few)
    assert again.loss_curve_[-1] < min(fitted.loss_curve_[-2:])


def test_a_fit_that_was_not_fitted_starts_as_any(few):
    cold = ProtoPNetClassifier(**QUICK).fit(*few)
    assert_same_bits(ProtoPNetClassifier(**QUICK, warm_start=True).fit(*few), cold)


def test_without_it_every_fit_starts_anew(fitted, few):
    again = copy.deepcopy(fitted).set_params(warm_start=False).fit(*few)
    assert_same_bits(again, fitted)


def test_images_may_be_others_and_are_standardised_as_before(fitted, few):
    X, y = few
    again = copy.deepcopy(fitted).fit(2 * X[::-1][:31], y[::-1][:31])
    for name, value in fitted.state_["standardization"].items():
        assert np.array_equal(again.state_["standardization"][name], value)
    assert again.prototype_sample_indices_.max() < 31


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"n_prototypes_per_class": 3},
            "needs the n_prototypes_per_class of the last fit, 2, got 3",
        ),
        ({"prototype_depth": 7}, "needs the size of prototypes of the last fit"),
        ({"prototype_size": (2, 2)}, "needs the size of prototypes of the last fit"),
        ({"similarity": "cosine"}, "needs the similarity of the last fit, log, got cosine"),
        ({"n_pooled_patches": 2}, "needs the n_pooled_patches of the last fit"),
    ],
)
def test_another_network_is_an_error(fitted, few, changes, message):
    clf = copy.deepcopy(fitted).set_params(**changes)
    before = dict(vars(clf))
    with pytest.raises(ValueError, match=message):
        clf.fit(*few)
    assert vars(clf) == before


@pytest.mark.parametrize("what", ["classes", "shape", "module", "function"])
def test_other_data_that_do_not_fit_are_an_error(fitted, few, what):
    X, y = few
    clf = copy.deepcopy(fitted)
    if what == "module":
        clf.set_params(backbone=backbone(n_channels=5))
        message = "needs the backbone of the last fit"
    elif what == "function":
        clf.set_params(backbone=nn.Sequential(*backbone()[:2], nn.GELU()))
        message = "needs the backbone of the last fit"
    elif what == "classes":
        y = y + 1
        message = r"needs the classes of the last fit, \[0, 1, 2\], got \[1, 2, 3\]"
    else:
        X = X[:, 1:]
        message = r"needs the image shape of the last fit, \(8, 8, 1\), got \(7, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)


def test_a_file_holds_what_it_needs(few, tmp_path):
    clf = ProtoPNetClassifier(**QUICK, warm_start=True).fit(*few)
    clf.save(tmp_path / "model")
    assert_same_bits(load(tmp_path / "model").fit(*few), clf.fit(*few))


def test_checkpoints_and_memory_keep_it_apart(fitted, few, tmp_path):
    places = {"memory": str(tmp_path / "memory"), "checkpoint": tmp_path / "states"}
    places["checkpoint_interval"] = 0.0
    expected = copy.deepcopy(fitted).fit(*few)
    clf = copy.deepcopy(fitted).set_params(**places)
    with pytest.raises(KilledError):
        clf.set_callbacks(Kill(2)).fit(*few)
    assert len(list((tmp_path / "states").iterdir())) == 1
    epochs = Notes()
    clf.set_callbacks(epochs).fit(*few)
    assert sum("epoch" in call for call in epochs.calls) == 2  # begin and end of the second one
    assert_same_bits(clf, expected)
    again = copy.deepcopy(fitted).set_params(**places).set_callbacks(epochs).fit(*few)
    assert sum("epoch" in call for call in epochs.calls) == 2
    assert_same_bits(again, expected)
