"""Training on without what was forbidden, and with what was required where it is."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from quick import QUICK
from sklearn.datasets import load_digits
from test_checkpoint import Kill, KilledError
from test_classifier import assert_same_bits
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, load
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet._training._loss import (
    FORGETTING_WEIGHT,
    REMEMBERING_WEIGHT,
    forgetting,
    remembering,
)
from sklearn_protopnet.editing import PrototypeEditor

SETTINGS = {**QUICK, "n_prototypes_per_class": 3, "pretraining_epochs": 4, "warm_start": True}


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(n_class=3, return_X_y=True)
    return X[:90].reshape(-1, 8, 8), y[:90]


def module():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2))


@pytest.fixture(scope="module", params=["auto", "module", "frozen", "augmented", "rounds"])
def edited(data, request):
    changes = {
        "auto": {},
        "module": {"backbone": module()},
        "frozen": {"backbone_learning_rate": 0.0},
        "augmented": {"augment": "no_flip"},
        "rounds": {"joint_epochs": 3, "projection_interval": 2},
    }[request.param]
    clf = ProtoPNetClassifier(**{**SETTINGS, **changes}).fit(*data)
    editor = PrototypeEditor(clf, *data).forbid([0, 1, 4]).require([2, 8], min_weight=1.0)
    return editor.rename({2: "kept"}).classifier_


@pytest.fixture(scope="module")
def trained(edited, data):
    return copy.deepcopy(edited).fit(*data)


def distances_to(clf, X, vector):
    """Of the nearest patch of each image to a latent patch."""
    fitted = fitted_network(clf)
    source = fitted.source(fitted.prototype_source(np.array([0])).images)
    source = type(source)(type(source.images)(X[..., None]), source.standardization)
    return fitted.comparing(vector).gather(source, "distances")[0][:, 0]


def test_forbidden_patches_are_left(edited, trained, data):
    """No prototype of the class is as like them as the median image of other classes.

    But for those that are required.
    """
    X, y = data
    fitted = fitted_network(trained)
    owners = trained.prototype_classes_
    for number, image, position in zip(
        *(
            edited.state_["constraints"][f"patch_{name}"]
            for name in ("prototypes", "images", "positions")
        ),
        strict=True,
    ):
        source = fitted.source(type(fitted.prototype_source(np.array([0])).images)(image[None]))
        vector = fitted.patches(source)[0, [position]]
        others = y != owners[number]
        radius = np.median(distances_to(trained, X[others], vector))
        is_free = ~np.isin(np.arange(9), edited.state_["constraints"]["required"])
        members = fitted.prototypes.vectors[(owners == owners[number]) & is_free]
        assert (np.square(members - vector).sum(1) >= radius * (1 - 1e-5)).all()
        moved = trained.prototype_sample_indices_[number], trained.prototype_boxes_[number]
        was = edited.prototype_sample_indices_[number], edited.prototype_boxes_[number]
        assert moved[0] != was[0] or (moved[1] != was[1]).any()


def test_required_prototypes_stay_where_they_are(edited, trained, data):
    for number in (2, 8):
        assert_array_equal(trained.prototype_boxes_[number], edited.prototype_boxes_[number])
        row = trained.prototype_sample_indices_[number]
        assert_array_equal(data[0][row], edited.prototype_images_[number][..., 0])
        assert trained.prototype_distances_[number] == 0.0
    if edited.backbone_learning_rate != 0:
        assert (trained.prototypes_[2] != edited.prototypes_[2]).any()


def test_the_last_layer_is_solved_under_the_same_constraints(edited, trained, data):
    assert_array_equal(trained.coef_[:, [0, 1, 4]], 0.0)
    assert trained.coef_[0, 2] >= 1.0
    assert trained.coef_[2, 8] >= 1.0
    assert trained.last_layer_gap_ <= 1e-6 * trained.history_[-1]["loss"]
    assert trained.edits_ == edited.edits_
    assert trained.prototype_names_[2] == "kept"
    allowed = PrototypeEditor(trained, *data).allow([0, 1, 4]).classifier_
    assert allowed.coef_[:, [0, 1, 4]].any(0).all()


def test_history_says_what_it_cost(edited, trained):
    history = trained.history_table().iloc[len(edited.history_) :]
    assert history["stage"].tolist()[:2] == ["projection", "joint"]
    joint = history[history["stage"] == "joint"]
    parts = (
        joint["cross_entropy"]
        + edited.cluster_weight * joint["cluster"]
        + edited.separation_weight * joint["separation"]
        + joint["linear_head"].fillna(0.0)
        + FORGETTING_WEIGHT * joint["forgetting"]
        + REMEMBERING_WEIGHT * joint["remembering"]
    )
    assert_allclose(joint["loss"], parts, rtol=1e-5)
    assert (joint["remembering"] < 0).all()
    assert not history["forgetting"][history["stage"] != "joint"].notna().any()


def test_a_file_is_trained_on_alike(edited, trained, data, tmp_path):
    if isinstance(edited.backbone, nn.Module):
        pytest.skip("no file holds a module")
    edited.save(tmp_path / "edited.skops")
    again = load(tmp_path / "edited.skops").fit(*data)
    assert_same_bits(again, trained)


def test_a_killed_training_goes_on_to_the_same_bits(edited, trained, data, tmp_path):
    clf = copy.deepcopy(edited).set_params(checkpoint=tmp_path, checkpoint_interval=0.0)
    with pytest.raises(KilledError):
        clf.set_callbacks(Kill(2)).fit(*data)
    assert len(list(tmp_path.iterdir())) == 1
    assert_same_bits(clf.set_callbacks().fit(*data), trained)


def test_other_edits_are_another_training(edited, data, tmp_path):
    """What was forbidden is in the key of the cache."""
    cached = copy.deepcopy(edited).set_params(memory=str(tmp_path)).fit(*data)
    more = PrototypeEditor(edited, *data).forbid(5).classifier_.set_params(memory=str(tmp_path))
    other = more.fit(*data)
    assert (other.prototypes_ != cached.prototypes_).any()


def test_what_was_forbidden_is_remembered(edited, trained, data):
    """A further training keeps away from the first patches, not from those of now."""
    again = copy.deepcopy(trained).fit(*data)
    for name in ("forbidden", "patch_images", "patch_positions", "patch_prototypes"):
        assert_array_equal(again.state_["constraints"][name], edited.state_["constraints"][name])


def test_what_was_objected_to_outlives_the_number(edited, trained, data):
    """A prototype that has become another patch may be used, and the first one stays away."""
    editor = PrototypeEditor(trained, *data).allow(0)
    for name in ("patch_images", "patch_positions"):
        now = editor.classifier_.state_["constraints"][name]
        assert_array_equal(now, edited.state_["constraints"][name])
    asked = editor.forbid(0).classifier_.state_["constraints"]
    assert asked["patch_prototypes"].tolist() == [0, 1, 4, 0]
    choice = {"schema": "sklearn_protopnet.choice", "schema_version": 1}
    choice |= {"forbid": [0], "keep": [], "names": {}}
    again = editor.apply(choice).classifier_.state_["constraints"]
    assert again["patch_prototypes"].tolist() == [0, 1, 4, 0]
    assert editor.allow(0).classifier_.state_["constraints"]["patch_prototypes"].tolist() == [
        0,
        1,
        4,
    ]


def test_what_is_pruned_is_no_patch_to_stay_away_from(trained, data):
    editor = PrototypeEditor(trained, *data).prune(n_nearest=20, min_same_class=20)
    assert len(editor.log()["prototypes"].iloc[-1]) > 0
    assert len(editor.classifier_.state_["constraints"]["patch_prototypes"]) == 3


def test_names_go_with_the_patches(edited, data):
    named = PrototypeEditor(edited, *data).rename({0: "moves", 8: "stays"}).classifier_
    assert named.fit(*data).prototype_names_[[0, 2, 8]].tolist() == ["", "kept", "stays"]


@pytest.mark.parametrize("seed", range(3))
def test_required_images_are_not_set_aside(edited, data, seed):
    clf = copy.deepcopy(edited).set_params(early_stopping=True, validation_fraction=0.3)
    trained = clf.set_params(random_state=seed).fit(*data)
    assert_array_equal(trained.prototype_boxes_[8], edited.prototype_boxes_[8])


def test_images_are_set_aside_where_none_is_required(data):
    clf = ProtoPNetClassifier(**SETTINGS, early_stopping=True).fit(*data)
    forbidden = PrototypeEditor(clf, *data).forbid(0).classifier_
    for earlier in (clf, forbidden):
        n_rows = len(earlier.history_)
        added = copy.deepcopy(earlier).fit(*data).history_table().iloc[n_rows:]
        assert added["validation_accuracy"].notna().any()


def test_a_required_image_that_is_missing_is_an_error(edited, data):
    X, y = data
    kept = np.arange(len(X)) != edited.prototype_sample_indices_[8]
    clf = copy.deepcopy(edited)
    with pytest.raises(ValueError, match="must be among those to train on, that of prototype 8"):
        clf.fit(X[kept], y[kept])
    assert_array_equal(clf.prototypes_, edited.prototypes_)


def test_added_prototypes_and_classes_are_trained_on():
    X, y = load_digits(n_class=4, return_X_y=True)
    X = X[:120].reshape(-1, 8, 8)
    three = y[:120] == 3
    clf = ProtoPNetClassifier(**SETTINGS, precision="float32").fit(X[~three], y[:120][~three])
    editor = PrototypeEditor(clf, X[~three], y[:120][~three])
    edited = editor.add_class(X[three], 3, n_prototypes=2).forbid(0).classifier_
    trained = copy.deepcopy(edited).fit(X, y[:120])
    assert trained.prototype_classes_.tolist() == edited.prototype_classes_.tolist()
    assert trained.loss_curve_[-1] < 10
    assert (trained.predict(X[three]) == 3).mean() > 0.5
    assert (trained.prototypes_ != edited.prototypes_).any((1, 2, 3)).all()


def test_the_costs_by_hand():
    similarities = torch.tensor([[1.0, 5.0, 9.0], [2.0, 4.0, 1.0]])
    own = torch.tensor([[True, True, False], [False, False, True]])
    assert forgetting(similarities, own, 2).item() == (5 + 1) / 2
    assert forgetting(similarities[:1], own[:1], 2).item() == 5 / 2
    assert forgetting(similarities[:0], own[:0], 0).item() == 0
    assert remembering(torch.tensor([1.0, 4.0]), 2).item() == -2.5
    assert remembering(torch.tensor([4.0]), 2).item() == -2
    assert remembering(torch.tensor([]), 0).item() == 0
