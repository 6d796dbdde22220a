"""Early stopping: when it stops, and what comes back."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier

STILL = 1e-30
"""A learning rate that moves no float32."""


def backbone():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def classifier(**changes):
    plain = {
        "backbone": backbone(),
        "prototype_depth": 5,
        "n_prototypes_per_class": 2,
        "pretraining_epochs": 0,
        "warmup_epochs": 0,
        "joint_epochs": 60,
        "projection_interval": 100,
        "learning_rate": 0.02,
        "backbone_learning_rate": 0.02,
        "random_state": 0,
    }
    return ProtoPNetClassifier(**{**plain, **changes})


@pytest.fixture(scope="module")
def images():
    """Noise of three classes, of which one is a little brighter and one a little darker."""
    y = np.arange(60) % 3
    return np.random.default_rng(0).normal(size=(60, 5, 6)) + 0.3 * (y[:, None, None] - 1), y


class Keeping(nn.Module):
    """A backbone that keeps its map, as for Grad-CAM."""

    def __init__(self):
        super().__init__()
        self.layers, self.kept = backbone(), {}

    def forward(self, inputs):
        self.last = self.layers(inputs)
        self.kept["maps"] = [self.last]
        return self.last


class TestEarlyStopping:
    def test_a_backbone_may_keep_its_maps(self, images):
        plain, keeping = (
            classifier(backbone=each, early_stopping=True, joint_epochs=4).fit(*images)
            for each in (backbone(), Keeping())
        )
        assert np.array_equal(plain.coef_, keeping.coef_)
        assert plain.loss_curve_ == keeping.loss_curve_

    @pytest.mark.parametrize("interval", [2, 100])
    def test_a_stopped_fit_is_the_fit_that_ended_at_the_best_epoch(self, images, interval):
        X, y = images
        validation = {"X_val": X[30:], "y_val": y[30:]}
        stopped = classifier(
            early_stopping=True, n_iter_no_change=5, projection_interval=interval
        ).fit(X[:30], y[:30], **validation)
        scores = [row["validation_accuracy"] for row in stopped.history_ if row["stage"] == "joint"]
        best = int(np.argmax(scores)) + 1
        assert stopped.n_iter_ == best + 5 < 60
        ended = classifier(joint_epochs=best, projection_interval=interval)
        ended.fit(X[:30], y[:30], **validation)
        for part in ("network", "linear_head"):
            for name, value in ended.state_[part].items():
                assert np.array_equal(stopped.state_[part][name], value), name
        assert np.array_equal(stopped.decision_function(X), ended.decision_function(X))

    def test_the_best_network_counts_even_where_the_epochs_end_first(self, images):
        X, y = images
        train, validation = (X[:30], y[:30]), {"X_val": X[30:], "y_val": y[30:]}
        for seed in range(20):  # on some processors the last epoch of some seeds is the best
            clf = classifier(
                joint_epochs=9, early_stopping=True, n_iter_no_change=9, random_state=seed
            )
            scores = clf.fit(*train, **validation).history_table()["validation_accuracy"][:9]
            best = int(scores.argmax()) + 1
            if best < 9:
                break
        assert best < clf.n_iter_ == 9
        ended = classifier(joint_epochs=best, random_state=seed).fit(*train)
        assert np.array_equal(clf.decision_function(X), ended.decision_function(X))

    def test_a_stop_ends_with_a_projection_and_a_last_layer_and_begins_no_round(self, images):
        X, y = images
        clf = classifier(
            early_stopping=True,
            n_iter_no_change=3,
            projection_interval=2,
            learning_rate=STILL,
            backbone=nn.Conv2d(1, 4, 3),
            backbone_learning_rate=STILL,
        ).fit(X, y, X_val=X, y_val=y)
        assert clf.n_iter_ < 60
        ended = classifier(joint_epochs=clf.n_iter_, projection_interval=2).fit(X, y)
        for column in ("round", "stage", "epoch"):
            assert [row[column] for row in clf.history_] == [row[column] for row in ended.history_]

    def test_a_warm_up_does_not_count_as_no_change(self, images):
        X, y = images
        clf = classifier(warmup_epochs=5, joint_epochs=1, early_stopping=True, n_iter_no_change=1)
        assert clf.fit(X, y, X_val=X, y_val=y).n_iter_ == 6

    def test_the_pretraining_stops_by_itself_and_goes_on_with_its_best_backbone(self, images):
        X, y = images
        clf = classifier(
            pretraining_epochs=40,
            warmup_epochs=2,
            joint_epochs=3,
            early_stopping=True,
            n_iter_no_change=3,
        ).fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
        stages = [row["stage"] for row in clf.history_]
        scores = [row["validation_accuracy"] for row in clf.history_]
        n_pretraining = stages.count("pretraining")
        best = int(np.argmax(scores[:n_pretraining])) + 1
        assert n_pretraining == best + 3 < 40
        assert stages[n_pretraining:][:3] == ["warmup", "warmup", "joint"]
        joint = [row["validation_accuracy"] for row in clf.history_ if row["stage"] == "joint"]
        best_joint = int(np.argmax(joint)) + 1
        # One batch an epoch, which BatchNorm counts.
        counted = clf.backbone_[1].num_batches_tracked
        assert counted == best + best_joint

    def test_without_validation_images_a_stratified_part_is_set_aside(self, images):
        X, y = images
        clf = classifier(
            joint_epochs=1,
            early_stopping=True,
            validation_fraction=0.5,
            n_prototypes_per_class=20,  # as many as a class has images
        ).fit(X, y)
        sources = np.unique(clf.prototype_sample_indices_)
        assert np.bincount(y[sources]).max() <= 10
        assert clf.history_[0]["validation_accuracy"] in set((np.arange(31) / 30).tolist())
