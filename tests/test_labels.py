"""Labels and their weights: found, balanced, set aside."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from quick import QUICK

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet._images import ArrayImages, Dataset, unstandardized
from sklearn_protopnet._validation import class_indices, effective_weights
from sklearn_protopnet._validation._labels import split_validation
from sklearn_protopnet.inspection import (
    explain,
    export_evidence,
    last_layer_path,
    write_report,
)

CLASSES, LABELS = np.array(["a", "b"]), np.array([0, 0, 0, 1])


class TestClassIndices:
    @pytest.mark.parametrize(
        ("labels", "classes", "expected"),
        [
            ([3, 1, 3, 2], [1, 3], [1, 0, 1, -1]),
            ([3.0, 1.5], [1, 3], [1, -1]),
            (["3", "1"], [1, 3], [-1, -1]),
            ([3, 1], ["1", "3"], [-1, -1]),
            (["b", "c", "a"], ["a", "b"], [1, -1, 0]),
            ([True, False], [0, 1], [1, 0]),
            ([1, 0, 2], [False, True], [1, 0, -1]),
            ([], [1, 3], []),
        ],
    )
    def test_by_hand(self, labels, classes, expected):
        assert class_indices(np.array(labels), np.array(classes)).tolist() == expected

    def test_text_of_either_kind(self):
        classes = np.array(["a", "b"])
        assert class_indices(np.array(["b", None, "a"], dtype=object), classes).tolist() == [
            1,
            -1,
            0,
        ]
        found = class_indices(np.array(["b", "a"]), classes.astype(object))
        assert found.tolist() == [1, 0]


class TestWeights:
    @pytest.mark.parametrize(
        ("sample_weight", "class_weight", "expected"),
        [
            (None, None, [1, 1, 1, 1]),
            ([1, 2, 0, 4], None, [1, 2, 0, 4]),
            (None, {"a": 2.0}, [2, 2, 2, 1]),
            ([1, 2, 0, 4], {"a": 2, "b": 0.5}, [2, 4, 0, 2]),
            (None, "balanced", [4 / 6, 4 / 6, 4 / 6, 2]),
            ([1, 2, 0, 9], "balanced", [2, 4, 0, 6]),  # each class as heavy as the other
        ],
    )
    def test_sample_and_class_weights_are_multiplied(self, sample_weight, class_weight, expected):
        found = effective_weights(sample_weight, class_weight, CLASSES, LABELS)
        assert found.dtype == np.float64
        # As they stand to each other: a power of 2 may be common to all.
        assert (found / found.sum()).tolist() == pytest.approx(
            np.array(expected) / np.sum(expected), rel=1e-14
        )

    def test_a_class_that_a_dict_names_may_have_no_images(self):
        classes, labels = np.array(["a", "b", "c"]), np.array([1, 2, 2])
        found = effective_weights(None, {"a": 5.0, "b": 2.0}, classes, labels)
        assert (found / found[1]).tolist() == [2.0, 1.0, 1.0]

    @pytest.mark.parametrize(
        ("sample_weight", "class_weight"), [(None, {"a": 0, "b": 0}), ([1, 1, 1, 0], {"a": 0.0})]
    )
    def test_weights_that_leave_no_image_are_refused(self, sample_weight, class_weight):
        with pytest.raises(ValueError, match=r"must leave an image .* got none with class_weight="):
            effective_weights(sample_weight, class_weight, CLASSES, LABELS)

    @pytest.mark.parametrize(
        "sample_weight",
        [
            [1, 1],
            [1, -1, 1, 1],
            [1, np.nan, 1, 1],
            [0] * 4,
            ["a"] * 4,
            [10**400] * 4,
            [1j] * 4,
            np.full(4, np.longdouble("1e4000")),
            np.ones(4, "M8[s]"),
        ],
    )
    def test_bad_sample_weights_are_refused_by_name(self, sample_weight):
        with pytest.raises(ValueError, match=r"^sample_weight must .*, found: .+[^\n]$"):
            effective_weights(sample_weight, None, CLASSES, LABELS)

    @pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, "a", [1], 1j, 10**400])
    def test_bad_weights_of_classes_are_refused_by_name(self, weight):
        message = r"^class_weight must (hold .*, got .* for class 'a'\.|be .*, found: .+[^\n])$"
        with pytest.raises(ValueError, match=message):
            effective_weights(None, {"a": weight}, CLASSES, LABELS)

    def test_a_class_without_weight_is_left_out_of_the_balance(self):
        found = effective_weights([1, 3, 0, 0], "balanced", CLASSES, LABELS)
        assert (found / found.sum()).tolist() == [0.25, 0.75, 0, 0]

    def test_classes_without_weight_are_no_classes(self):
        clf = ProtoPNetClassifier(class_weight={0: 0.0}, joint_epochs=1)
        X = np.random.default_rng(0).normal(size=(6, 8, 8))
        with pytest.raises(ValueError, match=r"at least 2 classes .* got one class: 1"):
            clf.fit(X, [0, 1] * 3)


class TestSplit:
    dataset = Dataset(
        unstandardized(ArrayImages(np.zeros((1, 1, 1, 1)))),
        rows=np.arange(100, 140),
        labels=np.repeat([0, 1], [10, 30]),
        weights=np.linspace(0.5, 1.5, 40),
    )

    def test_the_parts_are_disjoint_stratified_and_whole(self):
        kept, set_aside = split_validation(self.dataset, 0.2, seed=0)
        assert sorted([*kept.rows, *set_aside.rows]) == self.dataset.rows.tolist()
        assert np.bincount(set_aside.labels).tolist() == [2, 6]
        for part in (kept, set_aside):
            assert (np.diff(part.rows) > 0).all()
            assert part.labels.tolist() == self.dataset.labels[part.rows - 100].tolist()
            ratios = part.weights / self.dataset.weights[part.rows - 100]
            assert ratios == pytest.approx(np.full(len(part), ratios[0]), rel=1e-12)
            assert part.weights.mean() == pytest.approx(1, rel=1e-12)

    @pytest.mark.parametrize(
        ("labels", "fraction"), [([0, 0, 0, 1], 0.5), ([0, 0, 1, 1], 0.1), ([0, 0, 1, 1], 0.7)]
    )
    def test_too_few_images_are_refused_with_the_remedy(self, labels, fraction):
        four = replace(self.dataset, rows=np.arange(4), labels=np.array(labels), weights=np.ones(4))
        with pytest.raises(ValueError, match=rf"validation_fraction={fraction} of 4 images .* or"):
            split_validation(four, fraction, seed=0)

    def test_the_seed_decides(self):
        one, again, other = (
            split_validation(self.dataset, 0.2, seed)[1].rows.tolist() for seed in (0, 0, 1)
        )
        assert one == again != other

    def test_images_that_are_equal_are_on_one_side(self):
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(20, 8, 8)), np.arange(20) % 2
        twice = np.concatenate([X, X])
        settings = {
            "n_prototypes_per_class": 2,
            "early_stopping": True,
            "validation_fraction": 0.4,
            "prototype_depth": 4,
            "pretraining_epochs": 1,
            "warmup_epochs": 0,
            "joint_epochs": 1,
        }
        one, other = (
            ProtoPNetClassifier(**settings, random_state=0).fit(images, labels)
            for images, labels in ((X, y), (twice, np.tile(y, 2)))
        )
        assert one.loss_curve_ == other.loss_curve_


@pytest.fixture(scope="module")
def few(digits):
    """Digits of two classes, which are called 1 and 3."""
    X, y = digits
    rows = np.flatnonzero((y == 1) | (y == 3))
    return X[rows], y[rows]


def quick(**changes):
    return ProtoPNetClassifier(image_shape=(8, 8), **{**QUICK, **changes})


class TestObjects:
    def test_true_and_false_are_labels_as_objects_too(self, few):
        X, y = few
        clf = quick().fit(X, y == 3)
        coef = clf.coef_
        assert np.array_equal(clf.refit_last_layer(X, (y == 3).astype(object)).coef_, coef)
        clf = quick().fit(X, y)
        with pytest.raises(ValueError, match="y must hold classes of the training y only"):
            clf.refit_last_layer(X, np.array(["a", True] * (len(y) // 2), dtype=object))

    def test_text_of_any_length_is_known(self, few):
        X, y = few
        clf = quick().fit(X, y.astype(str))
        texts = y.astype(str).astype(np.dtypes.StringDType())
        coef = clf.coef_
        assert np.array_equal(clf.refit_last_layer(X, texts).coef_, coef)
        why = clf.explain(X[:1], classes=texts[:1])
        assert why["class"].unique().tolist() == [str(y[0])]

    def test_what_cannot_be_hashed_is_no_label(self, few):
        X, y = few
        labels = np.array([{}] * len(y), dtype=object)
        with pytest.raises(ValueError, match="y must hold labels, found: unhashable"):
            quick().fit(X, y).refit_last_layer(X, labels)

    def test_what_has_no_order_is_no_label(self, few):
        X, y = few
        labels = np.where(y == y[0], "b", None)
        with pytest.raises(ValueError, match="Labels in y must be of one kind, got some that have"):
            quick().fit(X, labels)


class TestFloats:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
    def test_floats_of_any_length_are_labels(self, few, dtype):
        X, y = few
        expected = quick().fit(X, y)
        clf = quick().fit(X, y.astype(dtype), X_val=X, y_val=y.astype(dtype))
        assert clf.classes_.dtype in (np.float32, np.float64)
        assert np.array_equal(clf.predict(X), expected.predict(X))
        assert clf.score(X, y.astype(dtype)) == expected.score(X, y)
        clf.refit_last_layer(X, y.astype(dtype))
        assert np.array_equal(clf.coef_, expected.coef_)


class TestByteOrder:
    """FITS, IDX and HDF5 files hold numbers in another byte order than most machines."""

    @pytest.mark.parametrize("dtype", ["i4", "f8", "U3"])
    def test_every_door_takes_labels_of_either_order(self, few, dtype, tmp_path):
        X, y = few
        swapped = y.astype(dtype).astype(np.dtype(dtype).newbyteorder("S"))
        assert not swapped.dtype.isnative
        plain = quick().fit(X, y.astype(dtype))
        clf = quick(early_stopping=True).fit(X, swapped, X_val=X, y_val=swapped)
        for fitted in (clf, quick().fit(X, swapped)):
            assert fitted.classes_.dtype == plain.classes_.dtype
            assert fitted.classes_.dtype.isnative
            assert fitted.prototype_classes_.dtype.isnative
        assert np.array_equal(fitted.coef_, plain.coef_)
        assert np.array_equal(fitted.predict(X), plain.predict(X))
        fitted.refit_last_layer(X, swapped)
        assert np.array_equal(fitted.coef_, plain.coef_)
        assert fitted.score(X, swapped) == plain.score(X, y.astype(dtype))
        named = fitted.explain(X[:2], classes=swapped[:1])
        assert named["class"].unique().tolist() == y[:1].astype(dtype).tolist()
        assert len(named.groupby("prototype_class").size()) == 2
        sources = fitted.prototype_table().merge(named, on=["prototype", "prototype_class"])
        assert len(sources) == len(named)
        path = last_layer_path(fitted, X, swapped, n_l1_weights=2)
        assert path.equals(last_layer_path(plain, X, y.astype(dtype), n_l1_weights=2))
        write_report(fitted, X[:3], tmp_path / "report.html", y=swapped[:3])


class TestText:
    @pytest.mark.parametrize("dtype", ["U9", object])
    def test_what_utf_8_cannot_hold_is_refused_with_its_row(self, few, dtype):
        X, y = few
        names = np.array(["one", "three"], dtype=dtype)[y // 2]
        row = np.flatnonzero(y == 3)[0]
        names[names == "three"] = "thr\udce9e"
        message = rf"Labels in y must be text that UTF-8 can hold, got 'thr\\udce9e' in row {row}"
        clf = quick()
        with pytest.raises(ValueError, match=message):
            clf.fit(X, names)
        assert not hasattr(clf, "classes_")

    @pytest.mark.parametrize("door", [explain, write_report, export_evidence])
    def test_so_is_that_in_an_index(self, fitted, digits, door, tmp_path):
        files = () if door is explain else (tmp_path / "evidence.csv",)
        frame = pd.DataFrame(digits[0][:2])
        indices = [
            pd.Index(["a", "\udce9"], dtype=object),
            pd.Index([(0, "a"), (0, "\udce9")], tupleize_cols=False),
        ]
        message = r"^The index of X must be text that UTF-8 can hold, got .*\\udce9.* in row 1\."
        for index in indices:
            for X in (frame.set_axis(index), pd.Series(list(digits[0][:2]), index=index)):
                with pytest.raises(ValueError, match=message):
                    door(fitted, X, *files)
        assert not list(tmp_path.iterdir())

    def test_so_is_that_in_names_of_columns(self, few):
        X, y = few
        names = pd.Index([*map(str, range(63)), "\udce9"], dtype=object)
        with pytest.raises(ValueError, match=r"^Names of columns in X must .* in column 63\."):
            quick().fit(pd.DataFrame(X, columns=names), y)

    def test_any_other_text_is_taken(self, few):
        X, y = few
        names = np.array(["né", "数字 \U0001f600"])[y // 2]
        assert set(quick().fit(X, names).predict(X)) <= set(names)


class TestMessages:
    def test_missing_labels_are_named_once(self, fitted, digits):
        X, _ = digits
        with pytest.raises(ValueError, match=r"y must hold classes of .*, got \[nan\]\.$"):
            fitted.refit_last_layer(X, np.full(len(X), np.nan))

    @pytest.mark.parametrize(
        "make",
        [
            lambda y: np.stack([y, y], 1),
            lambda y: [[1], *[[1, 2]] * (len(y) - 1)],
            lambda y: y + 1j,
            lambda y: 3,
        ],
    )
    def test_labels_of_another_shape_are_named_and_not_printed(self, fitted, digits, make):
        X, y = digits
        doors = {
            "y": lambda y: fitted.refit_last_layer(X, y),
            "y_val": lambda y: last_layer_path(fitted, X, digits[1], X_val=X, y_val=y),
        }
        for name, enter in doors.items():
            message = rf"^{name} must hold one label for each image, found: .+[^\n]$"
            with pytest.raises(ValueError, match=message):
                enter(make(y))

    def test_many_unknown_labels_are_not_printed(self, fitted, digits):
        X, _ = digits
        message = r"got \[100, .*, 109, \.\.\.\] \(300 in all\)\.$"
        with pytest.raises(ValueError, match=message) as caught:
            fitted.refit_last_layer(X, np.arange(100, 400))
        assert len(str(caught.value)) < 300


class TestWeightsOfAnySize:
    """Numbers at either end of their range weigh like any other."""

    @pytest.mark.parametrize("factor", [2.0**1022, 2.0**-1070])
    def test_what_all_weights_are_multiplied_by_changes_no_bit(self, few, factor):
        X, y = few
        weights = np.arange(len(y)) % 3 + 1.0
        plain = quick().fit(X, y, weights)
        clf = quick().fit(
            X, y, factor * weights, X_val=X, y_val=y, sample_weight_val=factor * weights
        )
        assert np.array_equal(clf.coef_, plain.coef_)
        assert clf.history_[-1]["validation_accuracy"] == pytest.approx(plain.score(X, y, weights))
        clf.refit_last_layer(X, y, sample_weight=factor * weights)
        assert np.array_equal(clf.coef_, plain.coef_)

    def test_so_do_weights_of_classes(self, few):
        X, y = few
        plain = quick(class_weight={1: 1.0, 3: 2.0}).fit(X, y)
        for factor in (2.0**1022, 2.0**-1070):
            clf = quick(class_weight={1: factor, 3: 2 * factor}).fit(X, y, np.full(len(y), factor))
            assert np.array_equal(clf.coef_, plain.coef_)

    def test_a_huge_weight_beside_a_tiny_one_leaves_both(self):
        found = effective_weights([1e308, 1e-15, 1e308, 1.0], {"b": 1e-300}, CLASSES, LABELS)
        assert (found > 0).tolist() == [True, True, True, False]  # 1e-608 of the largest
        assert found[1] / found[0] == pytest.approx(1e-323, rel=0.2)
        balanced = effective_weights([1e308, 1e308, 1e308, 1e308], "balanced", CLASSES, LABELS)
        assert balanced[3] / balanced[0] == pytest.approx(3)
