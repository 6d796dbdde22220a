"""Caches: maps of a backbone that does not move, trained networks, and the bytes of both."""

import errno
import os
import pickle
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_classifier import assert_same_bits
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet._network._architecture import CONTRAST
from sklearn_protopnet._training import FeatureCache, _feature_cache, _result_cache
from sklearn_protopnet._validation import check_images

STEPS, GIVEN = [], []
"""What `Backbone` notes; attributes of its class would be in the keys."""


class Backbone(nn.Module):
    """Notes the steps of its trainings, and how many different images it is given otherwise."""

    def __init__(self, stride=1):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3, stride=stride), nn.BatchNorm2d(4), nn.ReLU()
            )

    def forward(self, images):
        if torch.is_grad_enabled():
            STEPS.append(len(images))
        elif images.abs().amax() > CONTRAST:  # no blank ones, by which the network is built
            GIVEN.append(len(torch.unique(images.flatten(1), dim=0)))
        return self.layers(images)


@pytest.fixture
def given():
    """How many images a backbone was given, call by call."""
    GIVEN.clear()
    return GIVEN


@pytest.fixture
def steps():
    STEPS.clear()
    return STEPS


@pytest.fixture
def memory(tmp_path):
    return joblib.Memory(str(tmp_path / "cache"), verbose=0)


def files_of(memory):
    return sorted(Path(memory.store_backend.location).rglob("output.pkl"))


@pytest.fixture(scope="module")
def images():
    """Noise of three classes, of which one is brighter and one darker."""
    y = np.arange(17) % 3
    return np.random.default_rng(0).normal(size=(17, 5, 6)) + y[:, None, None] - 1, y


def classifier(**changes):
    plain = {
        "backbone": Backbone(),
        "prototype_depth": 5,
        "n_prototypes_per_class": 2,
        "warmup_epochs": 1,
        "joint_epochs": 2,
        "projection_interval": 1,
        "learning_rate": 0.01,
        "backbone_learning_rate": 0,
        "batch_size": 7,
        "random_state": 0,
    }
    return ProtoPNetClassifier(**{**plain, **changes})


def assert_same_fits(one, other, X):
    assert_same_bits(one, other)
    for name in ("prototype_sample_indices_", "prototype_boxes_", "prototype_distances_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.loss_curve_ == other.loss_curve_
    assert np.array_equal(one.decision_function(X), other.decision_function(X))


class Deep(nn.Sequential):
    """A backbone whose maps are deep, and cheap to compute."""

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            super().__init__(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 256, 1), nn.ReLU())


N_BYTES = 4 * 520 * 16 * 16 * 256
"""The maps of `fit_deep` have so many bytes: more than are kept in memory."""


def fit_deep():
    y = np.arange(520) % 2
    X = np.random.default_rng(0).normal(size=(520, 18, 18)) + y[:, None, None]
    settings = {"warmup_epochs": 0, "joint_epochs": 1, "batch_size": 65}
    return classifier(backbone=Deep(), precision="bfloat16", **settings).fit(X, y)


@pytest.fixture(scope="module")
def kept():
    """A fit, the files that it opened, as others hold them open, and the most memory."""
    opened, held, real = [], [], tempfile.TemporaryFile

    def note():
        opened.append(real())
        held.append(os.fdopen(os.dup(opened[-1].fileno())))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", note)
        tracemalloc.start()
        clf = fit_deep()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    yield clf, opened, held, peak
    for file in held:
        file.close()


class TestLargeMaps:
    def test_they_are_in_a_file_that_ends_with_the_fit(self, kept):
        _, (opened,), (held,), peak = kept
        assert os.fstat(held.fileno()).st_size == N_BYTES
        assert opened.closed
        assert peak < N_BYTES / 3

    @pytest.mark.parametrize("trouble", ["no room", "full"])
    def test_without_room_they_are_computed_when_asked_for(self, kept, monkeypatch, trouble):
        def fail(*args):
            raise OSError(28, "No space left on device")

        if trouble == "no room":
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        else:
            full = SimpleNamespace(seek=fail, close=lambda: None)
            monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        computed = fit_deep()
        np.testing.assert_allclose(computed.loss_curve_, kept[0].loss_curve_, rtol=1e-5)
        for name in ("prototype_sample_indices_", "prototype_distances_"):
            assert np.array_equal(getattr(computed, name), getattr(kept[0], name))


class TestSharedMaps:
    def test_fits_with_a_memory_are_the_same_bits_and_run_the_backbone_once(
        self, images, memory, given
    ):
        X, y = images
        plain = classifier().fit(X, y)
        given.clear()
        first = classifier(memory=memory).fit(X, y)
        assert sum(given) == 17
        again = classifier(memory=memory).fit(X, y)
        assert sum(given) == 17
        for clf in (first, again):
            assert_same_fits(clf, plain, X)

    def test_a_prediction_runs_it_once_more_for_its_order_and_nothing_else_does(
        self, images, memory, given
    ):
        X, y = images
        clf = classifier(memory=memory).fit(X, y)
        given.clear()
        clf.predict(X)
        assert sum(given) == 17
        given.clear()
        clf.predict(X)
        clf.explain(X)
        clf.refit_last_layer(X[::-1], y[::-1])  # which has the order of a fit
        pickle.loads(pickle.dumps(clf)).transform(X)
        for changes in ({"prototype_depth": 3}, {"similarity": "cosine"}, {"random_state": 1}):
            classifier(memory=memory, **changes).fit(X, y)
        assert given == []

    @pytest.mark.parametrize("what", ["image", "standardization", "parameter", "statistic"])
    def test_whatever_maps_depend_on_gives_other_ones(self, images, memory, given, what):
        X, y = images
        clf = classifier(memory=memory).fit(X, y)
        clf.predict(X)
        given.clear()
        if what == "image":
            X = X.copy()
            X[8, 2, 3] = np.nextafter(X[8, 2, 3], np.inf)
            clf.predict(X)
        else:
            module = Backbone()
            if what == "standardization":
                X = 2 * X + 1e-3
            elif what == "parameter":
                module.layers[0].weight.data[0, 0, 0, 0] += 1e-6
            else:
                module.layers[1].running_mean[0] += 1e-6
            other = classifier(backbone=module, memory=memory).fit(X, y)
            assert_same_fits(other, classifier(backbone=module).fit(X, y), X)
        assert sum(given) >= 17

    def test_a_search_trains_once_for_each_split_whatever_the_penalties(
        self, images, memory, steps
    ):
        X, y = images
        grid = {"l1_weight": [1e-4, 1e-2], "l2_weight": [1e-3, 1e-1]}
        clf = classifier(memory=memory, backbone_learning_rate=1e-3, projection_interval=2)
        search = GridSearchCV(clf, grid, cv=2).fit(X, y)
        n_batches = [-(-n // 7) for n in (8, 9, 17)]  # two splits, and the fit of the best
        assert len(steps) == 2 * sum(n_batches)
        plain = clone(search.best_estimator_).set_params(memory=None).fit(X, y)
        assert_same_fits(search.best_estimator_, plain, X)

    def test_several_rounds_depend_on_the_penalties(self, images, memory):
        X, y = images
        for l2_weight in (1e-3, 1e-1):
            clf = classifier(memory=memory, l2_weight=l2_weight)
            assert_same_fits(clf.fit(X, y), clone(clf).set_params(memory=None).fit(X, y), X)

    def test_maps_of_a_backbone_that_moves_are_in_no_memory(self, images, memory, given):
        X, y = images
        clf = classifier(memory=memory, backbone_learning_rate=1e-3).fit(X, y)
        given.clear()
        for _ in range(2):
            clf.predict(X)
        assert given == [17, 17]

    def test_what_is_missing_is_computed_and_nothing_else(self, memory, given):
        """Large images, of which a chunk holds four; as after a fit that was cut off."""
        X = np.random.default_rng(0).normal(size=(10, 256, 256))
        y = np.arange(10) % 2
        settings = {"backbone": Backbone(stride=64), "joint_epochs": 0, "memory": memory}
        clf = classifier(**settings).fit(X, y)
        expected = clf.transform(X)
        for path in files_of(memory)[::2]:
            shutil.rmtree(path.parent)
        given.clear()
        found = clone(clf).fit(X, y).transform(X)
        assert 0 < sum(given) < 20  # ten for the fit, and ten in the order of X
        np.testing.assert_array_equal(found, expected)


class TestDamage:
    """One byte of a cached result that is another one."""

    @pytest.mark.parametrize(
        ("kind", "place"),
        [("network", 0.5), *(("feature_maps", share) for share in (0.0, 0.5, 1.0))],
    )
    def test_a_fit_is_the_same_and_a_warning_names_the_entry(self, images, memory, kind, place):
        X, y = images
        classifier(memory=memory).fit(X, y)
        path = next(path for path in files_of(memory) if path.parent.parent.name == kind)
        # Another network asks for the maps, but not for the network.
        changes = {"weight_decay": 0.5} if kind == "feature_maps" else {}
        clf, plain = classifier(memory=memory, **changes), classifier(**changes).fit(X, y)
        written = path.read_bytes()
        path.write_bytes(_flipped(written, round(place * (len(written) - 1))))
        with pytest.warns(UserWarning, match=rf"{path.parent.name}.* is damaged and is computed"):
            clf.fit(X, y)
        assert_same_fits(clf, plain, X)
        assert_same_fits(clone(clf).fit(X, y), plain, X)

    @pytest.mark.parametrize("content", [b"", b"x", pickle.dumps(("digest", "no bytes"))])
    def test_what_is_no_result_at_all_is_computed_again(self, images, memory, content):
        X, y = images
        clf = classifier(memory=memory, backbone_learning_rate=1e-3).fit(X, y)
        (path,) = files_of(memory)
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="damaged"):
            assert_same_fits(clone(clf).fit(X, y), clf, X)

    def test_an_entry_in_the_place_of_another_one_is_damaged_too(self, images, memory):
        X, y = images
        moving = {"memory": memory, "backbone_learning_rate": 1e-3}
        clf = classifier(**moving).fit(X, y)
        (path,) = files_of(memory)
        classifier(**moving, random_state=1).fit(X, y)
        (other,) = set(files_of(memory)) - {path}
        shutil.copy(other, path)
        with pytest.warns(UserWarning, match="damaged"):
            assert_same_fits(clone(clf).fit(X, y), clf, X)

    def test_a_memory_that_is_mapped_gives_the_same_bits(self, images, tmp_path):
        X, y = images
        mapped = joblib.Memory(str(tmp_path), mmap_mode="r", verbose=0)
        plain = classifier().fit(X, y)
        for _ in range(2):
            assert_same_fits(classifier(memory=mapped).fit(X, y), plain, X)


def _flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("rate", [1e-3, 0])
def test_a_memory_that_goes_costs_no_training(images, memory, rate):
    location = Path(memory.location)

    def unplug(image):
        if location.is_dir():
            shutil.rmtree(location)
            location.write_text("a file in its place")
        return image

    moving = {"backbone_learning_rate": rate, "projection_interval": None}
    clf = classifier(memory=memory, augment=unplug, **moving)
    with pytest.warns(UserWarning, match=r"A result could not be kept in .*: .*directory"):
        clf.fit(*images)
    plain = classifier(augment=lambda image: image, **moving).fit(*images)
    assert_same_bits(clf, plain)


def test_intervals_of_one_round_are_one_training(images, memory, steps):
    n_steps = []
    for interval in (None, 2, 7):
        steps.clear()
        moving = {"backbone_learning_rate": 1e-3, "projection_interval": interval}
        classifier(memory=memory, **moving).fit(*images)
        n_steps.append(len(steps))
    assert n_steps[0] > 0 == n_steps[1] == n_steps[2]


def test_what_goes_while_it_is_read_is_computed_again(images, memory, monkeypatch):
    X, _ = images
    clf = classifier(memory=memory).fit(*images)
    expected = clf.decision_function(X)
    real = _result_cache.is_cached

    def is_cached_and_goes(*args):
        was_there = real(*args)
        memory.clear(warn=False)
        return was_there

    monkeypatch.setattr(_result_cache, "is_cached", is_cached_and_goes)
    assert np.array_equal(clf.decision_function(X), expected)


def test_early_stopping_asks_a_frozen_backbone_once(images, given):
    counts = []
    for is_stopped in (False, True):
        given.clear()
        classifier(early_stopping=is_stopped, validation_fraction=0.2, joint_epochs=6).fit(*images)
        counts.append(sum(given))
    assert counts[0] == counts[1]


def test_augmented_images_pass_the_cache_by(images, memory, steps):
    """Through a frozen backbone: each step sees its own images, and plain ones are kept."""
    X, y = images
    clf = classifier(memory=memory, augment="paper").fit(X, y)
    assert sum(steps) == 3 * 17
    assert_same_fits(clf, classifier(augment="paper").fit(X, y), X)


class TestKeptMaps:
    """A process keeps the maps of its part, and of all images where batches ask for them."""

    @pytest.fixture
    def features(self, fitted, digits):
        network = fitted_network(fitted)
        source = network.source(check_images(fitted, digits[0][:40]))
        return FeatureCache(network.network, source, source.rows, joblib.Memory(None))

    def test_kept_or_not_they_are_the_same(self, features):
        order = np.random.default_rng(0).permutation(40)
        plain = features.batch(order)
        for positions in (np.arange(13), np.arange(40), np.arange(5)):
            features.fill(positions)
            assert torch.equal(features.batch(order), plain)
            for index, maps in features.chunks(np.arange(10, 30)):
                assert torch.equal(maps[: len(index)], features.batch(index))

    def test_what_is_kept_is_not_computed(self, features, monkeypatch):
        features.fill(np.arange(20))
        monkeypatch.setattr(_feature_cache, "backbone_maps", None)
        assert len(features.batch(np.arange(5, 15))) == 10
        features.fill(np.arange(20))
        with pytest.raises(TypeError, match="not callable"):
            features.fill(np.arange(21))
        features.clear()
        with pytest.raises(TypeError, match="not callable"):
            features.batch(np.arange(5))

    def test_where_the_room_has_gone_nothing_is_kept(self, features, monkeypatch):
        class Full:
            def __setitem__(self, index, values):
                if index[-1] >= 20:
                    raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(_feature_cache, "_room", lambda *_: Full())
        plain = features.batch(np.arange(40))
        features.fill(np.arange(10))
        features.fill(np.arange(40))
        assert torch.equal(features.batch(np.arange(40)), plain)
        assert torch.equal(features.batch(np.arange(10)), plain[:10])
