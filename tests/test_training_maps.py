"""Maps of a backbone that does not move: computed once, the same bits from wherever they come."""

import copy
import gc
import pickle
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn_protopnet._training._maps import KeptMaps, Maps
from test_classifier import assert_same_bits
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._images import ArrayImages, ImageSource, Standardization, _source
from sklearn_protopnet._network import Architecture, backbone_maps, inspect_maps
from sklearn_protopnet._training import (
    LabelledImages,
    TrainingSet,
    _maps,
    canonical_training_set,
    frozen_maps,
)

CHUNK = 4
"""Images of a chunk: 17 images are four chunks and one of a single image, filled up."""

NOWHERE = joblib.Memory(None, verbose=0)


class Backbone(nn.Module):
    """A small backbone that notes how many images it is given; its copies share the notes."""

    seen: ClassVar = []

    def __init__(self, depth=4):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(1, depth, 3), nn.BatchNorm2d(depth), nn.ReLU())

    def forward(self, images):
        if images.any():  # the blank image of which the receptive field is read off
            self.seen.append(len(images))
        return self.layers(images)


class Rows(Backbone):
    """Its maps have another order in memory, in which a channel comes after the other."""

    def forward(self, images):
        return super().forward(images).clone(memory_format=torch.contiguous_format)


@pytest.fixture(autouse=True)
def chunks_of_four(monkeypatch):
    monkeypatch.setattr(_source, "CHUNK_PIXELS", CHUNK * 5 * 6)


@pytest.fixture
def seen():
    """How many images a backbone was given, call by call."""
    Backbone.seen.clear()
    return Backbone.seen


@pytest.fixture(params=["memory", "file"])
def store(request, monkeypatch):
    """Where maps are kept."""
    if request.param == "file":
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", 0)
    return request.param


@pytest.fixture
def no_room(monkeypatch):
    monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))


@pytest.fixture
def memory(tmp_path):
    return joblib.Memory(str(tmp_path / "cache"), verbose=0)


def network_of(backbone=None, seed=0):
    network, _ = Architecture(backbone or Backbone(), (5, 6, 1), 3, 2, 5, (1, 1), "log").build(seed)
    network.requires_grad_(False)
    return network.eval()


def pixels_of(n=17, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 5, 6, 1))


def source_of(pixels=None, mean=0.1, scale=1.5):
    pixels = pixels_of() if pixels is None else pixels
    standard = Standardization(np.array([mean]), np.array([scale]))
    return ImageSource(ArrayImages(pixels), standard)


def images_of(rows=range(17)):
    """A set of images, as rows of the source."""
    rows = np.array(rows)
    members = TrainingSet(rows, np.zeros(len(rows), np.int64), np.ones(len(rows)))
    return LabelledImages(source_of(), members)


def bits(tensor):
    return tensor.contiguous().view(torch.int32)


def assert_same_chunks(found, expected):
    """Positions, and all of the chunk: what fills it up too."""
    found, expected = list(found), list(expected)
    assert len(found) == len(expected) > 0
    for (index, maps), (other_index, other_maps) in zip(found, expected, strict=True):
        assert np.array_equal(index, other_index)
        assert torch.equal(bits(maps), bits(other_maps))


def files_of(memory):
    """Files of what is in joblib's memory."""
    return sorted(Path(memory.store_backend.location).rglob("output.pkl"))


class TestKeptMaps:
    @staticmethod
    def strange_values(n=11):
        """Any bits at all: NaN with payloads, zeros with signs, subnormal numbers."""
        drawn = np.random.default_rng(0).integers(0, 2**32, (n, 3, 2, 5), dtype=np.uint32)
        drawn[0, 0, 0, :4] = 0x80000000, 0x7FC00001, 0x00000001, 0xFF800000
        return torch.from_numpy(drawn.view(np.float32))

    @staticmethod
    def kept(values, sizes=(4, 1, 6)):
        kept = KeptMaps(len(values), tuple(values.shape[1:]))
        for index in np.split(np.arange(len(values)), np.cumsum(sizes)[:-1]):
            kept.append(index, values[index])
        return kept

    def test_they_come_back_to_the_last_bit_in_any_order(self, store):
        values = self.strange_values()
        kept = self.kept(values)
        order = np.random.default_rng(1).permutation(11)
        for index in (np.arange(11), order, order[:3], np.array([7]), np.array([10, 0, 10, 10])):
            assert torch.equal(bits(kept.read(index)), bits(values[index]))

    def test_they_are_read_channels_last_whatever_their_order_was(self, store):
        values = self.strange_values()
        for form in (torch.contiguous_format, torch.channels_last):
            found = self.kept(values.contiguous(memory_format=form)).read(np.arange(11))
            assert found.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(bits(found), bits(values))

    def test_what_is_read_may_be_changed(self, store):
        values = self.strange_values()
        kept = self.kept(values)
        kept.read(np.array([2])).zero_()
        assert torch.equal(bits(kept.read(np.array([2]))), bits(values[[2]]))

    def test_only_what_is_large_is_in_a_file(self, monkeypatch):
        opened = []
        real = tempfile.TemporaryFile
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: opened.append(real()) or opened[-1])
        n_bytes = 4 * 11 * 3 * 2 * 5
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", n_bytes)
        self.kept(self.strange_values())
        assert not opened
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", n_bytes - 1)
        kept = self.kept(self.strange_values())
        (file,) = opened
        assert file.seek(0, 2) == n_bytes
        assert not file.closed
        del kept
        gc.collect()
        assert file.closed

    def test_there_is_room_for_half_of_what_is_free(self, monkeypatch):
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", 100)
        asked = []
        free = SimpleNamespace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or free)
        assert KeptMaps.has_room(25, (5, 1, 1))  # 500 bytes
        assert not KeptMaps.has_room(126, (1, 1, 1))  # 504 bytes
        free.free = 0
        assert KeptMaps.has_room(5, (1, 5, 1))  # 100 bytes, in memory
        assert not KeptMaps.has_room(1, (1, 2, 13))  # 104 bytes
        assert set(asked) == {tempfile.gettempdir()}

    def test_room_is_counted_without_overflow(self):
        assert not KeptMaps.has_room(2**40, (2**12, 2**10, 2**10))


class TestMaps:
    @pytest.mark.parametrize("backbone", [Backbone(), Backbone(1), Rows(), Rows(1)])
    def test_kept_or_not_chunks_are_the_same_bits(self, store, backbone):
        rows = np.random.default_rng(0).permutation(17)[:14]
        network, images = network_of(backbone), images_of(rows)
        maps = Maps(network, images, NOWHERE)
        computed = list(maps.chunks())
        assert_same_chunks(computed, backbone_maps(network, images.source.chunks(rows)))
        assert [len(chunk) for _, chunk in computed] == 4 * [CHUNK]
        maps.keep(in_file=True)
        assert_same_chunks(maps.chunks(), computed)
        for kept, other in zip(
            inspect_maps(network, maps.chunks()), inspect_maps(network, computed), strict=True
        ):  # whatever the order in memory
            for name, value in vars(other).items():
                assert np.array_equal(getattr(kept, name), value), name

    def test_they_are_computed_once_until_they_are_dropped(self, store, seen):
        maps = Maps(network_of(), images_of(), NOWHERE)
        maps.keep(in_file=True)
        maps.keep(in_file=True)
        for _ in range(3):
            assert len(list(maps.chunks())) == 5
        assert seen == 5 * [CHUNK]
        maps.drop()
        list(maps.chunks())
        assert seen == 10 * [CHUNK]

    def test_dropped_maps_are_those_of_the_moved_backbone(self, store):
        network = network_of()
        maps = Maps(network, images_of(), NOWHERE)
        maps.keep(in_file=True)
        before = list(maps.chunks())
        with torch.no_grad():
            network.backbone.layers[0].bias += 1
        assert_same_chunks(maps.chunks(), before)
        maps.drop()
        moved = list(maps.chunks())
        assert (moved[0][1] != before[0][1]).any()
        maps.keep(in_file=True)
        assert_same_chunks(maps.chunks(), moved)

    def test_one_look_is_not_worth_a_file(self, monkeypatch):
        maps = Maps(network_of(), images_of(), NOWHERE)
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", 0)
        maps.keep(in_file=False)
        assert maps.kept is None
        assert not maps.is_too_large

    def test_when_the_room_ends_nothing_is_kept(self, monkeypatch, seen):
        maps = Maps(network_of(), images_of(), NOWHERE)

        def fail(self, index, values):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(KeptMaps, "append", fail)
        maps.keep(in_file=True)
        assert maps.kept is None
        assert maps.is_too_large
        n_seen = len(seen)
        maps.keep(in_file=True)
        assert len(seen) == n_seen

    @pytest.mark.parametrize(
        ("module", "name"), [(shutil, "disk_usage"), (tempfile, "TemporaryFile")]
    )
    def test_without_a_place_for_files_nothing_is_kept(self, monkeypatch, seen, module, name):
        maps = Maps(network_of(), images_of(), NOWHERE)
        expected = list(maps.chunks())
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", 0)

        def fail(*args):
            raise FileNotFoundError(2, "No usable temporary directory found")

        monkeypatch.setattr(module, name, fail)
        maps.keep(in_file=True)
        assert maps.kept is None
        assert maps.is_too_large
        assert_same_chunks(maps.chunks(), expected)

    def test_without_room_nothing_is_kept(self, no_room, seen):
        maps = Maps(network_of(), images_of(), NOWHERE)
        maps.keep(in_file=True)
        assert maps.kept is None
        assert seen == [CHUNK]  # of which the shape of a map is known
        assert len(list(maps.chunks())) == 5


class TestMemory:
    """`frozen_maps`, with a memory of joblib's."""

    def test_a_second_call_does_not_run_the_backbone(self, memory, seen):
        network, source = network_of(), source_of()
        expected = list(backbone_maps(network, source.chunks(np.arange(17))))
        seen.clear()
        assert_same_chunks(frozen_maps(network, source, np.arange(17), memory), expected)
        assert seen == 5 * [CHUNK]
        assert_same_chunks(frozen_maps(network, source, np.arange(17), memory), expected)
        assert seen == 5 * [CHUNK]
        assert sorted(len(joblib.load(path)) for path in files_of(memory)) == [1, 4, 4, 4, 4]

    def test_without_a_memory_it_runs_every_time(self, seen):
        for _ in range(2):
            list(frozen_maps(network_of(), source_of(), np.arange(17), NOWHERE))
        assert seen == 10 * [CHUNK]

    @pytest.mark.parametrize("missing", [[0], [2], [4], [1, 3], [0, 1, 4], [0, 1, 2, 3, 4]])
    def test_only_what_is_missing_is_computed(self, memory, seen, missing):
        network, source = network_of(), source_of()
        expected = list(backbone_maps(network, source.chunks(np.arange(17))))
        for i, (index, _) in enumerate(expected):
            if i not in missing:
                list(frozen_maps(network, source, index, memory))
        seen.clear()
        assert_same_chunks(frozen_maps(network, source, np.arange(17), memory), expected)
        assert seen == len(missing) * [CHUNK]

    def test_what_another_process_has_cached_meanwhile_is_taken(self, memory, seen):
        network, source = network_of(), source_of()
        expected = list(backbone_maps(network, source.chunks(np.arange(17))))
        chunks = frozen_maps(network, source, np.arange(17), memory)
        found = [next(chunks)]
        for index in (np.arange(4, 8), np.arange(12, 16)):
            list(frozen_maps(network, source, index, memory))
        seen.clear()
        assert_same_chunks([*found, *chunks], expected)
        assert seen == 2 * [CHUNK]  # those of 8 to 11 and of 16

    def test_what_has_gone_meanwhile_is_computed(self, memory, seen):
        network, source = network_of(), source_of()
        expected = list(frozen_maps(network, source, np.arange(17), memory))
        chunks = frozen_maps(network, source, np.arange(17), memory)
        found = [next(chunks)]
        memory.clear(warn=False)
        seen.clear()
        assert_same_chunks([*found, *chunks], expected)
        assert seen == 4 * [CHUNK]

    def test_equal_chunks_share_an_entry(self, memory, seen):
        pixels = pixels_of(4)
        source = source_of(np.concatenate([pixels, pixels, pixels_of(5, seed=1)]))
        network, rows = network_of(), np.arange(13)
        expected = list(backbone_maps(network, source.chunks(rows)))
        assert_same_chunks(frozen_maps(network, source, rows, memory), expected)
        assert len(files_of(memory)) == 3
        assert_same_chunks(frozen_maps(network, source, rows, memory), expected)

    @pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda _: b"x"])
    def test_a_damaged_file_is_computed_anew(self, memory, seen, damage):
        network, source = network_of(), source_of()
        expected = list(frozen_maps(network, source, np.arange(17), memory))
        for path in files_of(memory)[1:4]:
            path.write_bytes(damage(path.read_bytes()))
        seen.clear()
        for _ in range(2):
            assert_same_chunks(frozen_maps(network, source, np.arange(17), memory), expected)
        assert seen == 3 * [CHUNK]

    def test_a_memory_that_is_mapped_gives_the_same_bits(self, tmp_path, seen):
        network, source = network_of(), source_of()
        expected = list(backbone_maps(network, source.chunks(np.arange(17))))
        memory = joblib.Memory(str(tmp_path), mmap_mode="r", verbose=0)
        seen.clear()
        for _ in range(2):
            found = list(frozen_maps(network, source, np.arange(17), memory))
            assert_same_chunks(found, expected)
            for _, maps in found:
                maps.zero_()  # a user's memory is not written to
        assert seen == 5 * [CHUNK]

    def test_images_in_another_order_are_computed_anew(self, memory, seen):
        network, source = network_of(), source_of()
        list(frozen_maps(network, source, np.arange(17), memory))
        seen.clear()
        order = np.random.default_rng(0).permutation(17)
        expected = list(backbone_maps(network, source.chunks(order)))
        seen.clear()
        assert_same_chunks(frozen_maps(network, source, order, memory), expected)
        assert seen == 5 * [CHUNK]

    def test_images_in_other_rows_are_not(self, memory, seen):
        pixels = pixels_of()
        network, source = network_of(), source_of(pixels)
        expected = list(frozen_maps(network, source, np.arange(17), memory))
        seen.clear()
        backwards = source_of(pixels[::-1].astype(np.longdouble))
        found = frozen_maps(network, backwards, np.arange(17)[::-1], memory)
        assert_same_chunks(found, expected)
        assert seen == []

    @pytest.mark.parametrize(
        "change",
        [
            {"pixels": pixels_of(seed=1)},
            {"mean": np.nextafter(0.1, 1)},
            {"scale": np.nextafter(1.5, 1)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_other_images_and_standardizations_have_other_maps(self, memory, seen, change):
        network = network_of()
        list(frozen_maps(network, source_of(), np.arange(17), memory))
        expected = list(backbone_maps(network, source_of(**change).chunks(np.arange(17))))
        seen.clear()
        found = frozen_maps(network, source_of(**change), np.arange(17), memory)
        assert_same_chunks(found, expected)
        assert seen == 5 * [CHUNK]
        assert len(files_of(memory)) == 10

    def test_an_image_that_differs_in_its_last_bit_concerns_its_chunk(self, memory, seen):
        pixels = pixels_of()
        network = network_of()
        list(frozen_maps(network, source_of(pixels), np.arange(17), memory))
        seen.clear()
        pixels[9, 2, 3, 0] = np.nextafter(pixels[9, 2, 3, 0], np.inf)
        list(frozen_maps(network, source_of(pixels), np.arange(17), memory))
        assert seen == [CHUNK]

    @pytest.mark.parametrize("name", ["layers.0.weight", "layers.1.running_mean"])
    def test_other_parameters_and_statistics_have_other_maps(self, memory, seen, name):
        network, other = network_of(), network_of()
        other.backbone.state_dict()[name].flatten()[0].add_(1e-6)
        expected = list(backbone_maps(other, source_of().chunks(np.arange(17))))
        list(frozen_maps(network, source_of(), np.arange(17), memory))
        seen.clear()
        assert_same_chunks(frozen_maps(other, source_of(), np.arange(17), memory), expected)
        assert seen == 5 * [CHUNK]

    def test_what_comes_after_the_backbone_does_not_matter(self, memory, seen):
        list(frozen_maps(network_of(seed=0), source_of(), np.arange(17), memory))
        seen.clear()
        list(frozen_maps(network_of(seed=1), source_of(), np.arange(17), memory))
        assert seen == []

    def test_neither_does_what_training_does_to_a_backbone(self):
        network, source = network_of(), source_of()
        key = _maps._backbone_key(network, source)
        network.train().requires_grad_(True)
        assert _maps._backbone_key(network, source) == key
        assert all(part.training for part in network.modules())
        assert all(parameter.requires_grad for parameter in network.parameters())

    def test_other_devices_shapes_and_backbones_have_other_keys(self):
        def key(backbone, device="cpu", pixels=None):
            prototypes = SimpleNamespace(device=torch.device(device))
            network = SimpleNamespace(
                backbone=backbone, backbone_origin=None, prototypes=prototypes
            )
            return _maps._backbone_key(network, source_of(pixels))

        assert key(Backbone()) == key(copy.deepcopy(Backbone()))
        assert key(Backbone(), "cuda:0") != key(Backbone())
        assert key(Backbone(), pixels=pixels_of().reshape(17, 6, 5, 1)) != key(Backbone())
        assert key(Rows()) != key(Backbone())  # the same parameters

    def test_a_backbone_that_has_a_name_is_known_by_that(self):
        def key(backbone="auto", shape=(8, 8, 1), stride=None, moved=False):
            plan = Architecture(backbone, shape, 3, 2, 5, (1, 1), "log", stride)
            network, _ = plan.build(0)
            if moved:
                next(network.backbone.parameters()).data.flatten()[0] += 1e-6
            return _maps._backbone_key(network, source_of())

        kinds = [
            key(),
            key(shape=(9, 8, 1)),
            key(shape=(8, 8, 3)),
            key("resnet18", (32, 32, 1)),
            key("resnet18", (32, 32, 1), 16),
            key("resnet34", (32, 32, 1), 16),
            key(moved=True),
        ]
        assert len(set(kinds)) == len(kinds)
        assert key(shape=[8, 8, 1]) == key()  # as from a file


PLAIN = {
    "prototype_depth": 5,
    "n_prototypes_per_class": 2,
    "warmup_epochs": 2,
    "joint_epochs": 2,
    "projection_interval": 1,
    "learning_rate": 0.01,
    "backbone_learning_rate": 0,
    "batch_size": 7,
    "random_state": 0,
}
N_EPOCHS = 4


@pytest.fixture(scope="module")
def images():
    """Noise of three classes, of which one is brighter and one darker, in canonical order."""
    y = np.arange(17) % 3
    X = np.random.default_rng(0).normal(size=(17, 5, 6)) + y[:, None, None] - 1
    order = canonical_training_set(ArrayImages(X[..., None]).survey.digests, y, np.ones(17)).rows
    return X[order], y[order]


def classifier(**changes):
    return ProtoPNetClassifier(**{"backbone": Backbone(), **PLAIN, **changes})


def assert_same_fits(one, other, X):
    assert_same_bits(one, other)
    assert [{**row, "seconds": 0} for row in map(without_nan, one.history_)] == [
        {**row, "seconds": 0} for row in map(without_nan, other.history_)
    ]
    for name in ("prototype_sample_indices_", "prototype_boxes_", "prototype_distances_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert np.array_equal(one.decision_function(X), other.decision_function(X))


def without_nan(row):
    return {name: None if value != value else value for name, value in row.items()}


class TestFits:
    def test_from_a_file_they_are_the_same_bits(self, images, monkeypatch):
        X, y = images
        held_out = {"X_val": X[:5], "y_val": y[:5]}
        in_memory = classifier().fit(X, y, **held_out)
        monkeypatch.setattr(_maps, "KEPT_IN_MEMORY", 0)
        assert_same_fits(classifier().fit(X, y, **held_out), in_memory, X)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_without_room_they_are_the_same_bits(self, images, monkeypatch, precision):
        X, y = images
        held_out = {"X_val": X[:5], "y_val": y[:5]}
        kept = classifier(precision=precision, batch_size=4).fit(X, y, **held_out)
        monkeypatch.setattr(KeptMaps, "has_room", lambda *args: False)
        computed = classifier(precision=precision, batch_size=4).fit(X, y, **held_out)
        assert_same_fits(computed, kept, X)

    def test_with_a_memory_they_are_the_same_bits(self, images, memory, seen):
        X, y = images
        plain = classifier().fit(X, y)
        for _ in range(2):
            assert_same_fits(classifier(memory=memory).fit(X, y), plain, X)

    def test_their_maps_are_those_of_predictions(self, images, memory, seen):
        X, y = images
        clf = classifier(memory=memory)
        assert clf.fit(X, y).score(X, y) == clf.history_[-1]["accuracy"]
        assert seen == 5 * [CHUNK]  # one pass in all
        seen.clear()
        clf.predict(X)
        clf.explain(X)
        clf.refit_last_layer(X[::-1], y[::-1])  # which has an order of its own
        copied = pickle.loads(pickle.dumps(clf))
        from_cache = clone(clf).fit(X, y)
        for each in (clf, copied, from_cache):
            assert each.transform(X).diagonal().shape == (6,)
        assert seen == []

    def test_their_maps_are_those_of_other_fits(self, images, memory, seen):
        X, y = images
        classifier(memory=memory).fit(X, y)
        seen.clear()
        for changes in (
            {"prototype_depth": 3},
            {"similarity": "cosine", "cluster_weight": 0.1},
            {"random_state": 1},
            {"joint_epochs": 0},
            {"precision": "bfloat16"},
        ):
            classifier(memory=memory, **changes).fit(X, y)
        assert seen == []

    def test_a_search_computes_the_maps_of_a_split_once(self, images, memory, seen):
        X, y = images
        grid = {"prototype_depth": [3, 5]}
        search = GridSearchCV(classifier(memory=memory), grid, cv=2, return_train_score=True)
        search.fit(X, y)
        # Two splits: 9 and 8 images to train on, 8 and 9 to test on, which the scores of the
        # training also look at in the order of X; and the fit of the best, on all images.
        chunks_of = lambda n: -(-n // CHUNK)  # noqa: E731
        n_of_splits = sum(map(chunks_of, (9, 8, 8, 9)))
        assert len(seen) == n_of_splits + chunks_of(17)
        plain = GridSearchCV(clone(search.estimator).set_params(memory=None), grid, cv=2).fit(X, y)
        for name in ("split0_test_score", "split1_test_score"):
            assert np.array_equal(search.cv_results_[name], plain.cv_results_[name])
        assert_same_fits(search.best_estimator_, plain.best_estimator_, X)

    @pytest.mark.parametrize(
        "moves", [{"backbone_learning_rate": 1e-3}, {"pretraining_epochs": 1}], ids=str
    )
    def test_maps_of_a_backbone_that_moves_are_in_no_memory(self, images, memory, moves):
        X, y = images
        clf = classifier(memory=memory, **moves).fit(X, y)
        clf.score(X, y)
        clf.refit_last_layer(X, y)
        (trained,) = files_of(memory)
        assert "train_network" in str(trained)
        assert_same_fits(clf, classifier(**moves).fit(X, y).refit_last_layer(X, y), X)
