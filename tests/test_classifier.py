"""The classifier: its promises to users, and its errors."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.inspection import similarity_maps

SMALL = {
    "n_prototypes_per_class": 2,
    "pretraining_epochs": 2,
    "warmup_epochs": 1,
    "joint_epochs": 2,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[::4], y[::4]


@pytest.fixture(scope="module")
def quick(few):
    return ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(*few)


def two_textures(n=24, shape=(6, 9, 3), seed=0):
    """Noise images, of which the second class has a bright corner somewhere."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, *shape))
    y = np.arange(n) % 2
    images[y == 1, 2:4, 3:5] += 6
    return images, y


def logits_of(table):
    """Sums of contributions, one row per sample and one column per class."""
    sums = table.pivot_table("contribution", index="sample", columns="class", aggfunc="sum")
    return sums.to_numpy()


def parameters_of(clf):
    return {"prototypes_": clf.prototypes_, "coef_": clf.coef_, **clf.state_["network"]}


def assert_same_bits(one, other):
    assert one.loss_curve_ == other.loss_curve_
    for name, value in parameters_of(one).items():
        assert np.array_equal(value, parameters_of(other)[name]), name


class TestNumbers:
    def test_log_probabilities_are_finite_where_probabilities_are_not(self, fitted, digits):
        X, _ = digits
        found = fitted.predict_log_proba(X)
        np.testing.assert_allclose(np.exp(found), fitted.predict_proba(X), rtol=1e-12)
        assert np.isfinite(found).all()

    def test_two_classes_decide_by_the_difference_of_their_logits(self, digits):
        X, y = digits
        pair = y < 2
        clf = ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(X[pair], y[pair])
        logits = logits_of(clf.explain(X[pair], classes="all"))
        np.testing.assert_allclose(
            logits[:, 1] - logits[:, 0], clf.decision_function(X[pair]), rtol=1e-9
        )

    def test_a_projected_prototype_is_exactly_its_patch(self, fitted, digits):
        X, _ = digits
        prototypes = fitted.prototype_table()
        assert (prototypes["distance"] == 0).all()
        sources = X[prototypes["source_sample"]]
        at_home = fitted.explain(sources, classes="all", details="patches")
        at_home = at_home[(at_home["sample"] == at_home["prototype"]) & (at_home["patch"] == 1)]
        assert (at_home["distance"] < 1e-10).all()
        np.testing.assert_allclose(at_home["patch_similarity"], math.log(1 / 1e-4), rtol=1e-14)
        for ours, source in (("y0", "source_y0"), ("x1", "source_x1")):
            assert (at_home[ours] == at_home[source]).mean() > 0.5  # equal patches may tie

    @pytest.mark.parametrize("similarity", ["linear", "cosine"])
    @pytest.mark.parametrize("prototype_size", [(1, 1), (2, 3)])
    def test_every_similarity_and_size_projects_exactly(self, few, similarity, prototype_size):
        X, y = few
        clf = ProtoPNetClassifier(
            image_shape=(8, 8),
            similarity=similarity,
            prototype_size=prototype_size,
            n_pooled_patches=1,
            **SMALL,
        ).fit(X, y)
        assert clf.prototypes_.shape == (20, 128, *prototype_size)
        assert (clf.prototype_table()["distance"] == 0).all()
        best = {"linear": 0.0, "cosine": 1.0}[similarity]
        own = clf.transform(X[clf.prototype_sample_indices_]).diagonal()
        np.testing.assert_array_equal(own, best)

    def test_prototypes_come_from_images_of_their_own_class(self, fitted, digits):
        X, y = digits
        rows = fitted.prototype_sample_indices_
        assert np.array_equal(y[rows], fitted.prototype_classes_)
        assert np.array_equal(fitted.prototype_images_[..., 0].reshape(len(rows), -1), X[rows])
        assert (fitted.prototype_table()["n_duplicates"] == 0).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
    def test_predictions_do_not_depend_on_the_batch(self, fitted, digits, dtype):
        X = digits[0].astype(dtype)
        together = fitted.decision_function(np.resize(X, (1000, 64)))
        for row in (0, 7, 299):
            alone = fitted.decision_function(X[row : row + 1])[0]
            np.testing.assert_allclose(alone, together[row], rtol=1e-6)

    def test_a_box_holds_every_pixel_that_matters(self, fitted, digits):
        X, _ = digits
        rng = np.random.default_rng(0)
        table = fitted.explain(X[:4], top_k=3, details="patches")
        for row in table.itertuples():
            noisy = rng.uniform(0, 16, (8, 8))
            box = slice(row.y0, row.y1), slice(row.x0, row.x1)
            noisy[box] = X[row.sample].reshape(8, 8)[box]
            found = similarity_maps(fitted, noisy.reshape(1, -1))[0, row.prototype]
            assert found.max() >= row.patch_similarity * (1 - 1e-5)


class TestReproducibility:
    def test_row_order_does_not_change_a_bit(self, few, quick):
        X, y = few
        order = np.random.default_rng(3).permutation(len(y))
        shuffled = ProtoPNetClassifier(**quick.get_params()).fit(X[order], y[order])
        assert_same_bits(quick, shuffled)
        assert np.array_equal(
            order[shuffled.prototype_sample_indices_], quick.prototype_sample_indices_
        )

    def test_other_seeds_give_other_networks(self, few, quick):
        X, y = few
        other = ProtoPNetClassifier(**{**quick.get_params(), "random_state": 1}).fit(X, y)
        assert not np.array_equal(other.prototypes_, quick.prototypes_)

    def test_weights_equal_repetitions_to_the_bit(self, few):
        X, y = few
        weights = np.random.default_rng(0).integers(0, 3, len(y))
        clf = ProtoPNetClassifier(image_shape=(8, 8), class_weight="balanced", **SMALL)
        weighted = clf.fit(X, y, sample_weight=weights)
        repeated = ProtoPNetClassifier(**clf.get_params()).fit(
            np.repeat(X, weights, axis=0), np.repeat(y, weights)
        )
        assert_same_bits(weighted, repeated)

    def test_dtypes_that_hold_the_same_numbers_give_the_same_network(self, few, quick):
        X, y = few
        for dtype in (np.uint8, np.float32):
            assert_same_bits(
                quick, ProtoPNetClassifier(**quick.get_params()).fit(X.astype(dtype), y)
            )

    @pytest.mark.parametrize("backbone", ["auto", "resnet18"])
    def test_a_fit_and_the_users_random_states_leave_each_other_alone(self, few, backbone):
        X, y = few
        settings = {**SMALL, "backbone": backbone, "pretraining_epochs": 0, "joint_epochs": 0}
        clf = ProtoPNetClassifier(image_shape=(8, 8), **settings)
        torch_state = torch.get_rng_state()
        numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
        clf.fit(X, y)
        assert torch.equal(torch_state, torch.get_rng_state())
        assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
        torch.rand(17)
        again = clone(clf).fit(X, y)
        torch.set_rng_state(torch_state)
        assert_same_bits(again, clf)


class TestInput:
    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(lambda a: a.reshape(len(a), -1), id="rows"),
            pytest.param(lambda a: pd.DataFrame(a.reshape(len(a), -1)), id="frame"),
            pytest.param(lambda a: a, id="array"),
            pytest.param(list, id="list of images"),
            pytest.param(tuple, id="tuple of images"),
            pytest.param(torch.from_numpy, id="tensor"),
        ],
    )
    def test_forms_of_the_same_images_give_the_same_network(self, form):
        images, y = two_textures()
        clf = ProtoPNetClassifier(image_shape=(6, 9, 3), **SMALL)
        reference = ProtoPNetClassifier(image_shape=(6, 9, 3), **SMALL).fit(images, y)
        assert_same_bits(clf.fit(form(images), y), reference)
        assert clf.image_shape_ == clf.input_shape_ == (6, 9, 3)
        assert np.array_equal(clf.predict(form(images)), reference.predict(images))

    @pytest.mark.parametrize("n_channels", [1, 2, 3, 4, 7])
    def test_images_may_have_any_number_of_channels_and_need_not_be_square(self, n_channels):
        images, y = two_textures(shape=(6, 9, n_channels))
        clf = ProtoPNetClassifier(**SMALL).fit(images, y)
        table = clf.explain(images)
        assert table["y1"].max() <= 6
        assert table["x1"].max() <= 9
        assert table["x1"].max() > 6

    def test_range_and_offset_of_pixels_are_learned(self):
        images, y = two_textures()
        for scale, offset in [(1, 0), (1e-6, 0), (1e6, 1e9), (-1, 255)]:
            clf = ProtoPNetClassifier(**{**SMALL, "pretraining_epochs": 20})
            X = scale * images + offset
            assert clf.fit(X, y).score(X, y) == 1

    @pytest.mark.parametrize(
        "labels",
        [["cat", "dog"], [True, False], [-1.0, 2.0], ["1", "01"], [np.int8(3), np.int8(9)]],
    )
    def test_labels_of_any_kind_come_back(self, labels):
        images, y = two_textures()
        labels = np.array(labels)
        clf = ProtoPNetClassifier(**SMALL).fit(images, labels[y])
        assert clf.predict(images).dtype == labels.dtype
        assert set(clf.prototype_table()["prototype_class"]) == set(labels.tolist())
        assert set(clf.explain(images, classes=labels[:1])["class"]) == {labels[0]}

    def test_a_module_is_a_backbone_and_stays_as_it_was(self):
        images, y = two_textures()
        module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
        before = {name: value.clone() for name, value in module.state_dict().items()}
        clf = ProtoPNetClassifier(backbone=module, **SMALL).fit(images, y)
        assert clf.state_["receptive_field"]["rows"].tolist()[0] == [0, 3]
        assert all(torch.equal(before[name], module.state_dict()[name]) for name in before)

    def test_a_torchvision_network_is_a_backbone(self):
        images, y = two_textures(n=8, shape=(32, 33, 2))
        clf = ProtoPNetClassifier(backbone="resnet18", **{**SMALL, "joint_epochs": 1})
        table = clf.fit(images, y).explain(images)
        assert (table["box_kind"] == "whole_image").all()


class TestTraining:
    def test_a_module_is_not_pretrained_by_default(self):
        images, y = two_textures()
        module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
        clf = ProtoPNetClassifier(backbone=module, joint_epochs=2).fit(images, y)
        stages = clf.history_table()["stage"].tolist()
        assert stages == ["warmup"] * 5 + ["joint"] * 2 + ["projection", "last_layer"]
        assert clf.n_iter_ == 7
        assert len(clf.loss_curve_) == 7

    def test_history_watches_what_the_projection_costs(self, fitted):
        history = fitted.history_table()
        first = ["pretraining"] * 3 + ["warmup"]
        round_ = ["joint", "joint", "projection", "last_layer"]
        assert history["stage"].tolist() == [*first, *round_, *round_]
        assert history["round"].tolist() == [1] * 8 + [2] * 4
        projections = history[history["stage"] == "projection"]
        assert projections["accuracy_before"].between(0, 1).all()
        solved = history[history["stage"] == "last_layer"]
        assert (solved["gap"] >= 0).all()
        assert solved["gap"].iloc[-1] == fitted.last_layer_gap_

    def test_validation_images_are_scored_and_not_learned_from(self, few, quick, digits):
        held_out = [each[1::4] for each in digits]
        watched = ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(
            *few, X_val=held_out[0], y_val=held_out[1]
        )
        assert_same_bits(quick, watched)
        last = watched.history_table()["validation_accuracy"].iloc[-1]
        assert last == watched.score(*held_out)

    def test_early_stopping_stops_and_projects_the_best_network(self, digits):
        X, y = digits
        clf = ProtoPNetClassifier(
            image_shape=(8, 8),
            n_prototypes_per_class=2,
            pretraining_epochs=0,
            warmup_epochs=0,
            joint_epochs=40,
            early_stopping=True,
            n_iter_no_change=2,
            random_state=0,
        ).fit(X, y)
        history = clf.history_table()
        joint = history[history["stage"] == "joint"]["validation_accuracy"].to_numpy()
        assert clf.n_iter_ == len(joint) < 40
        assert joint[-2:].max() <= joint[:-2].max()
        assert history["stage"].tolist()[-2:] == ["projection", "last_layer"]
        assert (clf.prototype_table()["distance"] == 0).all()

    def test_a_class_without_weight_keeps_its_prototypes_and_says_so(self, few):
        X, y = few
        clf = ProtoPNetClassifier(image_shape=(8, 8), **SMALL)
        with pytest.warns(UserWarning, match=r"No training image of classes \[3\]"):
            clf.fit(X, y, sample_weight=(y != 3).astype(float))
        table = clf.prototype_table()
        orphans = table[table["prototype_class"] == 3]
        assert (orphans["source_sample"] == -1).all()
        assert orphans["distance"].isna().all()
        assert (clf.prototype_boxes_[orphans["prototype"]] == 0).all()

    def test_more_prototypes_than_patches_are_reported_as_duplicates(self):
        X = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        clf = ProtoPNetClassifier(n_prototypes_per_class=2, joint_epochs=1, random_state=0)
        table = clf.fit(X, [0, 1, 1]).prototype_table()
        assert table["n_duplicates"].tolist() == [1, 1, 0, 0]


class TestErrors:
    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"image_shape": (8, 9)}, r"must have 72 features .* got 64"),
            ({"image_shape": (8, 0)}, r"image_shape must be .* got \(8, 0\)"),
            ({"image_shape": (8,)}, r"image_shape must be .* got \(8,\)"),
            ({"prototype_size": (9, 1)}, r"which is 8 x 8 for .* 'auto', got \(9, 1\)"),
            ({"prototype_size": (1,)}, r"prototype_size must be .* got \(1,\)"),
            ({"backbone": "resnet19"}, r"'backbone' parameter .* Got 'resnet19'"),
            ({"backbone": "vgg11"}, r"must accept images of 8 x 8 pixels and 1 channel,"),
            ({"backbone": nn.Flatten()}, r"must map float32 images .* got shape \(2, 64\)"),
            ({"device": "abacus"}, r"device must be 'auto' or .* got 'abacus'"),
            (
                {"learning_rate": 1e30},
                r"must stay finite; it became nan in stage 'pretraining', epoch 1",
            ),
            ({"l2_weight": 0.0}, r"'l2_weight' parameter"),
        ],
    )
    def test_bad_parameters_say_the_rule_and_what_was_found(self, digits, parameters, message):
        X, y = digits
        clf = ProtoPNetClassifier(joint_epochs=1, random_state=0).set_params(**parameters)
        with pytest.raises(ValueError, match=message):
            clf.fit(X, y)

    def test_images_must_have_image_shape_before_they_are_resized(self):
        images, y = two_textures(shape=(6, 9, 3))
        clf = ProtoPNetClassifier(image_shape=(6, 9, 3), image_size=(8, 8), **SMALL)
        clf.fit(images, y)
        assert (clf.image_shape_, clf.input_shape_) == ((6, 9, 3), (8, 8, 3))
        message = "must have image_shape, 6 x 9 pixels and 3 channels, got {} in row {}"
        with pytest.raises(ValueError, match=message.format("9 x 6 pixels and 3 channels", 0)):
            clf.fit(images.transpose(0, 2, 1, 3), y)
        with pytest.raises(ValueError, match=message.format("6 x 9 pixels and 1 channel", 0)):
            clf.fit(images[..., :1], y)
        cut = [*images[:2], images[2, :5], *images[3:]]
        with pytest.raises(ValueError, match=message.format("5 x 9 pixels and 3 channels", 2)):
            clf.fit(cut, y)

    @pytest.mark.parametrize(
        ("X", "y", "message"),
        [
            (
                np.zeros((4, 8, 8, 1, 1)),
                [0, 0, 1, 1],
                "X must be 2-D rows, .* got numpy.ndarray of 5 dimensions",
            ),
            (
                [np.zeros((8, 8)), np.zeros((8, 7))],
                [0, 1],
                r"must have one size .* got \(8, 8\) in row 0 and \(8, 7\) in row 1",
            ),
            (np.zeros((4, 64)), [0, 0, 0, 0], "at least 2 classes .* got one class: 0"),
            (np.full((4, 64), np.nan), [0, 0, 1, 1], "contains NaN"),
            (np.zeros((4, 64)), [0, 1, 1], "inconsistent numbers of samples"),
            (np.zeros((0, 8, 8)), [], "0 sample"),
            (np.zeros((4, 64)), [0.5, 0.1, 0.2, 0.7], "Unknown label type"),
        ],
    )
    def test_bad_images_and_labels_are_refused(self, X, y, message):
        with pytest.raises(ValueError, match=message):
            ProtoPNetClassifier().fit(X, y)

    @pytest.mark.parametrize(
        "method",
        ["predict", "predict_log_proba", "decision_function", "transform", "explain"],
    )
    def test_an_unfitted_classifier_says_so(self, digits, method):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(ProtoPNetClassifier(), method)(digits[0])

    @pytest.mark.parametrize("method", ["prototype_table", "history_table"])
    def test_an_unfitted_classifier_has_no_tables(self, method):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(ProtoPNetClassifier(), method)()

    def test_images_of_another_shape_are_refused(self, fitted):
        with pytest.raises(ValueError, match=r"8 x 8 pixels .*, got 4 x 16 pixels and 1"):
            fitted.predict(np.zeros((2, 4, 16)))
        with pytest.raises(ValueError, match="X has 63 features"):
            fitted.predict(np.zeros((2, 63)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"classes": "likely"}, r"classes must be .* got 'likely'"),
            ({"top_k": 0}, "top_k must be a positive integer or None, got 0"),
            ({"localizer": "magic"}, "localizer must be one of .* got 'magic'"),
            ({"localizer": np.array(["prp", "prp"])}, "localizer must be one of .* got array"),
        ],
    )
    def test_explain_says_what_it_cannot_do(self, fitted, digits, arguments, message):
        with pytest.raises(ValueError, match=message):
            fitted.explain(digits[0][:2], **arguments)

    def test_pixels_too_large_for_float32_are_refused(self, fitted):
        with pytest.raises(ValueError, match="must be finite in float32"):
            fitted.predict_proba(np.full((1, 64), 1e300))

    @pytest.mark.parametrize(
        ("validation", "message"),
        [
            ({"X_val": np.zeros((2, 64))}, "must be given together"),
            ({"sample_weight_val": [1, 1]}, "needs X_val and y_val"),
            (
                {"X_val": np.zeros((1, 64)), "y_val": [0], "sample_weight_val": [-1]},
                "^sample_weight_val must",
            ),
            (
                {"X_val": np.zeros((2, 64)), "y_val": [0, 77]},
                r"of the training y only, .* got \[77\]",
            ),
            ({"X_val": np.zeros((2, 64)), "y_val": [0]}, r"each of the 2 images .* shape \(1,\)"),
        ],
    )
    def test_bad_validation_data_are_refused(self, digits, validation, message):
        with pytest.raises(ValueError, match=message):
            ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(*digits, **validation)

    def test_a_failed_fit_leaves_everything_as_it_was(self, few):
        X, y = few
        clf = ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(X, y)
        predicted = clf.decision_function(X)
        before = dict(vars(clf))
        with pytest.raises(ValueError, match="one class"):
            clf.fit(X, np.zeros(len(y)))
        with pytest.raises(ValueError, match="features"):
            clf.fit(X[:, :-1], y)
        assert vars(clf) == before
        assert np.array_equal(clf.decision_function(X), predicted)

    def test_until_a_fit_has_ended_the_classifier_is_the_last_one(self, few):
        X, y = few
        frame = pd.DataFrame(X).rename(columns="pixel {}".format)
        clf = ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(frame, y)
        predicted = clf.decision_function(frame)
        n_calls = itertools.count()

        def watch(image):
            if next(n_calls) == 0:
                assert {name: vars(clf)[name] for name in before} == before
                assert np.array_equal(clf.decision_function(frame), predicted)
            return image

        clf.set_params(augment=watch, image_shape=None)
        before = dict(vars(clf))
        clf.fit(X[::2].reshape(-1, 8, 8)[:, :6], y[::2] + 100)
        assert next(n_calls) > 1
        assert clf.input_shape_ == (6, 8, 1)
        assert clf.classes_.min() >= 100
        assert not hasattr(clf, "feature_names_in_")

    @pytest.mark.parametrize("error", [ValueError, MemoryError])
    def test_so_does_one_that_is_cut_off_while_it_trains(self, few, error):
        def fail(image):
            raise error

        X, y = few
        clf = ProtoPNetClassifier(image_shape=(8, 8), **SMALL).fit(X, y)
        before = dict(vars(clf.set_params(augment=fail)))
        with pytest.raises(error):
            clf.fit(X[:, ::-1], y)
        assert vars(clf) == before

    def test_tensors_on_an_accelerator_are_refused(self, fitted):
        with pytest.raises(
            TypeError, match=r"must be dense and on the CPU, got one of torch\.strided on meta"
        ):
            fitted.predict(torch.zeros(2, 64, device="meta"))
