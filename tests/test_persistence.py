"""Classifiers in files: all of it comes back, and nothing else is let in."""

import hashlib
import io as streams
import json
import os
import re
import sys
import zipfile
from collections import namedtuple
from copy import deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from skops import io
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier, _persistence, load

Sides = namedtuple("Sides", ["height", "width"])
TINY = {
    "n_prototypes_per_class": 2,
    "prototype_depth": 4,
    "pretraining_epochs": 0,
    "warmup_epochs": 0,
    "joint_epochs": 1,
}
MANIFEST = "sklearn_protopnet.json"


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 6, 5, 2)), np.arange(12) % 3


@pytest.fixture(scope="module")
def tiny(images):
    return ProtoPNetClassifier(**TINY, random_state=0).fit(*images)


@pytest.fixture
def path(tiny, tmp_path):
    tiny.save(tmp_path / "clf.skops")
    return tmp_path / "clf.skops"


def members_of(data):
    with zipfile.ZipFile(streams.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members, compression=zipfile.ZIP_STORED, **manifest):
    """Pack members with a digest that is right, as somebody would who wants to be believed."""
    digest = hashlib.sha256()
    for name, content in members.items():
        if name != MANIFEST:
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    told = {"format": 1, "version": "0", "sha256": digest.hexdigest(), **manifest}
    file = streams.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in {**members, MANIFEST: json.dumps(told).encode()}.items():
            archive.writestr(name, content)
    return file.getvalue()


def repacked(value):
    return packed(members_of(io.dumps(value)))


class TestRoundTrip:
    def test_all_is_the_same_to_the_bit(self, tiny, images, path):
        X, _ = images
        twin = load(path)
        assert type(twin) is ProtoPNetClassifier
        for method in ("decision_function", "predict_proba", "predict", "transform"):
            one, other = (getattr(clf, method)(X) for clf in (tiny, twin))
            assert one.dtype == other.dtype
            assert np.array_equal(one, other), method
        for table, other in (
            (tiny.explain(X, classes="all"), twin.explain(X, classes="all")),
            (tiny.prototype_table(), twin.prototype_table()),
            (tiny.history_table(), twin.history_table()),
        ):
            pd.testing.assert_frame_equal(table, other, check_exact=True)
            assert table.attrs == other.attrs
        assert twin.get_params() == tiny.get_params()
        assert {name: type(value) for name, value in vars(twin).items()} == {
            name: type(value) for name, value in vars(tiny).items()
        }

    def test_a_twin_can_be_saved_and_fitted_again(self, tiny, images, path):
        twin = load(path)
        twin.save(path)
        assert np.array_equal(load(path).prototypes_, tiny.prototypes_)
        assert np.array_equal(twin.fit(*images).prototypes_, tiny.prototypes_)

    @pytest.mark.parametrize(
        "labels",
        [
            ["cat", "dog", "eel"],
            [1.0, 2.0, -3.0],
            np.array(["a", "b", "c"], dtype=object),
        ],
    )
    def test_labels_of_any_kind_come_back(self, images, tmp_path, labels):
        X, y = images
        labels = np.asarray(labels)
        weights = dict.fromkeys(labels.tolist(), 2.0)
        clf = ProtoPNetClassifier(**TINY, class_weight=weights, random_state=0)
        clf.fit(X, labels[y]).save(tmp_path / "clf")
        twin = load(tmp_path / "clf")
        assert np.array_equal(twin.predict(X), clf.predict(X))
        assert np.array_equal(twin.refit_last_layer(X, labels[y]).coef_, clf.coef_)

    @pytest.mark.parametrize("dtype", ["datetime64[D]", "datetime64[ns]", "timedelta64[s]"])
    def test_labels_that_are_dates_come_back(self, images, tmp_path, dtype):
        X, y = images
        clf = ProtoPNetClassifier(**TINY, random_state=0).fit(X, y.astype(dtype))
        clf.save(tmp_path / "clf")
        twin = load(tmp_path / "clf")
        assert twin.classes_.dtype == np.dtype(dtype)
        assert np.array_equal(twin.predict(X), clf.predict(X))
        assert np.array_equal(twin.refit_last_layer(X, y.astype(dtype)).coef_, clf.coef_)

    @pytest.mark.parametrize("kind", [bool, np.bool_])
    def test_weights_of_true_and_false_come_back(self, images, tmp_path, kind):
        X, y = images
        weights = {kind(1): 5.0, kind(0): 1.0}
        clf = ProtoPNetClassifier(**TINY, class_weight=weights, random_state=0).fit(X, y > 0)
        clf.save(tmp_path / "clf")
        assert list(clf.class_weight.values()) == [5.0, 1.0]
        twin = load(tmp_path / "clf")
        assert twin.class_weight == {True: 5.0, False: 1.0}
        assert np.array_equal(twin.refit_last_layer(X, y > 0).coef_, clf.coef_)

    def test_what_metadata_it_requests_is_left_out(self, images, tmp_path):
        X, y = images
        with config_context(enable_metadata_routing=True):
            clf = ProtoPNetClassifier(**TINY, random_state=0).set_fit_request(sample_weight=True)
            clf.fit(X, y).save(tmp_path / "clf")
            assert clf.get_metadata_routing().fit.requests["sample_weight"] is True
            twin = load(tmp_path / "clf")
            assert twin.get_metadata_routing().fit.requests["sample_weight"] is None
        assert np.array_equal(twin.predict(X), clf.predict(X))

    def test_nothing_is_replaced_by_what_load_would_refuse(self, tiny, path, monkeypatch):
        before = path.read_bytes()

        def refuse(*_):
            raise ValueError("an array that load refuses")

        monkeypatch.setattr(_persistence, "_check_array", refuse)
        with pytest.raises(ValueError, match="an array that load refuses"):
            tiny.save(path)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "parameters",
        [
            {"random_state": np.random.RandomState(3)},
            {"image_shape": [6, 5, 2], "image_size": (9, 8)},
            {"image_shape": torch.Size([6, 5, 2])},
            {"image_size": Sides(9, 8)},
            {"prototype_size": [2, 3], "similarity": "linear"},
            {"learning_rate": np.float64(1e-3), "batch_size": np.int64(7), "similarity": "cosine"},
            {"backbone": "resnet18", "feature_stride": 2, "device": "cpu"},
        ],
        ids=lambda parameters: next(iter(parameters)),
    )
    def test_parameters_of_any_accepted_type_come_back(self, images, tmp_path, parameters):
        clf = ProtoPNetClassifier(**{**TINY, **parameters}).fit(*images)
        clf.save(str(tmp_path / "clf"))
        twin = load(str(tmp_path / "clf"))
        assert np.array_equal(twin.decision_function(images[0]), clf.decision_function(images[0]))

    def test_names_of_columns_and_what_set_output_says_come_back(self, images, tmp_path):
        frame = pd.DataFrame(images[0].reshape(12, -1)).add_prefix("pixel")
        clf = ProtoPNetClassifier(**TINY, image_shape=(6, 5, 2)).fit(frame, images[1])
        clf.set_output(transform="pandas").save(tmp_path / "clf")
        twin = load(tmp_path / "clf")
        assert twin.feature_names_in_.tolist() == list(frame.columns)
        pd.testing.assert_frame_equal(twin.transform(frame), clf.transform(frame))

    def test_nothing_of_an_earlier_fit_is_left(self, images, tmp_path):
        X, y = images
        module = nn.Conv2d(2, 4, 3)
        clf = ProtoPNetClassifier(**TINY, image_shape=(6, 5, 2), backbone=module)
        clf.fit(pd.DataFrame(X.reshape(12, -1)).add_prefix("pixel"), y)
        clf.set_params(backbone="auto").fit(X, y)
        assert not hasattr(clf, "feature_names_in_")
        assert not hasattr(clf, "backbone_")
        clf.save(tmp_path / "clf")
        twin = load(tmp_path / "clf")
        assert np.array_equal(twin.decision_function(X), clf.decision_function(X))

    def test_a_class_without_images_comes_back(self, images, tmp_path):
        X, y = images
        clf = ProtoPNetClassifier(**TINY, random_state=0)
        with pytest.warns(UserWarning, match="No training image of classes"):
            clf.fit(X, y, sample_weight=(y != 1).astype(float))
        clf.save(tmp_path / "clf")
        assert np.array_equal(load(tmp_path / "clf").predict(X), clf.predict(X))

    def test_a_device_that_this_machine_does_not_have_is_no_obstacle(self, tiny, images, tmp_path):
        clf = deepcopy(tiny).set_params(device="cuda:99")
        (tmp_path / "clf").write_bytes(repacked(clf))
        twin = load(tmp_path / "clf").set_params(device="cpu")
        assert np.array_equal(twin.predict(images[0]), tiny.predict(images[0]))

    @pytest.mark.parametrize("is_repacked", [False, True])
    def test_a_directory_of_memory_is_neither_made_nor_read(
        self, tiny, images, tmp_path, is_repacked
    ):
        folder, path = tmp_path / "cache", tmp_path / "clf"
        if is_repacked:
            path.write_bytes(repacked(deepcopy(tiny).set_params(memory=str(folder))))
        else:
            memory = joblib.Memory(str(tmp_path / "other"), verbose=0)
            deepcopy(tiny).set_params(memory=memory).save(path)
        twin = load(path)
        assert twin.memory is None
        twin.predict(images[0])
        assert not folder.exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ({"clf": ProtoPNetClassifier()}, "builtins.dict"),
            ([ProtoPNetClassifier()], "builtins.list"),
            (np.arange(3), "numpy.ndarray"),
            (LogisticRegression(), "sklearn.linear_model._logistic.LogisticRegression"),
            (
                ProtoPNetClassifier(class_weight={0: LogisticRegression()}),
                "sklearn.linear_model._logistic.LogisticRegression",
            ),
            (ProtoPNetClassifier(augment=np.negative), "negative"),
            (ProtoPNetClassifier(class_weight={"f": os.system}), "posix.system"),
            (ProtoPNetClassifier(backbone=re.compile), "re.compile"),
            (nn.Flatten(), "torch.nn.modules.flatten.Flatten"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_file_that_holds_anything_else_is_refused(self, tmp_path, content, found):
        (tmp_path / "other").write_bytes(repacked(content))
        message = rf"'.*other' must be .*ProtoPNetClassifier only, found .*{re.escape(found)}"
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "other")

    def test_nothing_in_a_refused_file_is_executed(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (tmp_path / "sprung").touch, ()

        clf = ProtoPNetClassifier(class_weight={0: Trap()})
        (tmp_path / "trap").write_bytes(repacked(clf))
        (tmp_path / "sprung").unlink(missing_ok=True)
        with pytest.raises(ValueError, match=r"only, found .*Trap"):
            load(tmp_path / "trap")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("content", [b"", b"\x80\x04 no zip file"])
    def test_what_is_no_archive_is_refused(self, path, content):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"'.*clf\.skops' must be a file written by save: \S+"):
            load(path)

    @pytest.mark.parametrize("text", ["{}", "[]", "no json", "[" * 10**5, '{"__loader__": 3}'])
    def test_an_archive_of_something_else_is_refused(self, tmp_path, text):
        (tmp_path / "archive").write_bytes(packed({"schema.json": text.encode()}))
        with pytest.raises(ValueError, match=r"'.*archive' must be a file written by save"):
            load(tmp_path / "archive")

    def test_a_newer_format_says_what_reads_it(self, path):
        path.write_bytes(packed(members_of(path.read_bytes()), format=2, version="7.1"))
        with pytest.raises(ValueError, match=r"found 2, which version 7\.1 wrote and reads"):
            load(path)

    def test_what_is_packed_is_not_unpacked(self, path):
        members = members_of(path.read_bytes())
        path.write_bytes(packed(members, zipfile.ZIP_DEFLATED))
        with pytest.raises(ValueError, match=r"must be stored as they are, found '.*' packed"):
            load(path)

    def test_an_array_that_claims_to_be_large_is_refused(self, path):
        members = members_of(path.read_bytes())
        name = next(name for name in members if name.endswith(".npy"))
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        file = streams.BytesIO()
        np.lib.format.write_array_header_1_0(file, header)
        path.write_bytes(packed({**members, name: file.getvalue() + bytes(800)}))
        with pytest.raises(
            ValueError, match=rf"its array '{name}' must have the 8000000000\d+ bytes"
        ):
            load(path)

    def test_few_bytes_do_not_stand_for_many_objects(self, path):
        members = members_of(path.read_bytes())
        schema = json.loads(members["schema.json"])
        attributes = schema["content"]["content"]
        attributes["coef_"]["__id__"] = attributes["l1_weight"]["__id__"]
        text = json.dumps(schema).encode()
        path.write_bytes(packed({**members, "schema.json": text}))
        with pytest.raises(ValueError, match="must be one, found another one beside it"):
            load(path)

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load(tmp_path / "nowhere")

    def test_what_is_no_file_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(ValueError, match="fifo' must be a regular file"):
            load(tmp_path / "fifo")


class TestWhatIsNotSaved:
    def test_an_unfitted_classifier_is_refused(self, tmp_path):
        with pytest.raises(NotFittedError):
            ProtoPNetClassifier().save(tmp_path / "clf")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("module", [nn.Conv2d(2, 3, 2), nn.ReLU()], ids=["weights", "none"])
    def test_a_module_is_refused(self, images, path, module):
        before = path.read_bytes()
        clf = ProtoPNetClassifier(**TINY, backbone=module).fit(*images)
        message = r"plain values only, .* no module .* found .*\. Or pickle the estimator\."
        with pytest.raises(TypeError, match=message):
            clf.save(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_callable_is_refused(self, tiny, path):
        with pytest.raises(TypeError, match=r"found numpy.*negative.*set_params\(augment=None\)"):
            deepcopy(tiny).set_params(augment=np.negative).save(path)

    def test_what_would_not_be_read_is_not_written(self, tiny, path):
        before = path.read_bytes()
        clf = deepcopy(tiny)
        clf.coef_ = clf.coef_ * np.nan
        with pytest.raises(ValueError, match="coef_ must be finite"):
            clf.save(path)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("action", ["save", "load"])
    def test_without_skops_the_remedy_is_named(self, tiny, path, monkeypatch, action):
        before = path.read_bytes()
        monkeypatch.setitem(sys.modules, "skops", None)
        with pytest.raises(ImportError, match=re.escape("pip install sklearn-protopnet[files]")):
            tiny.save(path) if action == "save" else load(path)
        assert path.read_bytes() == before


def spoilt_bytes(data):
    """80 files: cut, or with one bit or one byte that is another."""
    rng = np.random.default_rng(0)
    for i in range(80):
        place = int(rng.integers(len(data)))
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8)) if i % 4 > 1 else int(rng.integers(1, 256))
        yield data[:place] if i % 4 == 0 else bytes(changed)


def spoilt_archives(data):
    """20 archives of which a member is missing, another one, there twice, or in excess."""
    members = members_of(data)
    arrays = [name for name in members if name.endswith(".npy")]
    manifest = json.loads(members[MANIFEST])
    for name in (*arrays[:6], "schema.json"):
        yield packed({other: members[other] for other in members if other != name})
    for name, other in zip(arrays[:4], arrays[4:8], strict=True):
        yield packed({**members, name: members[other]}, sha256=manifest["sha256"])
    for name in (*arrays[:5], "schema.json", MANIFEST):
        file = streams.BytesIO(data)
        with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, members[name])
        yield file.getvalue()
    yield packed({**members, "other.npy": members[arrays[0]]})
    yield packed({**members, "../other": b""})


def entries(clf):
    """Names of the arrays of a fit, with the dicts that hold them."""
    state = clf.state_
    for holder in (
        vars(clf),
        state["network"],
        state["standardization"],
        state["receptive_field"],
    ):
        for name, value in list(holder.items()):
            if isinstance(value, np.ndarray):
                yield holder, name


def invalid_states(clf):
    """Yield 100 classifiers that no fit leaves, which their files hold as whole and consistent."""
    for i, (_, name) in enumerate(entries(clf)):
        for spoil in (without_last, of_another_dtype, impossible):
            changed = deepcopy(clf)
            holder = list(entries(changed))[i][0]
            holder[name] = spoil(name, holder[name])
            if holder[name] is not None:
                yield f"{name} {spoil.__name__}", changed
    for name, value in WRONG_VALUES:
        changed = deepcopy(clf)
        holder, names = vars(changed), name if isinstance(name, tuple) else (name,)
        for each in names[:-1]:
            holder = holder[each]
        if value is None:
            del holder[names[-1]]
        else:
            holder[names[-1]] = value
        yield f"{name} {value}", changed


def without_last(name, array):
    return array[..., None] if name == "classes_" or array.ndim == 0 else array[:-1]


def of_another_dtype(name, array):
    if name in {"prototype_images_", "classes_"}:
        return array.astype(complex)
    if array.dtype.kind == "U":
        return array.astype(object)
    return array.astype(np.float64 if array.dtype == np.float32 else np.float32)


def impossible(name, array):
    """Change one number to one that cannot be; any text can."""
    if array.dtype.kind == "U":
        return None
    changed = array.copy()
    least = {"running_var": -1e-3, "scale": 0.0, "classes_": array.flat[-1]}
    value = least.get(name.rpartition(".")[2], np.nan if array.dtype.kind == "f" else -5)
    changed.reshape(-1)[0] = value
    return changed


WRONG_VALUES = [
    ("prototype_sample_indices_", None),
    ("similarity", None),
    ("coef_", None),
    (("state_", "network"), None),
    (("state_", "network", "add_on.0.weight"), "module"),
    (("state_", "is_backbone_frozen"), 1),
    (("state_", "receptive_field", "depth"), 10**9),
    (("state_", "architecture", "similarity"), "unknown"),
    (("state_", "architecture", "backbone"), "resnet18"),
    (("state_", "architecture", "backbone"), None),
    (("state_", "architecture", "feature_stride"), -1),
    (("state_", "architecture", "feature_stride"), 7),
    (("state_", "unknown"), 1),
    (("state_", "n_prototypes_per_class"), 0),
    (("state_", "constraints", "forbidden"), np.array([0])),
    (("state_", "constraints", "merged"), np.array([-1])),
    (("state_", "constraints", "merged"), np.array([0, 0])),
    (("state_", "constraints", "required"), np.array([10**6])),
    (("state_", "constraints", "min_weights"), np.array([1.0])),
    (("state_", "constraints", "patch_positions"), np.array([0])),
    (("state_", "constraints", "unknown"), np.array([0])),
    ("edits_", None),
    ("edits_", ()),
    ("edits_", [{"action": "forbid"}]),
    ("predict", 1),
    ("_network", 1),
    ("n_features_in_", 61),
    ("n_features_in_", -60),
    ("image_shape_", (6, 10, 1)),
    ("input_shape_", (6, 5, -2)),
    ("input_shape_", (10**6, 10**6, 2)),
    ("l1_weight_", -1.0),
    ("l2_weight_", float("nan")),
    ("last_layer_gap_", -1e-9),
    ("n_iter_", 7),
    ("n_iter_", "1"),
    ("loss_curve_", [float("nan")]),
    ("history_", []),
    ("history_", [{"round": 1}]),
    ("n_prototypes_per_class", -1),
    ("similarity", "unknown"),
    ("feature_names_in_", np.array(["a"], dtype=object)),
    ("_sklearn_output_config", {"transform": 3}),
]


def refusal(path):
    """Say why a file is refused; None if it is read."""
    try:
        load(path)
    except ValueError as error:
        return str(error)
    return None


class TestSpoiltFiles:
    """200 files: each is refused by name, or predicts the same bits."""

    def test_none_is_read_to_other_numbers(self, tiny, images, path):
        data, expected = path.read_bytes(), tiny.decision_function(images[0])
        spoilt = [*spoilt_bytes(data), *spoilt_archives(data)]
        assert len(spoilt) == 100
        n_refused = 0
        for content in spoilt:
            path.write_bytes(content)
            message = refusal(path)
            if message is None:
                assert np.array_equal(load(path).decision_function(images[0]), expected)
            else:
                assert repr(str(path)) in message
                n_refused += 1
        assert n_refused > 90  # the rest are bytes that say when a member was written

    def test_no_impossible_state_is_read(self, tiny, path):
        spoilt = list(invalid_states(tiny))
        assert len(spoilt) >= 100
        for name, clf in spoilt:
            path.write_bytes(repacked(clf))
            message = refusal(path)
            assert message is not None, name
            assert repr(str(path)) in message, name

    def test_other_weights_explain_what_they_predict(self, tiny, images, path):
        """A digest cannot tell who wrote a file; but all that uses a number has the same one."""
        clf = deepcopy(tiny)
        clf.coef_ = -clf.coef_
        path.write_bytes(repacked(clf))
        twin = load(path)
        logits = twin.decision_function(images[0])
        assert np.array_equal(logits, -tiny.decision_function(images[0]))
        why = twin.explain(images[0], classes="all")
        sums = why.groupby(["sample", "class"])["contribution"].sum().to_numpy()
        np.testing.assert_allclose(sums.reshape(logits.shape), logits, rtol=1e-9)
